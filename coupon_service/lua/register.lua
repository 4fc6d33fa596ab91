-- Declares coupons, all of them or none: creates each, or moves quantity and window of one that
-- exists.
-- KEYS   1 coupons (set), then for each coupon: coupon (hash), stock, requested, pending (hash),
--        issuances (stream)
-- ARGV   1 retention after expiresAt (ms), then for each coupon: couponId, start of the keys of
--        its issuance marks, quantity (whole number, 1 or more), opensAt, closesAt, expiresAt
--        (each ms since 1970, '' as it is, 'none')
-- Returns {registered, then for each coupon: quantity, stock, requested}, or, with nothing
--   changed, {quantity_too_low | invalid_window, couponId, quantity, requested}
-- Replay: a repeated declaration finds its own values and changes nothing.
local FIELDS = {'opensAt', 'closesAt', 'expiresAt'}

local function read(number)
  local k, a = 5 * number - 3, 6 * number - 4
  local coupon = {hash = KEYS[k], stock = KEYS[k + 1], requested = KEYS[k + 2],
    pending = KEYS[k + 3], issuances = KEYS[k + 4], id = ARGV[a], marks = ARGV[a + 1],
    quantity = tonumber(ARGV[a + 2]), window = {}}
  local declared = redis.call('HGET', coupon.hash, 'quantity')
  local left, taken = redis.call('GET', coupon.stock), redis.call('GET', coupon.requested)
  coupon.new = not (declared or left or taken)
  coupon.declared = coupon.new and 0 or tonumber(declared)
  coupon.left = coupon.new and 0 or tonumber(left)
  coupon.taken = coupon.new and 0 or tonumber(taken)
  for index, field in ipairs(FIELDS) do
    local given = ARGV[a + 2 + index]
    local stored = redis.call('HGET', coupon.hash, field)
    coupon.window[field] = tonumber(given == '' and stored or given)
    coupon.moved = coupon.moved or coupon.window[field] ~= tonumber(stored)
  end
  return coupon
end

local function refusal(coupon)
  local w = coupon.window
  if coupon.quantity < coupon.taken then
    return 'quantity_too_low'
  end
  if w.opensAt and w.opensAt >= math.min(w.closesAt or math.huge, w.expiresAt or math.huge)
      or w.closesAt and w.closesAt > (w.expiresAt or math.huge) then
    return 'invalid_window'
  end
end

-- All keys of a coupon vanish at one instant, its issuance marks included.
local function set_expiry(coupon)
  local keys = {coupon.hash, coupon.stock, coupon.requested, coupon.pending, coupon.issuances}
  for _, entry in ipairs(redis.call('XRANGE', coupon.issuances, '-', '+')) do
    keys[#keys + 1] = coupon.marks .. entry[2][2]
  end
  local expires_at = coupon.window.expiresAt
  for _, key in ipairs(keys) do
    if expires_at then
      redis.call('PEXPIREAT', key, string.format('%.0f', expires_at + tonumber(ARGV[1])))
    else
      redis.call('PERSIST', key)
    end
  end
end

local declarations = {}
for number = 1, (#KEYS - 1) / 5 do
  local coupon = read(number)
  if not (coupon.declared and coupon.left and coupon.taken) then
    return redis.error_reply('CORRUPT quantity, stock or requested is lost or not a number')
  end
  local status = refusal(coupon)
  if status then
    return {status, coupon.id, coupon.declared, coupon.taken}
  end
  declarations[number] = coupon
end
-- Raises before anything is written if it is not a set.
redis.call('SCARD', KEYS[1])

local now = redis.call('TIME')
local reply = {'registered'}
for _, coupon in ipairs(declarations) do
  local left = coupon.left + coupon.quantity - coupon.declared
  if coupon.new or coupon.moved or coupon.quantity ~= coupon.declared then
    redis.call('HSET', coupon.hash, 'quantity', string.format('%.0f', coupon.quantity))
    redis.call('HSETNX', coupon.hash, 'registeredAt',
      string.format('%d%03d', now[1], math.floor(now[2] / 1000)))
    for _, field in ipairs(FIELDS) do
      if coupon.window[field] then
        redis.call('HSET', coupon.hash, field, string.format('%.0f', coupon.window[field]))
      else
        redis.call('HDEL', coupon.hash, field)
      end
    end
    redis.call('SET', coupon.stock, string.format('%.0f', left), 'KEEPTTL')
    redis.call('SET', coupon.requested, string.format('%.0f', coupon.taken), 'KEEPTTL')
    redis.call('SADD', KEYS[1], coupon.id)
  end
  if coupon.moved then
    set_expiry(coupon)
  end
  for _, number in ipairs({coupon.quantity, left, coupon.taken}) do
    reply[#reply + 1] = number
  end
end
return reply
