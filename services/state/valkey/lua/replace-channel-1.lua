-- Writes or removes a channel if the stored one has the expected revision.
-- KEYS  channels
-- ARGV  1 id  2 expected revision; "": there is none  3 channel (JSON), with its new revision; "": remove it
-- Result  1 | 0: another was first
local channel = redis.call('HGET', KEYS[1], ARGV[1])
local revision = ''
if channel then revision = cjson.decode(channel).revision end
if revision ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
