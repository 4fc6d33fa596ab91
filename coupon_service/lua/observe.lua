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

-- HSET is the first write because it is one that a server may refuse: nothing is half done. A count
-- that is none is left out.
redis.call('HSET', times, 'up_to', ARGV[2])
for at = 3, #ARGV, 2 do
  redis.pcall('HINCRBY', times, ARGV[at], ARGV[at + 1])
end
