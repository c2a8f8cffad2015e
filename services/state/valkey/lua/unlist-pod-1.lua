-- Takes a worker out of the index, if nobody entered it again meanwhile.
-- KEYS  index
-- ARGV  1 worker's id  2 the index's entry that was read
-- Result  1 | 0: it is another entry now
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
