-- Decides one entry of the request stream: issues the coupon, or refuses it.
-- KEYS   1 stock  2 issuance mark of the user  3 requested  4 pending (hash)  5 coupon (hash)
--        6 coupon-requests (stream)  7 coupon-log (stream)  8 issuances (stream)
-- ARGV   1 couponId  2 userId  3 requestId (the entry id if the producer gave none)
--        4 entry id  5 group  6 retention after expiresAt (ms)
-- Returns {verdict, decision}: 0 no stock, 1 issued, 2 the user has one already
-- Replay: an issued requestId is recognised by the mark and issued no second time; an entry
--   that is gone from the stream was decided before. Neither is counted or logged again.
local stock, user, requested, pending = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local coupon, requests, log, issuances = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local coupon_id, user_id, request_id, entry_id, group, retention = unpack(ARGV)
local function whole(value)
  -- Only what INCR and DECR accept as well: not '010', '1e3' or 'nan'.
  local number = string.match(value, '^%-?%d+$') and tonumber(value)
  return number and string.format('%.0f', number) == value and number
end
local decisions = {[0] = 'sold_out', [1] = 'issued', [2] = 'duplicate'}

local left = whole(redis.call('GET', stock) or '0')
local taken = whole(redis.call('GET', requested) or '0')
local declared, expires_at = unpack(redis.call('HMGET', coupon, 'quantity', 'expiresAt'))
local quantity = whole(declared or '0')
if not left or not taken or not quantity then
  return redis.error_reply('CORRUPT stock, requested or quantity is not a number')
end
local mark = redis.call('GET', user)
local held = redis.call('HGET', pending, user_id)
local admitted = held and string.match(held, '^%S+') == request_id
redis.call('XLEN', issuances) -- raises, before anything is written, if it is not a stream
-- Looked at before anything is written. It concerns all coupons, so it is no fault of the entry.
local kind = redis.call('TYPE', log).ok
if kind ~= 'stream' and kind ~= 'none' then
  return redis.error_reply('MISPLACED the log is not a stream')
end

-- XACK is the first write because a server that is out of memory still allows it, and what
-- follows it: admitted requests are decided even then.
redis.call('XACK', requests, group, entry_id)
local undecided = redis.call('XDEL', requests, entry_id) == 1
if mark and string.match(mark, '^%S+') == request_id then
  return {1, decisions[1]}
end
if not declared then
  decisions[0] = 'unknown_coupon'
end
if not undecided and not admitted then
  local verdict = (mark or held) and 2 or 0
  return {verdict, decisions[verdict]}
end

local verdict = 1
if left <= 0 then
  verdict = 0
elseif mark or (held and not admitted) then
  verdict = 2
elseif not admitted and taken >= quantity then
  -- All that is left belongs to those who were admitted first.
  verdict = 0
end

local log_id = redis.call('XADD', log, '*', 'couponId', coupon_id, 'userId', user_id,
  'requestId', request_id, 'decision', decisions[verdict], 'entryId', entry_id)
if verdict == 1 then
  redis.call('SETNX', user, request_id .. ' ' .. log_id)
  redis.call('DECR', stock)
  redis.call('XADD', issuances, log_id, 'userId', user_id)
  if expires_at then
    local vanishes_at = string.format('%.0f', expires_at + retention)
    redis.call('PEXPIREAT', user, vanishes_at)
    redis.call('PEXPIREAT', issuances, vanishes_at)
  end
elseif quantity > 0 then
  redis.call('HINCRBY', coupon, decisions[verdict], 1)
end
if admitted then
  redis.call('HDEL', pending, user_id)
end
-- requested == issued + pending, for entries of every producer.
if admitted and verdict ~= 1 then
  redis.call('DECR', requested)
elseif verdict == 1 and not admitted then
  redis.call('INCR', requested)
end
return {verdict, decisions[verdict]}
