-- GET with the bearer token LH_TOKEN, or without one where that is empty.
package.path = (os.getenv("LH_BENCH_HTTP") or ".") .. "/?.lua;" .. package.path
local common = require("common")

setup = common.setup
done = common.done

local formatted

function init(arguments)
    local token = os.getenv("LH_TOKEN") or ""
    formatted = wrk.format("GET", nil, token ~= "" and { Authorization = "Bearer " .. token } or {})
end

function request()
    return formatted
end
