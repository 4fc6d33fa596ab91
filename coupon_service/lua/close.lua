-- Closes a coupon now, unless it closes earlier anyway.
-- KEYS   1 coupon (hash)
-- Returns {closed, closesAt (ms)} | {unknown_coupon}
-- ARGV   none
-- Replay: the second time it is closed already.
local coupon = KEYS[1]

local quantity, opens_at, closes_at, expires_at =
  unpack(redis.call('HMGET', coupon, 'quantity', 'opensAt', 'closesAt', 'expiresAt'))
if not quantity then
  return {'unknown_coupon'}
end
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local closes = math.min(now_ms, tonumber(closes_at or now_ms), tonumber(expires_at or now_ms))
redis.call('HSET', coupon, 'closesAt', string.format('%.0f', closes))
if opens_at and tonumber(opens_at) >= closes then
  redis.call('HDEL', coupon, 'opensAt') -- opensAt < closesAt: it never opens any more
end
return {'closed', string.format('%.0f', closes)}
