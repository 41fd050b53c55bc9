-- GET of an index's description: the cheapest route behind the gateway.
--     wrk -t1 -c32 -d5s -s info.lua http://127.0.0.1:3110/v1/vectors/index/words
package.path = (os.getenv("LH_BENCH_HTTP") or ".") .. "/?.lua;" .. package.path
done = require("common").done
