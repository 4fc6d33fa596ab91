-- wrk's part: users who ask for a coupon.
-- Arguments: couponId, start of the user ids, "all" (each request is another user) or "one" (the
--   start is the user),
--   requests to send (0: until the time is over),
--   ms that a connection pauses between requests, on average (0: none).
-- Prints one line of JSON; times in microseconds.
local ffi = require('ffi')
ffi.cdef('int kill(int, int); int getpid(void);')
local the_thread

function setup(thread)
  the_thread = thread
end

function init(args)
  local coupon, start, users = args[1], args[2], args[3]
  limit, pause = tonumber(args[4]), tonumber(args[5])
  sent, begun, answered, ok, refused = 0, 0, 0, 0, 0
  local headers = {['Content-Type'] = 'application/json'}

  function request()
    sent = sent + 1
    local user = users == 'one' and start or string.format('%s-%d', start, sent)
    return wrk.format('POST', '/api/coupons/request', headers,
      string.format('{"couponId":"%s","userId":"%s"}', coupon, user))
  end
  if limit > 0 or pause > 0 then
    function delay()
      begun = begun + 1
      if limit > 0 and begun > limit then
        return 3600000
      end
      return math.random(0, 2 * pause)
    end
  end
  if limit > 0 then
    function response(status)
      answered = answered + 1
      if status == 200 then ok = ok + 1 elseif status == 400 then refused = refused + 1 end
      if answered == limit then
        -- wrk would sleep until its time is over: wake it up, as Ctrl-C does.
        wrk.thread:stop()
        ffi.C.kill(ffi.C.getpid(), 2)
      end
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
