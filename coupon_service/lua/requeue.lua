-- Puts an admitted request on the stream again, whose entry was lost.
-- KEYS   1 coupon (hash)
--        2 pending (hash)
--        3 coupon-requests (stream)
-- ARGV   1 couponId
--        2 userId
--        3 requestId
-- Returns 1 if the request is on the stream again, 0 if it was decided meanwhile
-- Replay: a second entry of one request is decided as the first one was, see issue.lua.
local coupon, pending, requests = unpack(KEYS)
local coupon_id, user_id, request_id = unpack(ARGV)

if redis.call('HEXISTS', coupon, 'deletedAt') == 1
    or parts(redis.call('HGET', pending, user_id)) ~= request_id then
  return 0
end
local entry_id = redis.call('XADD', requests, '*', 'couponId', coupon_id, 'userId', user_id,
  'requestId', request_id)
redis.call('HSET', pending, user_id, request_id .. ' ' .. entry_id)
return 1
