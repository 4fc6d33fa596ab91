-- Decides entries of the request stream that ask for one coupon, in order: issues it to each, or
-- refuses it.
-- KEYS   1 stock  2 requested  3 pending (hash)  4 coupon (hash)  5 coupon-requests (stream)
--        6 coupon-log (stream)  7 issuances (stream)  8.. issuance mark of each user
-- ARGV   1 couponId  2 group  3 retention after expiresAt (ms)
--        4.. userId, requestId (the entry id if the producer gave none), entry id of each entry
-- Returns for each {verdict, decision}: 0 no stock, 1 issued, 2 the user has one already
-- Replay: an issued requestId is recognised by the mark and issued no second time; an entry
--   that is gone from the stream was decided before. Neither is counted or logged again.
local stock, requested, pending, coupon = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local requests, log, issuances = KEYS[5], KEYS[6], KEYS[7]
local coupon_id, group, retention = ARGV[1], ARGV[2], ARGV[3]
local users, request_ids, entry_ids = {}, {}, {}
for row = 1, #KEYS - 7 do
  users[row], request_ids[row], entry_ids[row] = ARGV[1 + 3 * row], ARGV[2 + 3 * row],
    ARGV[3 + 3 * row]
end
local function whole(value)
  -- Only what INCR and DECR accept as well: not '010', '1e3' or 'nan'.
  local number = string.match(value, '^%-?%d+$') and tonumber(value)
  return number and string.format('%.0f', number) == value and number
end
local function first_word(mark)
  return mark and string.match(mark, '^%S+')
end

local left = whole(redis.call('GET', stock) or '0')
local taken = whole(redis.call('GET', requested) or '0')
local declared, expires_at = unpack(redis.call('HMGET', coupon, 'quantity', 'expiresAt'))
local quantity = whole(declared or '0')
if not left or not taken or not quantity then
  return redis.error_reply('CORRUPT stock, requested or quantity is not a number')
end
-- By user: the requestId in the issuance mark, and that in the pending mark.
local issued, waiting = {}, {}
for row, mark in ipairs(redis.call('HMGET', pending, unpack(users))) do
  waiting[users[row]] = first_word(mark)
  issued[users[row]] = first_word(redis.call('GET', KEYS[7 + row]))
end
redis.call('XLEN', issuances) -- raises, before anything is written, if it is not a stream
-- Looked at before anything is written. It concerns all coupons, so it is no fault of the entry.
local kind = redis.call('TYPE', log).ok
if kind ~= 'stream' and kind ~= 'none' then
  return redis.error_reply('MISPLACED the log is not a stream')
end

-- XACK is the first write because a server that is out of memory still allows it, and what
-- follows it: admitted requests are decided even then.
redis.call('XACK', requests, group, unpack(entry_ids))
local words = {[0] = declared and 'sold_out' or 'unknown_coupon', [1] = 'issued', [2] = 'duplicate'}
local vanishes_at = expires_at and string.format('%.0f', expires_at + retention)

-- What all entries have in common is written once, at the end.
local decided, refused, taken_before, granted = {}, {}, taken, 0

local function decide(row, user_id)
  local mark_key, request_id, entry_id = KEYS[7 + row], request_ids[row], entry_ids[row]
  local undecided = redis.call('XDEL', requests, entry_id) == 1
  local admitted = waiting[user_id] == request_id
  if issued[user_id] == request_id then
    return 1
  elseif not undecided and not admitted then
    return (issued[user_id] or waiting[user_id]) and 2 or 0
  end
  local verdict = 1
  if left <= 0 then
    verdict = 0
  elseif issued[user_id] or (waiting[user_id] and not admitted) then
    verdict = 2
  elseif not admitted and taken >= quantity then
    -- All that is left belongs to those who were admitted first.
    verdict = 0
  end

  local log_id = redis.call('XADD', log, '*', 'couponId', coupon_id, 'userId', user_id,
    'requestId', request_id, 'decision', words[verdict], 'entryId', entry_id)
  if verdict == 1 then
    redis.call('SETNX', mark_key, request_id .. ' ' .. log_id)
    redis.call('XADD', issuances, log_id, 'userId', user_id)
    if vanishes_at then
      redis.call('PEXPIREAT', mark_key, vanishes_at)
    end
    left, granted, issued[user_id] = left - 1, granted + 1, request_id
  else
    refused[verdict] = (refused[verdict] or 0) + 1
  end
  if admitted then
    decided[#decided + 1], waiting[user_id] = user_id, nil
  end
  -- requested == issued + pending, for entries of every producer.
  taken = taken + (verdict == 1 and 1 or 0) - (admitted and 1 or 0)
  return verdict
end

local decisions = {}
for row, user_id in ipairs(users) do
  local verdict = decide(row, user_id)
  decisions[row] = {verdict, words[verdict]}
end
if #decided > 0 then
  redis.call('HDEL', pending, unpack(decided))
end
if granted > 0 then
  redis.call('DECRBY', stock, granted)
end
if taken ~= taken_before then
  redis.call('INCRBY', requested, string.format('%.0f', taken - taken_before))
end
for verdict, count in pairs(refused) do
  if quantity > 0 then
    redis.call('HINCRBY', coupon, words[verdict], count)
  end
end
if vanishes_at then
  redis.call('PEXPIREAT', issuances, vanishes_at)
end
return decisions
