-- What the scripts here share: a seed for each thread, the lines of a file, and the report.
local common = {}
local threads = 0

-- Each thread draws its own sequence. In init(), math.randomseed(seed).
function common.setup(thread)
    threads = threads + 1
    thread:set("seed", threads)
end

-- What `make` gives for each line of the file that the environment variable names.
function common.lines(variable, make)
    local made = {}
    for line in io.lines(os.getenv(variable)) do
        made[#made + 1] = make(line)
    end
    return made
end

-- One line at the end, which bench/http/run reads.
function common.done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        "report requests %d seconds %.3f p50_us %.0f p99_us %.0f max_us %.0f failed %d\n",
        summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
        latency.max, errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end

return common
