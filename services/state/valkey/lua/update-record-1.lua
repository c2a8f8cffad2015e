-- Changes fields of a user or an API key.
-- KEYS  record
-- ARGV  1 how many arguments set, then fields with their values, then the fields to delete
-- Result  1 | 0: there is no such record, or no more
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HEXISTS', KEYS[1], 'deleted_at') == 1 then return 0 end
local last = 1 + tonumber(ARGV[1])
if last > 1 then redis.call('HSET', KEYS[1], unpack(ARGV, 2, last)) end
if #ARGV > last then redis.call('HDEL', KEYS[1], unpack(ARGV, last + 1)) end
return 1
