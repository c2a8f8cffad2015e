-- Creates an API key of a user.
-- KEYS  user, key, keys
-- ARGV  1 key's id, then the fields of the key and their values
-- Result  "created" | "missing": no such user | "exists"
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HEXISTS', KEYS[1], 'deleted_at') == 1 then return 'missing' end
if redis.call('EXISTS', KEYS[2]) == 1 then return 'exists' end
redis.call('HSET', KEYS[2], unpack(ARGV, 2))
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return 'created'
