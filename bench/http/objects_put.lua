-- PUT of one object after another: the path of the URL, a word for the round, and a number behind.
--     LH_BENCH_BYTES=65536 LH_BENCH_ROUND=0 wrk -t1 -c32 -d4s -s objects_put.lua \
--         http://127.0.0.1:3110/v1/storage/put/bench
package.path = (os.getenv("LH_BENCH_HTTP") or ".") .. "/?.lua;" .. package.path
local at = 0
local body = string.rep("x", tonumber(os.getenv("LH_BENCH_BYTES")))
local round = os.getenv("LH_BENCH_ROUND")
function request()
    at = at + 1
    return wrk.format("PUT", wrk.path .. "/" .. round .. "/" .. at, nil, body)
end
done = require("common").done
