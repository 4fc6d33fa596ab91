-- Deletes a coupon: from now on it is unknown, and due to be removed by remove.lua. Of its keys,
-- one of another type is removed at once: this is the way out where its data is corrupt.
-- KEYS   1 coupon (hash)
--        2 pending (hash)
--        3 issuances (stream)
--        4 coupons (sorted set)
--        5 coupons:removals (sorted set)
--        6 coupon-log (stream)
-- ARGV   1 couponId
-- Returns {deleted, issued, pending} (how many of each; 0 of another type) | {unknown_coupon}
-- Replay: the second time the coupon is unknown.
local coupon, pending, issuances, coupons, removals, log = unpack(KEYS)
local coupon_id = ARGV[1]

local misplaced = {}
-- Whether a key can be read as the type that it is to have.
local function is_a(kind, key)
  local its = redis.call('TYPE', key).ok
  if its ~= kind and its ~= 'none' then
    misplaced[#misplaced + 1] = key
    return false
  end
  return true
end

check_coupons(coupons)
local registered = redis.call('ZSCORE', coupons, coupon_id)
local waiting = is_a('hash', pending) and redis.call('HLEN', pending) or 0
if is_a('hash', coupon) then
  local quantity, deleted_at = unpack(redis.call('HMGET', coupon, 'quantity', 'deletedAt'))
  registered = not deleted_at and (quantity or registered)
end
-- What was deleted before is deleted once more where its removal cannot go on. Not so if only the
-- issuances hinder it: they name the marks, which would be left to the next life of this id.
local stuck = #misplaced > 0 and redis.call('ZSCORE', removals, coupon_id)
local issued = is_a('stream', issuances) and redis.call('XLEN', issuances) or 0
if not (registered or stuck) then
  return from_primary(coupon, {'unknown_coupon'})
end
redis.call('ZCARD', removals) -- raises if it is not a sorted set
check_log(log)
local now = text(now_ms())

-- ZREM is the first write: a server out of memory still allows it, and what follows it.
redis.call('ZREM', coupons, coupon_id)
if #misplaced > 0 then
  redis.call('DEL', unpack(misplaced))
end
redis.call('ZADD', removals, now, coupon_id)
redis.call('HSET', coupon, 'deletedAt', now)
redis.call('XADD', log, '*', 'couponId', coupon_id, 'decision', 'deleted', 'issued', issued,
  'pending', waiting)
return {'deleted', issued, waiting}
