-- Admits a request: takes a place and enters the stream, or says why not.
-- KEYS   1 coupon (hash)  2 requested  3 issuance mark of the user  4 pending (hash)
--        5 coupon-requests (stream)
-- ARGV   1 couponId  2 userId  3 requestId  4 retention after expiresAt (ms)
-- Returns {status, ...}: {accepted} | {duplicate, pending|issued, requestId that holds the
--   place} | {not_open, opensAt (ms), ms until then} | {closed} | {sold_out} | {unknown_coupon}
-- Replay: the requestId is kept in the pending mark, then in the issuance mark; whoever
--   repeats it is answered "accepted" again and takes no second place.
local coupon, requested, user, pending, requests = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local coupon_id, user_id, request_id, retention = unpack(ARGV)

local quantity, opens_at, closes_at, expires_at =
  unpack(redis.call('HMGET', coupon, 'quantity', 'opensAt', 'closesAt', 'expiresAt'))
if not quantity then
  return {'unknown_coupon'}
end
local taken = redis.call('GET', requested) or ''
if not string.match(taken, '^%d+$') or string.format('%.0f', tonumber(taken)) ~= taken then
  return redis.error_reply('CORRUPT requested is not a number')
end

-- Both marks begin with the requestId.
local mark = redis.call('GET', user)
local held = mark or redis.call('HGET', pending, user_id)
local holder = held and string.match(held, '^%S+')
if holder == request_id then
  return {'accepted'}
end
if holder then
  redis.call('HINCRBY', coupon, 'duplicate', 1)
  return {'duplicate', mark and 'issued' or 'pending', holder}
end
if opens_at or closes_at or expires_at then
  -- The server's clock, so that all web machines agree.
  local now = redis.call('TIME')
  local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
  if opens_at and now_ms < tonumber(opens_at) then
    redis.call('HINCRBY', coupon, 'not_open', 1)
    return {'not_open', opens_at, string.format('%.0f', opens_at - now_ms)}
  end
  if now_ms >= tonumber(closes_at or expires_at or math.huge) then
    redis.call('HINCRBY', coupon, 'closed', 1)
    return {'closed'}
  end
end
-- The quantity is fixed while the stock falls as the worker issues: comparing the places
-- taken with the stock would refuse people while coupons are left.
if tonumber(taken) >= tonumber(quantity) then
  redis.call('HINCRBY', coupon, 'sold_out', 1)
  return {'sold_out'}
end
-- XADD first: it is the one write here that can be refused, and nothing may be half done.
local entry_id = redis.call('XADD', requests, '*', 'couponId', coupon_id, 'userId', user_id,
  'requestId', request_id)
redis.call('INCR', requested)
redis.call('HSET', pending, user_id, request_id .. ' ' .. entry_id)
if expires_at then
  redis.call('PEXPIREAT', pending, string.format('%.0f', expires_at + retention))
end
return {'accepted'}
