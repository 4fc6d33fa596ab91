#!/bin/sh
# Requests a coupon and waits for the decision.
# Usage: curl.sh <URL of the API> <couponId> <userId>
set -eu
api=$1
escape() { printf %s "$1" | sed 's/["\\]/\\&/g'; }
coupon=$(escape "$2") user=$(escape "$3")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The key makes the retries safe: the same request is accepted once.
key=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
code=$(curl --silent --show-error --retry 5 --retry-connrefused --max-time 5 \
  --output "$folder/answer" --dump-header "$folder/head" --write-out '%{http_code}' \
  --header 'Content-Type: application/json' --header "Idempotency-Key: $key" \
  --data "{\"couponId\": \"$coupon\", \"userId\": \"$user\"}" "$api/api/coupons/request")
if [ "$code" != 200 ]; then
  cat "$folder/answer" >&2
  exit 1
fi
path=$(sed -n 's/^[Ll]ocation: *\([^[:cntrl:]]*\).*/\1/p' "$folder/head")
while grep -q '"status":"pending"' "$folder/answer"; do
  sleep "$(sed 's/.*"pollAfterMs":\([0-9]*\).*/\1/' "$folder/answer" | awk '{ print $1 / 1000 }')"
  curl --silent --show-error --fail --retry 5 --max-time 5 --output "$folder/answer" "$api$path"
done
cat "$folder/answer"
