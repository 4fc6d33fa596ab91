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

-- Raises, before anything is written, if it is not a stream.
if last_id(dead) == '18446744073709551615-18446744073709551615' then
  error('CORRUPT the dead letters have no more ids', 0)
end
if redis.call('XACK', requests, group, entry_id) + redis.call('XDEL', requests, entry_id) == 0 then
  return 0
end
redis.call('XADD', dead, '*', 'entryId', entry_id, 'reason', reason, 'fields', fields)
return 1
