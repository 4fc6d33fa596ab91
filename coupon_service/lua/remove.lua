-- Removes a page of a coupon that is due: of its pending requests, which are refused, and of its
-- issuance marks; with nothing of either left, its own keys.
-- KEYS   1 coupon (hash)
--        2 stock
--        3 requested
--        4 pending (hash)
--        5 issuances (stream)
--        6 coupons (sorted set)
--        7 coupons:removals (sorted set)
--        8 coupon-requests (stream)
--        9 coupon-log (stream)
--        10 series (hash)
--        11.. an issuance mark for each line
-- ARGV   1 couponId
--        2 group
--        3 how many pending requests are given
--        4.. userId, pending mark of each of them, then the id of the line of each issuance mark
-- Returns {not_due} | {removing} | {removed}
-- Replay: a mark is removed only while it is the one that is given, so a page that comes late
--   finds nothing, even if the coupon was removed and registered again meanwhile.
local coupon, stock, requested, pending, issuances = unpack(KEYS, 1, 5)
local coupons, removals, requests, log, series = unpack(KEYS, 6, 10)
local coupon_id, group, waiting = ARGV[1], ARGV[2], tonumber(ARGV[3])

-- Looked up here and now: the expiry may have been extended since the worker found it due.
local due_at, now = tonumber(redis.call('ZSCORE', removals, coupon_id) or math.huge), now_ms()
if now < due_at then
  return {'not_due'}
end
local refused, entry_ids, marks, lines = {}, {}, {}, {}
for at = 4, 2 + 2 * waiting, 2 do
  local user_id, mark = ARGV[at], ARGV[at + 1]
  if redis.call('HGET', pending, user_id) == mark then
    local request_id, entry_id = parts(mark)
    refused[#refused + 1] = {user_id, request_id or '', entry_id}
    entry_ids[#entry_ids + 1] = entry_id ~= '' and entry_id or nil
  end
end
for row = 1, #KEYS - 10 do
  local line = ARGV[3 + 2 * waiting + row]
  local mark = redis.pcall('GET', KEYS[10 + row])
  local is_of_another_type = type(mark) == 'table'
  if is_of_another_type or select(2, parts(mark)) == line then
    marks[#marks + 1] = KEYS[10 + row]
  end
  lines[row] = line
end
local counts = {redis.call('HLEN', pending), redis.call('XLEN', issuances)} -- or raise
local is_deleted = redis.call('HEXISTS', coupon, 'deletedAt') == 1
check_log(log)

-- ZREM is the first write: a server out of memory still allows it, and what follows it.
redis.call('ZREM', coupons, coupon_id)
if not is_deleted then
  redis.call('HSET', coupon, 'deletedAt', text(now))
  redis.call('XADD', log, '*', 'couponId', coupon_id, 'decision', 'deleted', 'issued', counts[2],
    'pending', counts[1])
end
for _, request in ipairs(refused) do
  local user_id, request_id, entry_id = unpack(request)
  redis.call('XADD', log, '*', 'couponId', coupon_id, 'userId', user_id, 'requestId', request_id,
    'decision', 'unknown_coupon', 'entryId', entry_id)
  redis.call('HDEL', pending, user_id)
end
if #entry_ids > 0 then
  redis.call('XACK', requests, group, unpack(entry_ids))
  redis.call('XDEL', requests, unpack(entry_ids))
end
if #lines > 0 then
  redis.call('XDEL', issuances, unpack(lines))
end
if #marks > 0 then
  redis.call('DEL', unpack(marks))
end
if redis.call('HLEN', pending) + redis.call('XLEN', issuances) > 0 then
  return {'removing'}
end
redis.call('DEL', coupon, stock, requested, pending, issuances, series)
redis.call('ZREM', removals, coupon_id)
return {'removed'}
