-- Appends an event, with the next revision as its id; the oldest beyond the limit go.
-- KEYS  events (stream)
-- ARGV  1 event (JSON)  2 how many to keep
-- Result  its revision
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local revision = 1
if newest[1] then revision = tonumber(string.match(newest[1][1], '^%d+')) + 1 end
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], revision .. '-0', 'event', ARGV[1])
return revision
