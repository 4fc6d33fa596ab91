-- Declares a coupon: creates it, or moves the quantity of one that exists.
-- KEYS   1 coupon (hash)  2 stock  3 requested  4 coupons (set)
-- ARGV   1 couponId  2 quantity (whole number, 1 or more)
-- Returns {status, quantity, stock, requested}; status is one of
--   registered, unchanged, changed, quantity_too_low (then nothing was changed)
-- Replay: a repeated declaration finds its own quantity and changes nothing.
local coupon, stock, requested, coupons = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local coupon_id, quantity = ARGV[1], tonumber(ARGV[2])

local declared = tonumber(redis.call('HGET', coupon, 'quantity'))
if not declared then
  local now = redis.call('TIME')
  local now_ms = string.format('%d%03d', now[1], math.floor(now[2] / 1000))
  redis.call('HSET', coupon, 'quantity', ARGV[2], 'registeredAt', now_ms)
  redis.call('SET', stock, ARGV[2])
  redis.call('SET', requested, '0')
  redis.call('SADD', coupons, coupon_id)
  return {'registered', quantity, quantity, 0}
end

local left, taken = tonumber(redis.call('GET', stock)), tonumber(redis.call('GET', requested))
if not left or not taken then
  return redis.error_reply('CORRUPT stock or requested is not a number')
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
