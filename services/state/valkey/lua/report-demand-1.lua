-- Says how many requests wait for a model at one scheduler, and forgets what other schedulers said too long ago.
-- KEYS  demand of the model
-- ARGV  1 scheduler  2 waiting; "0" takes it back  3 now  4 expires at  5 time to live, in ms
-- Result  1: not what it said before | 0
local reports = redis.call('HGETALL', KEYS[1])
local before = '0'
for index = 1, #reports, 2 do
  local waiting, expires_at = string.match(reports[index + 1], '^(%d+):(%d+)$')
  if tonumber(expires_at) <= tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], reports[index])
  elseif reports[index] == ARGV[1] then
    before = waiting
  end
end
if ARGV[2] == '0' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ':' .. ARGV[4])
  if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[5]) then redis.call('PEXPIRE', KEYS[1], ARGV[5]) end
end
if before == ARGV[2] then return 0 end
return 1
