-- Puts an admitted request on the stream again, whose entry was lost.
-- KEYS   1 pending (hash)  2 coupon-requests (stream)
-- ARGV   1 couponId  2 userId  3 requestId
-- Returns 1 if the request is on the stream again, 0 if it was decided meanwhile
-- Replay: a second entry of one request is decided as the first one was, see issue.lua.
local pending, requests = KEYS[1], KEYS[2]
local coupon_id, user_id, request_id = unpack(ARGV)

local held = redis.call('HGET', pending, user_id)
if not held or string.match(held, '^%S+') ~= request_id then
  return 0
end
local entry_id = redis.call('XADD', requests, '*', 'couponId', coupon_id, 'userId', user_id,
  'requestId', request_id)
redis.call('HSET', pending, user_id, request_id .. ' ' .. entry_id)
return 1
