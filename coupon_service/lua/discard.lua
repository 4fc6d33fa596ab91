-- Discards a dead letter; the request, if it is still pending, is refused and its place returns.
-- KEYS   1 coupon-requests:dead (stream)
--        2 coupon (hash)
--        3 requested
--        4 pending (hash)
--        5 coupon-log (stream)
-- ARGV   1 id of the dead letter
--        2 couponId
--        3 userId
--        4 requestId
--        5 id of the entry that became the dead letter
-- Returns {discarded, 1 if a place has returned, else 0} | {unknown_dead_letter}
-- Replay: the dead letter is gone by then, so no place returns twice.
local dead, coupon, requested, pending, log = unpack(KEYS)
local dead_id, coupon_id, user_id, request_id, entry_id = unpack(ARGV)

if #redis.call('XRANGE', dead, dead_id, dead_id) == 0 then
  return from_primary(coupon, {'unknown_dead_letter'})
end
local waiting = redis.call('HGET', pending, user_id) == request_id .. ' ' .. entry_id
  and redis.call('HEXISTS', coupon, 'deletedAt') == 0
if waiting and not whole(redis.call('GET', requested), 'requested') then
  error('CORRUPT requested is lost', 0)
end
check_log(log)

-- XDEL is the first write: a server out of memory still allows it, and what follows it.
redis.call('XDEL', dead, dead_id)
if not waiting then
  return {'discarded', 0}
end
redis.call('HDEL', pending, user_id)
redis.call('DECR', requested)
redis.call('XADD', log, '*', 'couponId', coupon_id, 'userId', user_id, 'requestId', request_id,
  'decision', 'discarded', 'entryId', entry_id)
return {'discarded', 1}
