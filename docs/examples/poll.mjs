// Usage: node poll.mjs <URL of the API> <couponId> <userId> [token]
import { requestCoupon } from "./coupon.mjs";

const request = await requestCoupon(...process.argv.slice(2));
console.log(request.code ?? request.status);
process.exitCode = request.code ? 1 : 0;
