-- Creates a user with their first quota.
-- KEYS  user
-- ARGV  1 tier  2 quota  3 now, then more fields and their values
-- Result  1 | 0: there is one already, or was one
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'tier', ARGV[1], 'created_at', ARGV[3], 'granted', ARGV[2], 'available', ARGV[2], 'held', '0', 'spent', '0', unpack(ARGV, 4))
return 1
