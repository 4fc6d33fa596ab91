-- Registers coupons, all of them or none: creates each, or moves quantity and window of one that
-- exists.
-- KEYS   1 coupons (sorted set)
--        2 coupons:removals (sorted set)
--        3 coupon-requests (stream)
--        4 coupon-log (stream)
--        5.. coupon (hash), stock, requested, series (hash) of each coupon
-- ARGV   1 retention after expiresAt (ms)
--        2 1: only check whether they could be registered
--        3.. couponId, quantity (whole number, 1 or more), opensAt, closesAt, expiresAt (each ms
--        since 1970, '' as it is, 'none') of each coupon
-- Returns {registered, then for each coupon: quantity, stock, requested}, or, with nothing
--   changed, {quantity_too_low | invalid_window | being_removed, couponId, quantity, requested}
-- Replay: a repeated registration finds its own values and changes nothing.
local coupons, removals, requests, log = unpack(KEYS, 1, 4)
local retention, now = tonumber(ARGV[1]), now_ms()
local FIELDS = {'opensAt', 'closesAt', 'expiresAt'}

local function read(number)
  local k, a = 4 * number, 5 * number - 3
  local coupon = {hash = KEYS[k + 1], stock = KEYS[k + 2], requested = KEYS[k + 3],
    series = KEYS[k + 4], id = ARGV[a + 1], quantity = tonumber(ARGV[a + 2]), window = {}}
  local stored = redis.call('HMGET', coupon.hash, 'quantity', 'deletedAt', unpack(FIELDS))
  local declared = whole(stored[1], 'quantity')
  local left = whole(redis.call('GET', coupon.stock), 'stock')
  local taken = whole(redis.call('GET', coupon.requested), 'requested')
  coupon.deleted = stored[2]
  coupon.new = not (declared or left or taken)
  if not (coupon.new or coupon.deleted or (declared and left and taken)) then
    error('CORRUPT quantity, stock or requested is lost', 0)
  end
  coupon.declared, coupon.left, coupon.taken = declared or 0, left or 0, taken or 0
  for index, field in ipairs(FIELDS) do
    local given, before = ARGV[a + 2 + index], whole(stored[2 + index], field)
    coupon.window[field] = given == '' and before or tonumber(given)
    coupon.moved = coupon.moved or coupon.window[field] ~= before
  end
  return coupon
end

local function refusal(coupon)
  local w = coupon.window
  if coupon.deleted then
    return 'being_removed'
  elseif coupon.quantity < coupon.taken then
    return 'quantity_too_low'
  elseif w.opensAt and w.opensAt >= math.min(w.closesAt or math.huge, w.expiresAt or math.huge)
      or w.closesAt and w.closesAt > (w.expiresAt or math.huge)
      or w.expiresAt and w.expiresAt + retention <= now then
    return 'invalid_window'
  end
end

local registered = {}
for number = 1, (#KEYS - 4) / 4 do
  local coupon = read(number)
  local status = refusal(coupon)
  if status then
    return from_primary(KEYS[5], {status, coupon.id, coupon.declared, coupon.taken})
  end
  registered[number] = coupon
end
local since = last_id(requests)
check_coupons(coupons)
redis.call('ZCARD', removals) -- raises if it is not a sorted set
check_log(log)
if ARGV[2] == '1' then
  return from_primary(KEYS[5], {'registered'})
end

local reply = {'registered'}
for _, coupon in ipairs(registered) do
  local left = coupon.left + coupon.quantity - coupon.declared
  if coupon.new or coupon.moved or coupon.quantity ~= coupon.declared then
    redis.call('ZADD', coupons, 0, coupon.id)
    redis.call('HSET', coupon.hash, 'quantity', text(coupon.quantity))
    redis.call('SET', coupon.stock, text(left))
    redis.call('SET', coupon.requested, text(coupon.taken))
    local line = {'couponId', coupon.id, 'decision', coupon.new and 'registered' or 'changed',
      'quantity', text(coupon.quantity)}
    for field, instant in pairs(coupon.window) do
      line[#line + 1] = field
      line[#line + 1] = text(instant)
    end
    redis.call('XADD', log, '*', unpack(line))
    if coupon.quantity ~= coupon.declared then
      count(coupon.series, 0, coupon.quantity - coupon.declared)
    end
  end
  if coupon.new then
    -- What was on the stream before is of a coupon that had this id, or asks for none.
    redis.call('HSET', coupon.hash, 'registeredAt', text(now), 'since', since)
  end
  if coupon.moved then
    redis.call('HDEL', coupon.hash, unpack(FIELDS))
    for field, instant in pairs(coupon.window) do
      redis.call('HSET', coupon.hash, field, text(instant))
    end
    if coupon.window.expiresAt then
      redis.call('ZADD', removals, text(coupon.window.expiresAt + retention), coupon.id)
    else
      redis.call('ZREM', removals, coupon.id)
    end
  end
  for _, number in ipairs({coupon.quantity, left, coupon.taken}) do
    reply[#reply + 1] = number
  end
end
return from_primary(KEYS[5], reply)
