-- Declares a coupon: creates it, or moves the quantity of one that exists.
-- KEYS   1 coupon (hash)  2 stock  3 requested  4 coupons (set)
-- ARGV   1 couponId  2 quantity (whole number, 1 or more)
-- Returns {status, quantity, stock, requested}; status is one of
--   registered, unchanged, changed, quantity_too_low (then nothing was changed)
-- Replay: a repeated declaration finds its own quantity and changes nothing.
local coupon, stock, requested, coupons = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local coupon_id, quantity = ARGV[1], tonumber(ARGV[2])

local declared = redis.call('HGET', coupon, 'quantity')
local left, taken = redis.call('GET', stock), redis.call('GET', requested)
if not declared and not left and not taken then
  local now = redis.call('TIME')
  local now_ms = string.format('%d%03d', now[1], math.floor(now[2] / 1000))
  -- SADD first: the one write here that a key of another type can refuse.
  redis.call('SADD', coupons, coupon_id)
  redis.call('HSET', coupon, 'quantity', ARGV[2], 'registeredAt', now_ms)
  redis.call('SET', stock, ARGV[2])
  redis.call('SET', requested, '0')
  return {'registered', quantity, quantity, 0}
end

declared, left, taken = tonumber(declared), tonumber(left), tonumber(taken)
if not declared or not left or not taken then
  return redis.error_reply('CORRUPT quantity, stock or requested is lost or not a number')
end
if quantity == declared then
  return {'unchanged', quantity, left, taken}
end
if quantity < taken then
  return {'quantity_too_low', declared, left, taken}
end
redis.call('HSET', coupon, 'quantity', ARGV[2])
left = redis.call('INCRBY', stock, string.format('%d', quantity - declared))
return {'changed', quantity, left, taken}
