-- The end of every script here: one line that bench/http/run reads.
local report = {}

function report.done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        "report requests %d seconds %.3f p50_us %.0f p99_us %.0f max_us %.0f failed %d\n",
        summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
        latency.max, errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end

return report
