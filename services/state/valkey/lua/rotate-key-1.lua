-- Gives an API key another secret; the present one becomes the previous one.
-- KEYS  key
-- ARGV  1 hash  2 prefix  3 when the present secret ends
-- Result  nil: there is no such key | the hash that finds it no more, or ""
local key = redis.call('HMGET', KEYS[1], 'id', 'hash', 'previous_hash')
if not key[1] then return nil end
-- A repeated call has done its work.
if key[2] == ARGV[1] then return '' end
redis.call('HSET', KEYS[1], 'previous_hash', key[2] or '', 'previous_ends_at', ARGV[3], 'hash', ARGV[1], 'prefix', ARGV[2])
return key[3] or ''
