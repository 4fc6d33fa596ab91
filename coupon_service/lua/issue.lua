-- Decides entries of the request stream that ask for one coupon, in order: issues it to each, or
-- refuses it.
-- KEYS   1 stock
--        2 requested
--        3 pending (hash)
--        4 coupon (hash)
--        5 coupon-requests (stream)
--        6 coupon-log (stream)
--        7 issuances (stream)
--        8 series (hash)
--        9.. issuance mark of each user
-- ARGV   1 couponId
--        2 group
--        3.. userId, requestId (the entry id if the producer gave none), entry id of each entry
-- Returns for each {verdict, decision}: 0 no stock, 1 issued, 2 the user has one already; the
--   decision "gone" says that the entry was decided or withdrawn before
-- Replay: an issued requestId is recognised by the mark and issued no second time; an entry
--   that is gone from the stream is decided no second time. Neither is counted or logged again.
local stock, requested, pending, coupon = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local requests, log, issuances, series = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local coupon_id, group = ARGV[1], ARGV[2]
local users, request_ids, entry_ids = {}, {}, {}
for row = 1, #KEYS - 8 do
  users[row], request_ids[row], entry_ids[row] = ARGV[3 * row], ARGV[3 * row + 1], ARGV[3 * row + 2]
end

local stored = redis.call('HMGET', coupon, 'quantity', 'deletedAt', 'since', 'duplicate',
  'sold_out')
local quantity, since = whole(stored[1] or '0', 'quantity'), stored[3]
local left = stored[2] and 0 or whole(redis.call('GET', stock) or '0', 'stock')
local taken = whole(redis.call('GET', requested) or '0', 'requested')
local counts = {duplicate = whole(stored[4], 'duplicate'), sold_out = whole(stored[5], 'sold_out')}
-- By user: the requestId in the issuance mark, and the two parts of the pending mark.
local issued, waiting, awaited = {}, {}, {}
for row, mark in ipairs(redis.call('HMGET', pending, unpack(users))) do
  waiting[users[row]], awaited[users[row]] = parts(mark)
  issued[users[row]] = parts(redis.call('GET', KEYS[8 + row]))
end
check_log(log)
local last = last_id(issuances)
local last_ms = tonumber(string.match(last, '^%d+'))
-- An issuance has the id of its line. The server chooses the ids, but for the first line of a log
-- that was renamed while its ids were ahead of the clock.
local next_id = '*'
if last_ms >= now_ms() and newer(last, last_id(log)) then
  if last_ms > 253402300799997 then -- it would take the log, which is that of all, to its end
    error('CORRUPT the ids of the issuances are beyond the year 9999', 0)
  end
  next_id = text(last_ms + 1) .. '-0'
end

local unknown = stored[2] or not stored[1]
local words = {[0] = unknown and 'unknown_coupon' or 'sold_out', [1] = 'issued', [2] = 'duplicate'}
local decisions, lines, refused, decided, granted, gone = {}, {}, {}, {}, 0, {}
for row, user_id in ipairs(users) do
  local request_id, entry_id = request_ids[row], entry_ids[row]
  -- Of a coupon that had this id before, or of another producer before the registration.
  local old = since and awaited[user_id] ~= entry_id and not newer(entry_id, since)
  -- The mark names its entry: one that was withdrawn must not be issued on the mark of a repetition.
  local admitted = not old and waiting[user_id] == request_id
    and (awaited[user_id] == entry_id or awaited[user_id] == '')
  local undecided = admitted
    or not gone[entry_id] and #redis.call('XRANGE', requests, entry_id, entry_id) == 1
  local verdict = 1
  if old then
    verdict = 0
  elseif issued[user_id] == request_id then
    undecided = false
  elseif not undecided then
    verdict = (issued[user_id] or waiting[user_id]) and 2 or 0
  elseif left - granted <= 0 then
    verdict = 0
  elseif issued[user_id] or (waiting[user_id] and not admitted) then
    verdict = 2
  elseif not admitted and taken + granted - #decided >= quantity then
    -- All that is left belongs to the requests that were admitted first.
    verdict = 0
  end
  local word = old and 'unknown_coupon' or words[verdict]
  if not (undecided or old or unknown or verdict == 1) then
    word = 'gone'
  end
  decisions[row], gone[entry_id] = {verdict, word}, true
  if undecided then
    lines[#lines + 1] = {row, word}
    if verdict == 1 then
      granted, issued[user_id] = granted + 1, request_id
    elseif word ~= 'unknown_coupon' then
      refused[word] = (refused[word] or 0) + 1
    end
    if admitted then
      decided[#decided + 1], waiting[user_id] = user_id, nil
    end
  end
end

-- XACK is the first write: a server out of memory still allows it, and what follows it, so that
-- admitted requests are decided even then.
redis.call('XACK', requests, group, unpack(entry_ids))
redis.call('XDEL', requests, unpack(entry_ids))
for _, line in ipairs(lines) do
  local row, word = unpack(line)
  local log_id = redis.call('XADD', log, next_id, 'couponId', coupon_id, 'userId', users[row],
    'requestId', request_ids[row], 'decision', word, 'entryId', entry_ids[row])
  next_id = '*'
  if word == 'issued' then
    redis.call('SET', KEYS[8 + row], request_ids[row] .. ' ' .. log_id)
    redis.call('XADD', issuances, log_id, 'userId', users[row])
  end
end
if #decided > 0 then
  redis.call('HDEL', pending, unpack(decided))
end
if granted > 0 then
  redis.call('DECRBY', stock, granted)
  count(series, granted, 0)
end
if granted ~= #decided then
  -- requested == issued + pending, for entries of every producer.
  redis.call('INCRBY', requested, granted - #decided)
end
for word, count in pairs(refused) do
  redis.call('HSET', coupon, word, text((counts[word] or 0) + count))
end
return decisions
