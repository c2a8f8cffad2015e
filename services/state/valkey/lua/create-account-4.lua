-- Creates an account and makes its first credits available.
-- KEYS  account, books, credits, conditions
-- ARGV  1 record (JSON)  2 gate: "open" or "drained"  3 credits to make available  4 the largest amount
-- Result  "created" | "exists" | "too much"
-- @include whole
-- @include credits
if redis.call('EXISTS', KEYS[1]) == 1 then return 'exists' end
local credits = read_credits(KEYS[2], KEYS[3])
if not make_available(credits, tonumber(ARGV[3]), tonumber(ARGV[4])) then return 'too much' end
write_credits(KEYS[2], KEYS[3], credits)
redis.call('SET', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[4])
redis.call('HSET', KEYS[2], 'gate', ARGV[2])
redis.call('HINCRBY', KEYS[2], 'revision', 1)
return 'created'
