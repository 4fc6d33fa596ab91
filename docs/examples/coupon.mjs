// Requests a coupon and waits for the decision; for browsers and Node.js.

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A broken connection and a 503 are tried again: the key makes that safe.
async function send(url, options, tries = 5) {
  for (let wait = 100; ; wait *= 2) {
    const answer = await fetch(url, options).catch((error) => error);
    if (!(answer instanceof Error) && answer.status !== 503) return answer;
    if (--tries === 0) throw answer instanceof Error ? answer : new Error("unavailable");
    await pause(wait);
  }
}

// Returns the status of the request, or {code} of a refusal. `token`: where users have tokens.
export async function requestCoupon(api, couponId, userId, token) {
  const authorization = token ? { Authorization: `Bearer ${token}` } : {};
  const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16));
  let answer = await send(`${api}/api/coupons/request`, {
    method: "POST",
    headers: {
      "Content-Type": "application/json", "Idempotency-Key": key.join(""), ...authorization,
    },
    body: JSON.stringify({ couponId, userId }),
  });
  const location = api + answer.headers.get("Location");
  let request = await answer.json();
  while (request.status === "pending") {
    await pause(request.pollAfterMs);
    answer = await send(location, { headers: authorization });
    request = await answer.json();
  }
  return request;
}
