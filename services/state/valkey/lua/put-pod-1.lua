-- Enters or replaces a worker, with a lease.
-- KEYS  pod
-- ARGV  1 incarnation  2 now  3 expires at  4 time to live, in ms  5 revision  6 digest of the worker  7 worker (JSON)
-- Result  { when it registered, the record that was there (JSON) or "" }
-- @include whole
-- @include pod
local before = redis.call('GET', KEYS[1])
local registered_at = ARGV[2]
if before then
  local pod = cjson.decode(before)
  if pod.incarnation == ARGV[1] then registered_at = whole(pod.registeredAt) end
end
redis.call('SET', KEYS[1], pod_text(ARGV[1], registered_at, ARGV[3], ARGV[5], ARGV[6], ARGV[7]), 'PX', ARGV[4])
return { registered_at, before or '' }
