-- Takes a coupon that has vanished by its expiry out of the set of coupons.
-- KEYS   1 coupons (set)  2 coupon (hash)
-- ARGV   1 couponId
-- Returns 1 if it was taken out, 0 if it was not there or is registered
-- Replay: the second time it is not there.
local coupons, coupon = KEYS[1], KEYS[2]

if redis.call('EXISTS', coupon) == 1 then
  return 0 -- registered again meanwhile
end
return redis.call('SREM', coupons, ARGV[1])
