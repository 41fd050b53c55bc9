-- GET /healthz, nothing else.
--     wrk -t1 -c64 -d5s -s healthz.lua http://127.0.0.1:3110/healthz
package.path = (os.getenv("LH_BENCH_HTTP") or ".") .. "/?.lua;" .. package.path
done = require("common").done
