-- Removes an account. Its books stay, so that its leases settle and revisions never repeat.
-- KEYS  account, books, conditions
-- ARGV  1 revision that it must have; "0": any
-- Result  "removed" | "missing" | "conflict"
if redis.call('EXISTS', KEYS[1]) == 0 then return 'missing' end
if ARGV[1] ~= '0' and redis.call('HGET', KEYS[2], 'revision') ~= ARGV[1] then return 'conflict' end
redis.call('DEL', KEYS[1], KEYS[3])
redis.call('HDEL', KEYS[2], 'gate')
return 'removed'
