-- POST .../add, LH_BATCH items a request (one when it is not set): each id is its own, or one of
-- LH_IDS a thread where that is set and not 0; the vector is a random line of a file of JSON values
-- (an array of numbers, or a base64 string in quotes).
--     LH_VECTORS=vectors.ndjson LH_PREFIX=run1- wrk -t1 -c32 -d10s -s add.lua \
--         http://127.0.0.1:3110/v1/vectors/index/words/add
package.path = (os.getenv("LH_BENCH_HTTP") or ".") .. "/?.lua;" .. package.path
local common = require("common")

setup = common.setup
done = common.done

local vectors
local headers = { ["Content-Type"] = "application/json" }
local prefix = os.getenv("LH_PREFIX") or "add-"
local batch = tonumber(os.getenv("LH_BATCH") or "1")
local ids = tonumber(os.getenv("LH_IDS") or "0")
local added = 0

function init(arguments)
    math.randomseed(seed)
    vectors = common.lines("LH_VECTORS", function(line) return line end)
end

function request()
    local items = {}
    for i = 1, batch do
        added = added + 1
        local id = ids > 0 and math.random(ids * batch) or added
        items[i] = string.format('{"id":"%s%d-%d","vector":%s}', prefix, seed, id,
            vectors[math.random(#vectors)])
    end
    return wrk.format("POST", nil, headers, '{"items":[' .. table.concat(items, ",") .. ']}')
end
