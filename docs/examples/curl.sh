#!/bin/sh
# Requests a coupon and waits for the decision.
# Usage: curl.sh <URL of the API> <couponId> <userId>
set -eu
api=$1 coupon=$2 user=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The key makes the retries safe: the same request is accepted once.
code=$(curl --silent --show-error --retry 5 --retry-connrefused --max-time 5 \
  --output "$folder/answer" --dump-header "$folder/head" --write-out '%{http_code}' \
  --header 'Content-Type: application/json' --header "Idempotency-Key: curl-$coupon-$user" \
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
