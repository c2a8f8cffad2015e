-- Renews a worker's lease. A changed worker is written only with a new revision.
-- KEYS  pod
-- ARGV  1 incarnation  2 now  3 expires at  4 time to live, in ms  5 new revision, or ""  6 digest of the worker  7 worker (JSON)
-- Result  { "lost" } | { "same" } | { "differs" }: come back with a revision | { "changed", the record that was there (JSON) }
-- @include whole
-- @include pod
local before = redis.call('GET', KEYS[1])
if not before then return { 'lost' } end
local pod = cjson.decode(before)
if pod.incarnation ~= ARGV[1] or pod.expiresAt <= tonumber(ARGV[2]) then return { 'lost' } end
local revision = whole(pod.revision)
local verdict = { 'same' }
if pod.digest ~= ARGV[6] then
  if ARGV[5] == '' then return { 'differs' } end
  revision = ARGV[5]
  verdict = { 'changed', before }
end
redis.call('SET', KEYS[1], pod_text(ARGV[1], whole(pod.registeredAt), ARGV[3], revision, ARGV[6], ARGV[7]), 'PX', ARGV[4])
return verdict
