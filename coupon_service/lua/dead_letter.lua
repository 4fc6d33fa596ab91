-- Moves an entry that can never be decided out of the request stream.
-- KEYS   1 coupon-requests (stream)
--        2 coupon-requests:dead (stream)
-- ARGV   1 group
--        2 entry id
--        3 reason
--        4 the entry's fields (JSON)
-- Returns 1 if the entry was moved, 0 if it was gone before
-- Replay: the entry is gone by then, so nothing is written twice.
local requests, dead = KEYS[1], KEYS[2]
local group, entry_id, reason, fields = unpack(ARGV)

if is_used_up(dead) then -- or raises, before anything is written, if it is not a stream
  error('CORRUPT the ids of the dead letters are beyond the year 9999', 0)
end
if redis.call('XACK', requests, group, entry_id) + redis.call('XDEL', requests, entry_id) == 0 then
  return 0
end
redis.call('XADD', dead, '*', 'entryId', entry_id, 'reason', reason, 'fields', fields)
return 1
