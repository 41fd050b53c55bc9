-- POST .../search with random queries of a file, one JSON body a line.
--     LH_BODIES=queries.ndjson wrk -t1 -c32 -d10s -s search.lua \
--         http://127.0.0.1:3110/v1/vectors/index/words/search
package.path = (os.getenv("LH_BENCH_HTTP") or ".") .. "/?.lua;" .. package.path
local common = require("common")

setup = common.setup
done = common.done

local requests

-- Requests are formatted once: wrk is to wait for the server, not the server for wrk.
function init(arguments)
    math.randomseed(seed)
    requests = common.lines("LH_BODIES", function(line)
        return wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, line)
    end)
end

function request()
    return requests[math.random(#requests)]
end
