-- Admits requests for one coupon, in order: each takes a place and enters the stream, or is told
-- why not.
-- KEYS   1 coupon (hash)  2 requested  3 pending (hash)  4 coupon-requests (stream)
--        5.. issuance mark of each user
-- ARGV   1 couponId  2 retention after expiresAt (ms)  3.. userId, requestId of each request
-- Returns for each {status, ...}: {accepted} | {duplicate, pending|issued, requestId that holds
--   the place} | {not_open, opensAt (ms), ms until then} | {closed} | {sold_out} |
--   {unknown_coupon}
-- Replay: the requestId is kept in the pending mark, then in the issuance mark; whoever
--   repeats it is answered "accepted" again and takes no second place.
local coupon, requested, pending, requests = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local coupon_id, retention = ARGV[1], ARGV[2]
local users, request_ids = {}, {}
for row = 1, #KEYS - 4 do
  users[row], request_ids[row] = ARGV[1 + 2 * row], ARGV[2 + 2 * row]
end

local quantity, opens_at, closes_at, expires_at =
  unpack(redis.call('HMGET', coupon, 'quantity', 'opensAt', 'closesAt', 'expiresAt'))
local taken = redis.call('GET', requested) or ''
if quantity and
    (not string.match(taken, '^%d+$') or string.format('%.0f', tonumber(taken)) ~= taken) then
  return redis.error_reply('CORRUPT requested is not a number')
end
quantity, taken = tonumber(quantity), tonumber(taken)

-- Why nobody new is admitted now, if that is so.
local refusal
if not quantity then
  refusal = {'unknown_coupon'}
elseif opens_at or closes_at or expires_at then
  -- The server's clock, so that all web machines agree.
  local now = redis.call('TIME')
  local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
  if opens_at and now_ms < tonumber(opens_at) then
    refusal = {'not_open', opens_at, string.format('%.0f', opens_at - now_ms)}
  elseif now_ms >= tonumber(closes_at or expires_at or math.huge) then
    refusal = {'closed'}
  end
end

local issued, waiting = redis.call('MGET', unpack(KEYS, 5)), {}
for row, mark in ipairs(redis.call('HMGET', pending, unpack(users))) do
  waiting[users[row]] = mark or nil
end
local function decide(user_id, request_id, mark)
  -- Both marks begin with the requestId.
  local holder = string.match(mark or waiting[user_id] or '', '^%S+')
  if not quantity then
    return refusal
  elseif holder == request_id then
    return {'accepted'}
  elseif holder then
    return {'duplicate', mark and 'issued' or 'pending', holder}
  elseif refusal then
    return refusal
  elseif taken >= quantity then
    -- The quantity is fixed while the stock falls as the worker issues: comparing the places
    -- taken with the stock would refuse people while coupons are left.
    return {'sold_out'}
  end
  -- XADD first: it is the one write here that can be refused, and nothing may be half done.
  local entry_id = redis.call('XADD', requests, '*', 'couponId', coupon_id, 'userId', user_id,
    'requestId', request_id)
  redis.call('INCR', requested)
  taken = taken + 1
  waiting[user_id] = request_id .. ' ' .. entry_id
  redis.call('HSET', pending, user_id, waiting[user_id])
  return {'accepted'}
end

local replies, counts, before = {}, {}, taken
for row, user_id in ipairs(users) do
  local reply = decide(user_id, request_ids[row], issued[row])
  replies[row] = reply
  counts[reply[1]] = (counts[reply[1]] or 0) + 1
end
if expires_at and taken > before then
  redis.call('PEXPIREAT', pending, string.format('%.0f', expires_at + retention))
end
for _, reason in ipairs({'duplicate', 'sold_out', 'not_open', 'closed'}) do
  if counts[reason] then
    redis.call('HINCRBY', coupon, reason, counts[reason])
  end
end
return replies
