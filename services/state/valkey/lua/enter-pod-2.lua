-- Enters a worker in the index, with a new revision of the directory.
-- KEYS  index, revision
-- ARGV  1 worker's id  2 incarnation  3 models (JSON)  4 nobody takes it for dead before this time
-- Result  the revision
local revision = redis.call('INCR', KEYS[2])
local entry = '{"incarnation":' .. cjson.encode(ARGV[2]) .. ',"models":' .. ARGV[3] .. ',"until":' .. ARGV[4] .. ',"revision":' .. revision .. '}'
redis.call('HSET', KEYS[1], ARGV[1], entry)
return revision
