-- Admits requests for one coupon, in order: each takes a place and enters the stream, or is
-- refused.
-- KEYS   1 coupon (hash)
--        2 requested
--        3 pending (hash)
--        4 coupon-requests (stream)
--        5.. issuance mark of each user
-- ARGV   1 couponId
--        2.. userId, requestId of each request
-- Returns for each {status, ...}: {accepted} | {duplicate, pending|issued, requestId that holds
--   the place} | {not_open, opensAt (ms), ms until then} | {closed} | {sold_out} |
--   {unknown_coupon}
-- Replay: the requestId is kept in the pending mark, then in the issuance mark; its repetition
--   is answered "accepted" again and takes no second place. It writes the mark again, because WAIT
--   speaks for the writes of its own connection alone.
local coupon, requested, pending, requests = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local coupon_id = ARGV[1]
local users, request_ids = {}, {}
for row = 1, #KEYS - 4 do
  users[row], request_ids[row] = ARGV[2 * row], ARGV[2 * row + 1]
end

local stored = redis.call('HMGET', coupon, 'quantity', 'deletedAt', 'opensAt', 'closesAt',
  'expiresAt')
local quantity = not stored[2] and whole(stored[1], 'quantity')
local opens_at, closes_at = whole(stored[3], 'opensAt'), whole(stored[4] or stored[5], 'closesAt')
local taken = whole(redis.call('GET', requested), 'requested')
if quantity and not taken then
  error('CORRUPT requested is lost', 0)
end

-- Why no new user is admitted now, if that is so.
local refusal
if not quantity then
  refusal = from_primary(coupon, {'unknown_coupon'})
elseif opens_at or closes_at then
  local now = now_ms()
  if opens_at and now < opens_at then
    refusal = {'not_open', text(opens_at), text(opens_at - now)}
  elseif now >= (closes_at or math.huge) then
    refusal = {'closed'}
  end
end

local marks, waiting = redis.call('MGET', unpack(KEYS, 5)), {}
local pending_marks = redis.call('HMGET', pending, unpack(users))
for row, mark in ipairs(pending_marks) do
  waiting[users[row]] = parts(mark)
end
local replies, counts, admitted, repeated = {}, {}, {}, {}
for row, user_id in ipairs(users) do
  local request_id, issued = request_ids[row], parts(marks[row])
  local holder = issued or waiting[user_id]
  local reply
  if not quantity then
    reply = refusal
  elseif holder == request_id then
    reply = {'accepted'}
    repeated[#repeated + 1] = row
  elseif holder then
    reply = {'duplicate', issued and 'issued' or 'pending', holder}
  elseif refusal then
    reply = refusal
  elseif taken + #admitted >= quantity then
    -- The quantity is fixed while the stock falls as the worker issues: comparing the places
    -- taken with the stock would refuse users while coupons are left.
    reply = {'sold_out'}
  else
    reply = {'accepted'}
    admitted[#admitted + 1], waiting[user_id] = row, request_id
  end
  replies[row] = reply
  counts[reply[1]] = (counts[reply[1]] or 0) + 1
end
local refused = {}
for _, reason in ipairs({'duplicate', 'sold_out', 'not_open', 'closed'}) do
  if counts[reason] then
    refused[reason] = (whole(redis.call('HGET', coupon, reason), reason) or 0) + counts[reason]
  end
end

-- XADD is the first write because it is the one that a server may refuse: nothing is half done.
local marked = {}
for _, row in ipairs(admitted) do
  local user_id, request_id = users[row], request_ids[row]
  local entry_id = redis.call('XADD', requests, '*', 'couponId', coupon_id, 'userId', user_id,
    'requestId', request_id)
  marked[#marked + 1] = user_id
  marked[#marked + 1] = request_id .. ' ' .. entry_id
end
if #admitted > 0 then
  redis.call('INCRBY', requested, #admitted)
  redis.call('HSET', pending, unpack(marked))
end
for _, row in ipairs(repeated) do
  if marks[row] then
    redis.call('SET', KEYS[4 + row], marks[row])
  elseif pending_marks[row] then
    redis.call('HSET', pending, users[row], pending_marks[row])
  end
end
for reason, count in pairs(refused) do
  redis.call('HSET', coupon, reason, text(count))
end
return replies
