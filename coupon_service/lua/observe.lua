-- Adds the times of decisions that a process has counted, unless another has counted these lines.
-- KEYS   1 coupons:decision-times (hash)
-- ARGV   1 id of the line after which they were counted; '' for the first
--        2 id of the last line
--        3.. field of the hash, what is added to it (whole number) for each
-- Returns nothing
-- Replay: the lines are counted by then.
local times = KEYS[1]
if (redis.call('HGET', times, 'up_to') or '') ~= ARGV[1] then
  return
end

local changed = {'up_to', ARGV[2]}
for at = 3, #ARGV, 2 do
  local field = ARGV[at]
  local before = whole(redis.call('HGET', times, field), field) or 0
  changed[at], changed[at + 1] = field, text(before + tonumber(ARGV[at + 1]))
end
redis.call('HSET', times, unpack(changed))
