-- Deletes entries of a user's ledger.
-- KEYS  usage, entries
-- ARGV  the requests
-- Result  how many were there
redis.call('ZREM', KEYS[1], unpack(ARGV))
return redis.call('HDEL', KEYS[2], unpack(ARGV))
