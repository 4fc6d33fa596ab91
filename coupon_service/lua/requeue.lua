-- Puts an admitted request on the stream again, whose entry no worker will read any more.
-- KEYS   1 coupon (hash)
--        2 pending (hash)
--        3 coupon-requests (stream)
-- ARGV   1 couponId
--        2 userId
--        3 pending mark of the user
--        4 group
-- Returns 1 if the request is on the stream again, 0 if it was decided meanwhile
-- Replay: the mark names the new entry by then, so nothing is added twice.
local coupon, pending, requests = unpack(KEYS)
local coupon_id, user_id, mark, group = unpack(ARGV)

local request_id, lost_id = parts(mark)
if redis.call('HEXISTS', coupon, 'deletedAt') == 1
    or redis.call('HGET', pending, user_id) ~= mark then
  return 0
end
local entry_id = redis.call('XADD', requests, '*', 'couponId', coupon_id, 'userId', user_id,
  'requestId', request_id)
redis.call('HSET', pending, user_id, request_id .. ' ' .. entry_id)
if lost_id ~= '' then
  redis.call('XACK', requests, group, lost_id)
  redis.call('XDEL', requests, lost_id)
end
return 1
