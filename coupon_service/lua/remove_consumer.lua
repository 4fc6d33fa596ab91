-- Removes a consumer that holds no entry. XGROUP DELCONSUMER alone would drop what the
-- consumer holds, so the check and the removal are one step.
-- KEYS   1 coupon-requests (stream)
-- ARGV   1 group
--        2 consumer
-- Returns 1 if the consumer holds nothing now and is gone, 0 if it holds entries
-- Replay: removing a consumer that is gone changes nothing.
local requests = KEYS[1]
local group, consumer = unpack(ARGV)

if #redis.call('XPENDING', requests, group, '-', '+', 1, consumer) > 0 then
  return 0
end
redis.call('XGROUP', 'DELCONSUMER', requests, group, consumer)
return 1
