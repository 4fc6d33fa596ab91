-- Deletes a coupon: from now on it is unknown, and due to be removed by remove.lua.
-- KEYS   1 coupon (hash)
--        2 pending (hash)
--        3 issuances (stream)
--        4 coupons (sorted set)
--        5 coupons:removals (sorted set)
--        6 coupon-log (stream)
-- ARGV   1 couponId
-- Returns {deleted, issued, pending} (how many of each) | {unknown_coupon}
-- Replay: the second time the coupon is unknown.
local coupon, pending, issuances, coupons, removals, log = unpack(KEYS)
local coupon_id = ARGV[1]

local quantity, deleted_at = unpack(redis.call('HMGET', coupon, 'quantity', 'deletedAt'))
if deleted_at or not quantity then
  return {'unknown_coupon'}
end
local issued, waiting = redis.call('XLEN', issuances), redis.call('HLEN', pending)
check_coupons(coupons)
redis.call('ZCARD', removals) -- raises if it is not a sorted set
check_log(log)
local now = text(now_ms())

redis.call('ZREM', coupons, coupon_id)
redis.call('ZADD', removals, now, coupon_id)
redis.call('HSET', coupon, 'deletedAt', now)
redis.call('XADD', log, '*', 'couponId', coupon_id, 'decision', 'deleted', 'issued', issued,
  'pending', waiting)
return {'deleted', issued, waiting}
