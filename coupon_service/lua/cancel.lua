-- Cancels a user's issuance, or withdraws the pending request: the place and the stock return.
-- KEYS   1 stock
--        2 issuance mark of the user
--        3 requested
--        4 pending (hash)
--        5 coupon-requests (stream)
--        6 coupon-log (stream)
--        7 issuances (stream)
--        8 coupon (hash)
--        9 series (hash)
-- ARGV   1 couponId
--        2 userId
--        3 group
--        4 requestId that is meant; '' for whichever the user has
-- Returns {cancelled, pending|issued, requestId} | {not_requested} | {unknown_coupon}
-- Replay: the marks are gone by then, so nothing is returned twice; with the requestId that is
--   meant, a later request of the user is left alone.
local stock, user, requested, pending = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local requests, log, issuances, coupon, series = unpack(KEYS, 5, 9)
local coupon_id, user_id, group, meant = unpack(ARGV)

local quantity, deleted_at = unpack(redis.call('HMGET', coupon, 'quantity', 'deletedAt'))
if deleted_at or not quantity then
  return from_primary(coupon, {'unknown_coupon'})
end
local mark = redis.call('GET', user)
local request_id, id = parts(mark or redis.call('HGET', pending, user_id))
if not request_id or meant ~= '' and meant ~= request_id then
  return from_primary(coupon, {'not_requested'})
end
local left = whole(redis.call('GET', stock), 'stock')
local taken = whole(redis.call('GET', requested), 'requested')
if not (left and taken) then
  error('CORRUPT stock or requested is lost', 0)
end
redis.call('XLEN', issuances)
redis.call('XLEN', requests) -- each raises if it is not a stream
if mark and id ~= '' and #redis.call('XRANGE', issuances, id, id) == 0 then
  error('CORRUPT the issuance mark is of no issuance', 0)
end
check_log(log)

-- DEL or HDEL is the first write: a server out of memory still allows it, and what follows it.
if mark then
  redis.call('DEL', user)
  redis.call('INCR', stock)
  count(series, -1, 0)
  if id ~= '' then
    redis.call('XDEL', issuances, id)
  end
else
  redis.call('HDEL', pending, user_id)
  if id ~= '' then
    redis.call('XACK', requests, group, id)
    redis.call('XDEL', requests, id)
  end
end
redis.call('DECR', requested)
redis.call('XADD', log, '*', 'couponId', coupon_id, 'userId', user_id, 'requestId', request_id,
  'decision', mark and 'cancelled' or 'withdrawn', 'entryId', id)
return {'cancelled', mark and 'issued' or 'pending', request_id}
