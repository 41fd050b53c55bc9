-- GET of one object after another: the path of the URL, and a number behind it.
--     wrk -t1 -c16 -d4s -s objects_get.lua http://127.0.0.1:3110/v1/storage/get/bench
package.path = (os.getenv("LH_BENCH_HTTP") or ".") .. "/?.lua;" .. package.path
local at = 0
function request()
    at = (at + 1) % 64
    return wrk.format("GET", wrk.path .. "/" .. at)
end
done = require("common").done
