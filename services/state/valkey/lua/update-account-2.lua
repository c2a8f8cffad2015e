-- Replaces an account's record if it is still the revision that was read.
-- KEYS  account, books
-- ARGV  1 revision that was read  2 record (JSON)  3 gate: "open" or "drained"
-- Result  "updated" | "missing" | "conflict"
if redis.call('EXISTS', KEYS[1]) == 0 then return 'missing' end
if redis.call('HGET', KEYS[2], 'revision') ~= ARGV[1] then return 'conflict' end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[2], 'gate', ARGV[3])
redis.call('HINCRBY', KEYS[2], 'revision', 1)
return 'updated'
