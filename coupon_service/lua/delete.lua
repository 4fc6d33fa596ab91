-- Ends a coupon: its pending requests are refused, all its keys are removed.
-- KEYS   1 coupon (hash)  2 stock  3 requested  4 pending (hash)  5 issuances (stream)
--        6 coupons (set)  7 coupon-requests (stream)  8 coupon-log (stream)
-- ARGV   1 couponId  2 start of the keys of its issuance marks  3 group
-- Returns {deleted, issued, refused} (how many of each) | {unknown_coupon}
-- Replay: the second time the coupon is unknown.
local coupon, stock, requested, pending = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local issuances, coupons, requests, log = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local coupon_id, marks, group = unpack(ARGV)

if redis.call('EXISTS', coupon) == 0 then
  return {'unknown_coupon'}
end
local waiting = redis.call('HGETALL', pending)
local issued = redis.call('XRANGE', issuances, '-', '+')
for index = 1, #waiting, 2 do
  local request_id, entry_id = string.match(waiting[index + 1], '^(%S+) ?(%S*)$')
  redis.call('XADD', log, '*', 'couponId', coupon_id, 'userId', waiting[index],
    'requestId', request_id, 'decision', 'unknown_coupon', 'entryId', entry_id)
  redis.call('XACK', requests, group, entry_id)
  redis.call('XDEL', requests, entry_id)
end
for _, entry in ipairs(issued) do
  redis.call('DEL', marks .. entry[2][2])
end
redis.call('SREM', coupons, coupon_id)
redis.call('DEL', coupon, stock, requested, pending, issuances)
return {'deleted', #issued, #waiting / 2}
