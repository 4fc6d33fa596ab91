-- Closes a coupon now, unless it closes earlier anyway.
-- KEYS   1 coupon (hash)
--        2 coupon-log (stream)
-- ARGV   1 couponId
-- Returns {closed, closesAt (ms)} | {unknown_coupon}
-- Replay: the second time it is closed already.
local coupon, log = unpack(KEYS)

local stored = redis.call('HMGET', coupon, 'quantity', 'deletedAt', 'opensAt', 'closesAt',
  'expiresAt')
if stored[2] or not stored[1] then
  return from_primary(coupon, {'unknown_coupon'})
end
local now, opens_at = now_ms(), whole(stored[3], 'opensAt')
local closes_at = math.min(now, whole(stored[4] or stored[5], 'closesAt') or now)
check_log(log)

-- HDEL is the first write: a server out of memory still allows it, and what follows it.
redis.call('HDEL', coupon, 'closesAt')
redis.call('HSET', coupon, 'closesAt', text(closes_at))
if opens_at and opens_at >= closes_at then
  redis.call('HDEL', coupon, 'opensAt') -- opensAt < closesAt: it never opens any more
end
if stored[4] ~= text(closes_at) then
  redis.call('XADD', log, '*', 'couponId', ARGV[1], 'decision', 'closed', 'closesAt',
    text(closes_at))
end
return {'closed', text(closes_at)}
