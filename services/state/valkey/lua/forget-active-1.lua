-- Takes an entity out of the index of active ones, unless it was marked lately.
-- KEYS  index of active ones
-- ARGV  1 entity's id  2 marks before this time are old
-- Result  1 | 0
local marked_at = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not marked_at or tonumber(marked_at) >= tonumber(ARGV[2]) then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])
