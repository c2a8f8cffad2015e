-- Gives the leader's lock up, if the owner has it.
-- KEYS  lock
-- ARGV  1 owner
-- Result  1 | 0: it is not theirs
local lock = redis.call('GET', KEYS[1])
if not lock or cjson.decode(lock).owner ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
