-- Adds to a user's quota, once for each grant.
-- KEYS  user, quota-grants
-- ARGV  1 grant's id  2 amount  3 the largest amount
-- Result  "granted" | "repeated" | "missing" | "too much"
-- @include whole
local user = redis.call('HMGET', KEYS[1], 'granted', 'available', 'deleted_at')
if not user[1] or user[3] then return 'missing' end
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 'repeated' end
local amount = tonumber(ARGV[2])
local granted = tonumber(user[1]) + amount
if granted > tonumber(ARGV[3]) then return 'too much' end
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[1], 'granted', whole(granted), 'available', whole(tonumber(user[2]) + amount))
return 'granted'
