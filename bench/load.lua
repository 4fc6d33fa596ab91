-- wrk's part: users who ask for a coupon, or poll the status of their requests.
-- Arguments: couponId,
--   "request" (each is another user's) or "poll" (users user0 to user999 in turn),
--   start of the ids of the users who request,
--   "browser" (the fields that Chrome sends with a fetch of the same origin) or "bare" (wrk's own),
--   requests to send (0: until the time is over),
--   requests a second, in all and at random intervals (0: each connection asks without a pause).
-- Prints one line of JSON; times in microseconds.
local ffi = require('ffi')
ffi.cdef([[
  typedef struct { long seconds, nanoseconds; } instant;
  int clock_gettime(int, instant *);
  int kill(int, int);
  int getpid(void);
]])
local POLLED, NEVER_MS, MONOTONIC, SIGINT = 1000, 3600000, 1, 2
local BROWSER = [[
Connection: keep-alive
sec-ch-ua-platform: "Windows"
User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36
sec-ch-ua: "Chromium";v="142", "Google Chrome";v="142", "Not_A Brand";v="99"
sec-ch-ua-mobile: ?0
Accept: */*
Sec-Fetch-Site: same-origin
Sec-Fetch-Mode: cors
Sec-Fetch-Dest: empty
Referer: https://shop.example/events/spring-sale?utm_source=newsletter
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7
Cookie: _ga=GA1.1.1480276211.1763802767; session=b7Zt0qJm2vRr1cXo8yPnS5kLdWfHuA3e
]]
local the_thread

function setup(thread)
  the_thread = thread
end

local function now_ms()
  local now = ffi.new('instant')
  ffi.C.clock_gettime(MONOTONIC, now)
  return tonumber(now.seconds) * 1000 + tonumber(now.nanoseconds) / 1e6
end

function init(args)
  local coupon, kind, start, heads = args[1], args[2], args[3], args[4]
  limit, rate = tonumber(args[5]), tonumber(args[6])
  sent, begun, answered, ok, refused = 0, 0, 0, 0, 0
  local common = ' HTTP/1.1\r\nHost: ' .. wrk.headers['Host'] .. '\r\n'
  if heads == 'browser' then
    common = common .. BROWSER:gsub('\n', '\r\n')
  end

  if kind == 'poll' then
    function request()
      sent = sent + 1
      return string.format('GET /api/coupons/%s/users/user%d%s\r\n', coupon, sent % POLLED, common)
    end
  else
    local head = 'POST /api/coupons/request' .. common .. 'Content-Type: application/json\r\n'
    function request()
      sent = sent + 1
      local body = string.format('{"couponId":"%s","userId":"%s-%d"}', coupon, start, sent)
      return string.format('%sContent-Length: %d\r\n\r\n%s', head, #body, body)
    end
  end
  if limit > 0 then
    function delay()
      begun = begun + 1
      return begun > limit and NEVER_MS or 0
    end

    function response(status)
      answered = answered + 1
      if status == 200 then ok = ok + 1 elseif status == 400 then refused = refused + 1 end
      if answered == limit then
        -- wrk would sleep until its time is over: wake it up, as Ctrl-C does.
        wrk.thread:stop()
        ffi.C.kill(ffi.C.getpid(), SIGINT)
      end
    end
  elseif rate > 0 then
    local due = now_ms()
    function delay()  -- of a free connection: until the next request is due
      due = due + math.random() * 2000 / rate
      return math.max(0, math.floor(due - now_ms() + 0.5))
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration":%d,"p50":%d,"p99":%d,"max":%d,"status":%d,"broken":%d,' ..
    '"ok":%d,"refused":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    latency.max, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    the_thread:get('ok'), the_thread:get('refused')))
end
