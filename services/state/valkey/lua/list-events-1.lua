-- Events after a revision, and the newest revision, as they are at one moment.
-- KEYS  events (stream)
-- ARGV  1 revision  2 at most so many
-- Result  { newest revision, { { id, { "event", event (JSON) } }, … } }
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if not newest[1] then return { 0, {} } end
local events = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])
return { tonumber(string.match(newest[1][1], '^%d+')), events }
