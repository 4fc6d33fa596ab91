-- Put before every script by the loader: the checks and formats that they share.

-- The number that a stored value stands for, written as INCR writes it; nil where there is none.
-- Raises CORRUPT for anything else, such as '010', '1e3', 'nan', or what a Lua number cannot count.
local function whole(value, name)
  if not value then
    return nil
  end
  local number = string.match(value, '^%-?%d+$') and tonumber(value)
  if not number or math.abs(number) >= 2 ^ 53 or string.format('%.0f', number) ~= value then
    error('CORRUPT ' .. name .. ' is not a whole number', 0)
  end
  return number
end

-- A whole number as text; tostring() would write 1e+15 for a large one.
local function text(number)
  return string.format('%.0f', number)
end

-- The two parts of a pending or issuance mark: the requestId, and the id of the entry on the
-- stream or of the line in the log ('' in the mark of another system, and for what no stream takes
-- for an id); nil where there is no mark.
local function parts(mark)
  local request_id, ms, sequence = string.match(mark or '', '^(%S+) (%d+)%-(%d+)$')
  if request_id and #ms < 20 and #sequence < 20 then
    return request_id, ms .. '-' .. sequence
  end
  return string.match(mark or '', '^%S+'), ''
end

-- The clock of the server, which all processes share, in ms since 1970.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Whether a stream id is greater than another. Compared as text, because a part has up to 64 bits
-- and a number of Lua 53.
local function newer(id, than)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  local than_ms, than_sequence = string.match(than, '^(%d+)-(%d+)$')
  if not (ms and than_ms) then
    error('CORRUPT not a stream id', 0)
  end
  if ms == than_ms then
    ms, than_ms = sequence, than_sequence
  end
  return #ms > #than_ms or #ms == #than_ms and ms > than_ms
end

-- A reply before which perhaps nothing was written. Raises READONLY on a server that is no primary
-- any more, because what that knows may be old. HDEL of a field that never is there changes nothing,
-- and what else may keep the server from writing is no reason not to reply.
local function from_primary(coupon, reply)
  local tried = redis.pcall('HDEL', coupon, '')
  if type(tried) == 'table' and string.find(tostring(tried.err), 'READONLY', 1, true) then
    redis.call('HDEL', coupon, '')
  end
  return reply
end

-- The greatest id that a stream has ever given.
local function last_id(stream)
  if redis.call('EXISTS', stream) == 0 then
    return '0-0'
  end
  local info = redis.call('XINFO', 'STREAM', stream)
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then
      return info[at + 1]
    end
  end
end

-- Adds to what a coupon counts in the present second, minute and hour; see Keys.series. With pcall,
-- because a picture of a sale must not stop it: what is no count is replaced.
local function count(series, issued, added)
  local now, spans, fields, changed = math.floor(now_ms() / 1000), {1, 60, 3600}, {}, {}
  for row, span in ipairs(spans) do
    fields[row] = span .. ':' .. math.floor(now / span) % 240
  end
  local stored = redis.pcall('HMGET', series, unpack(fields))
  for row, span in ipairs(spans) do
    local start = text(now - now % span)
    local at, of_it, more = string.match(stored[row] or '', '^(%d+) (%-?%d+) (%-?%d+)$')
    if at ~= start then
      of_it, more = 0, 0
    end
    changed[2 * row - 1] = fields[row]
    changed[2 * row] = start .. ' ' .. text(of_it + issued) .. ' ' .. text(more + added)
  end
  redis.pcall('HSET', series, unpack(changed))
end

-- Raises while the data is of format 1, see migration.py, or if `coupons` is of any other type.
local function check_coupons(coupons)
  if redis.call('TYPE', coupons).ok == 'set' then
    error('MIGRATING the data is of format 1, until a worker has converted it', 0)
  end
  redis.call('ZCARD', coupons)
end

-- Raises unless a line can be added to the log. The error is not called CORRUPT because the log
-- concerns all coupons: no entry is at fault.
local function check_log(log)
  local kind = redis.call('TYPE', log).ok
  if kind ~= 'stream' and kind ~= 'none' then
    error('MISPLACED the log is not a stream', 0)
  end
  if newer(last_id(log), '253402300799999-0') then
    error('MISPLACED the ids of the log are beyond the year 9999', 0)
  end
end
