-- Adds a redemption code, unless there is one of its id or its hash.
-- KEYS  code, hashes, ids
-- ARGV  1 id  2 hash, then the fields of the code and their values
-- Result  1 | 0: there is one
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return 1
