-- What wrk runs: posts one picture, and ends with a line of JSON, since wrk's own text rounds to three digits.
-- Arguments after the address and "--": the picture's file, and "sizes" to count the `batch_size` of the answers.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

-- Of each thread; numbers of answers by batch size.
sizes = {}

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  wrk.headers["Content-Type"] = "image/png"
  file:close()
  if arguments[2] == "sizes" then
    -- Defined only now: where there is such a function, wrk copies every answer.
    function response(status, headers, body)
      local size = body:match('"batch_size": ?(%d+)')
      if size then
        sizes[size] = (sizes[size] or 0) + 1
      end
    end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  local counts = {}
  for _, thread in ipairs(threads) do
    for size, count in pairs(thread:get("sizes")) do
      table.insert(counts, string.format('["%s", %d]', size, count))
    end
  end
  io.write(string.format(
    '\nlmht {"requests": %d, "duration_us": %d, "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d, '
      .. '"p50_us": %d, "p90_us": %d, "p99_us": %d, "sizes": [%s]}\n',
    summary.requests, summary.duration, errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), table.concat(counts, ", ")
  ))
end
