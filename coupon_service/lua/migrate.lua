-- Converts one coupon of format 1, but for its issuance marks: its keys lose their TTL, and its id
-- moves from the set of coupons to a sorted set, which with the last id takes the place of the set.
-- KEYS   1 coupons (set, or already the sorted set)
--        2 the sorted set that takes its place
--        3 coupons:removals (sorted set)
--        4 coupon (hash)
--        5 stock
--        6 requested
--        7 pending (hash)
--        8 issuances (stream)
-- ARGV   1 couponId
-- Returns nothing
-- Replay: the id has moved, and the keys have no TTL any more.
local coupons, place, removals, coupon = unpack(KEYS, 1, 4)
local coupon_id = ARGV[1]

local kind = redis.call('TYPE', coupon).ok
local quantity, expires_at
if kind == 'hash' then
  quantity, expires_at = unpack(redis.call('HMGET', coupon, 'quantity', 'expiresAt'))
end
local ttl = redis.call('PTTL', coupon)
if ttl >= 0 and expires_at then
  redis.call('ZADD', removals, 'NX', text(now_ms() + ttl), coupon_id)
end
for row = 4, 8 do
  redis.call('PERSIST', KEYS[row])
end
if redis.call('TYPE', coupons).ok == 'set' and redis.call('SREM', coupons, coupon_id) == 1 then
  if quantity or kind ~= 'hash' and kind ~= 'none' then -- of another type it can be deleted
    redis.call('ZADD', place, 0, coupon_id)
  end
  if redis.call('EXISTS', coupons) == 0 and redis.call('EXISTS', place) == 1 then
    redis.call('RENAME', place, coupons)
  end
end
