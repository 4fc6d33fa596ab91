-- Puts the request of a dead letter on the stream again.
-- KEYS   1 coupon-requests:dead (stream)
--        2 coupon-requests (stream)
--        3 coupon (hash)
--        4 pending (hash)
-- ARGV   1 id of the dead letter
--        2 couponId
--        3 userId
--        4 requestId
--        5 id of the entry that became the dead letter
-- Returns {retried, id of the new entry}, or, with nothing changed, {unknown_dead_letter} |
--   {unknown_coupon} | {not_pending} (decided, withdrawn, or never admitted)
-- Replay: the dead letter is gone by then, so nothing is added twice.
local dead, requests, coupon, pending = unpack(KEYS)
local dead_id, coupon_id, user_id, request_id, entry_id = unpack(ARGV)

if #redis.call('XRANGE', dead, dead_id, dead_id) == 0 then
  return from_primary(coupon, {'unknown_dead_letter'})
end
local quantity, deleted_at = unpack(redis.call('HMGET', coupon, 'quantity', 'deletedAt'))
if deleted_at or not quantity then
  return from_primary(coupon, {'unknown_coupon'})
end
if redis.call('HGET', pending, user_id) ~= request_id .. ' ' .. entry_id then
  return from_primary(coupon, {'not_pending'})
end

-- XADD is the first write because it is the one that a server may refuse: nothing is half done.
local again = redis.call('XADD', requests, '*', 'couponId', coupon_id, 'userId', user_id,
  'requestId', request_id)
redis.call('HSET', pending, user_id, request_id .. ' ' .. again)
redis.call('XDEL', dead, dead_id)
return {'retried', again}
