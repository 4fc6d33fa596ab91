-- Admits a request: takes a place and enters the stream, or says why not.
-- KEYS   1 coupon (hash)  2 requested  3 issuance mark of the user  4 pending (hash)
--        5 coupon-requests (stream)
-- ARGV   1 couponId  2 userId  3 requestId
-- Returns {status, ...}: {accepted} | {duplicate, pending|issued, requestId that holds the
--   place} | {sold_out} | {unknown_coupon}
-- Replay: the requestId is kept in the pending mark, then in the issuance mark; whoever
--   repeats it is answered "accepted" again and takes no second place.
local coupon, requested, user, pending, requests = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local coupon_id, user_id, request_id = ARGV[1], ARGV[2], ARGV[3]

local quantity = tonumber(redis.call('HGET', coupon, 'quantity'))
if not quantity then
  return {'unknown_coupon'}
end
local taken = redis.call('GET', requested) or ''
if not string.match(taken, '^%d+$') or string.format('%.0f', tonumber(taken)) ~= taken then
  return redis.error_reply('CORRUPT requested is not a number')
end

local mark = redis.call('GET', user)
local holder = mark and string.match(mark, '^%S+') or redis.call('HGET', pending, user_id)
if holder == request_id then
  return {'accepted'}
end
if holder then
  redis.call('HINCRBY', coupon, 'duplicate', 1)
  return {'duplicate', mark and 'issued' or 'pending', holder}
end
-- The quantity is fixed while the stock falls as the worker issues: comparing the places
-- taken with the stock would refuse people while coupons are left.
if tonumber(taken) >= quantity then
  redis.call('HINCRBY', coupon, 'sold_out', 1)
  return {'sold_out'}
end
-- XADD first: it is the one write here that can be refused, and nothing may be half done.
redis.call('XADD', requests, '*', 'couponId', coupon_id, 'userId', user_id, 'requestId', request_id)
redis.call('INCR', requested)
redis.call('HSET', pending, user_id, request_id)
return {'accepted'}
