-- Ends a user and revokes all of their keys. Everything that is counted stays.
-- KEYS  user, the ids of their keys
-- ARGV  1 now  2 what API keys' names begin with
-- Result  1 | 0: there is no such user, or no more
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HSETNX', KEYS[1], 'deleted_at', ARGV[1]) == 0 then return 0 end
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  redis.call('HSETNX', ARGV[2] .. id, 'revoked_at', ARGV[1])
end
return 1
