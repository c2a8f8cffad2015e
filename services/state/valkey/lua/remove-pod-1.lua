-- Takes out this incarnation of a worker.
-- KEYS  pod
-- ARGV  1 incarnation
-- Result  1 | 0: it is not there
local pod = redis.call('GET', KEYS[1])
if not pod or cjson.decode(pod).incarnation ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
