-- Trims a page of the oldest lines of the log: never one that a consumer group has not been given, or
-- has been given and not acknowledged.
-- KEYS   1 coupon-log (stream)
--        2 coupon-log:trimmed
-- ARGV   1 number of the newest lines that are kept, 1 or more
--        2 number of lines of a page
-- Returns how many lines were trimmed
-- Replay: what is trimmed is not there any more; a repetition trims the next page.
local log, trimmed = KEYS[1], KEYS[2]
local keep, page = tonumber(ARGV[1]), tonumber(ARGV[2])

local surplus = math.min(redis.call('XLEN', log) - keep, page)
if surplus <= 0 then
  return 0
end
-- With the first line that stays, which XTRIM names.
local lines = redis.call('XRANGE', log, '-', '+', 'COUNT', surplus + 1)
for _, info in ipairs(redis.call('XINFO', 'GROUPS', log)) do
  local group = {}
  for at = 1, #info, 2 do
    group[info[at]] = info[at + 1]
  end
  local oldest_held = redis.call('XPENDING', log, group.name)[2]
  while surplus > 0 and (newer(lines[surplus][1], group['last-delivered-id'])
      or oldest_held and not newer(oldest_held, lines[surplus][1])) do
    surplus = surplus - 1
  end
end
if surplus == 0 then
  return 0
end

-- XTRIM is the first write: a server out of memory still allows it, and what follows it.
redis.call('XTRIM', log, 'MINID', lines[surplus + 1][1])
redis.call('SET', trimmed, lines[surplus][1])
return surplus
