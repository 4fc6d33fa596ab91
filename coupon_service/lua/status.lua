-- Reads what has become of the requests of users for one coupon.
-- KEYS   1 coupon (hash)
--        2 pending (hash)
--        3.. issuance mark of each user
-- ARGV   1.. userId of each
-- Returns for each {status, ...}: {unknown_coupon} | {not_requested} | {pending|issued|expired,
--   pending or issuance mark, the instant of this (ms)}, or the error that its mark has met
-- Replay: reads again.
local stored = redis.call('HMGET', KEYS[1], 'quantity', 'deletedAt', 'expiresAt')
local now, expires_at = now_ms(), whole(stored[3], 'expiresAt')
local issued = now >= (expires_at or math.huge) and 'expired' or 'issued'
local replies = {}
for row, pending in ipairs(redis.call('HMGET', KEYS[2], unpack(ARGV))) do
  -- Not MGET, for which a mark of another type is none.
  local mark = redis.pcall('GET', KEYS[2 + row])
  if type(mark) == 'table' then
    replies[row] = mark
  elseif stored[2] or not stored[1] then
    replies[row] = {'unknown_coupon'}
  elseif parts(mark) then
    replies[row] = {issued, mark, now}
  elseif parts(pending) then
    replies[row] = {'pending', pending, now}
  else
    replies[row] = {'not_requested'}
  end
end
return from_primary(KEYS[1], replies)
