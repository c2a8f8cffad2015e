-- Takes out a worker whose lease has ended.
-- KEYS  pod
-- ARGV  1 now
-- Result  1: it is gone | 0: it lives
local pod = redis.call('GET', KEYS[1])
if not pod then return 1 end
if cjson.decode(pod).expiresAt > tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
return 1
