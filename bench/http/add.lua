-- POST .../add, one new item a request: its id is its own, its vector a random line of a file of
-- JSON values (an array of numbers, or a base64 string in quotes).
--     LH_VECTORS=vectors.ndjson LH_PREFIX=run1- wrk -t1 -c32 -d10s -s add.lua \
--         http://127.0.0.1:3110/v1/vectors/index/words/add
package.path = (os.getenv("LH_BENCH_HTTP") or ".") .. "/?.lua;" .. package.path
local common = require("common")

setup = common.setup
done = common.done

local vectors
local headers = { ["Content-Type"] = "application/json" }
local prefix = os.getenv("LH_PREFIX") or "add-"
local added = 0

function init(arguments)
    math.randomseed(seed)
    vectors = common.lines("LH_VECTORS", function(line) return line end)
end

function request()
    added = added + 1
    local body = string.format('{"items":[{"id":"%s%d-%d","vector":%s}]}', prefix, seed, added,
        vectors[math.random(#vectors)])
    return wrk.format("POST", nil, headers, body)
end
