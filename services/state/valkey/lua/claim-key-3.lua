-- Enters an API key's id and hash into the directory of all keys, unless another key has either.
-- KEYS  owners, hashes, ids
-- ARGV  1 key's id  2 its hash  3 its user
-- Result  1: they are this key's | 0: one of them is another key's
local owner = redis.call('HGET', KEYS[1], ARGV[1])
local holder = redis.call('HGET', KEYS[2], ARGV[2])
if owner or holder then
  if owner == ARGV[3] and holder == ARGV[1] then return 1 end
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return 1
