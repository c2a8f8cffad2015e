-- Writes a breaker if the stored one has the expected revision.
-- KEYS  breaker
-- ARGV  1 expected revision; "0": there is none  2 breaker (JSON), with its new revision
-- Result  1 | 0: another was first
local breaker = redis.call('GET', KEYS[1])
local revision = '0'
if breaker then revision = cjson.decode(breaker).revision end
if revision ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
