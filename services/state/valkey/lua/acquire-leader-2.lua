-- Takes the leader's lock, or renews it for its owner. The epoch grows whenever the lock changes hands.
-- KEYS  lock, epoch
-- ARGV  1 owner  2 now  3 expires at  4 time to live, in ms
-- Result  { 1: leads, 0: not; owner; epoch }
local lock = redis.call('GET', KEYS[1])
local epoch
if lock then
  lock = cjson.decode(lock)
  if lock.expiresAt > tonumber(ARGV[2]) then
    if lock.owner ~= ARGV[1] then return { 0, lock.owner, lock.epoch } end
    epoch = lock.epoch
  end
end
epoch = epoch or redis.call('INCR', KEYS[2])
local text = '{"owner":' .. cjson.encode(ARGV[1]) .. ',"epoch":' .. epoch .. ',"expiresAt":' .. ARGV[3] .. '}'
redis.call('SET', KEYS[1], text, 'PX', ARGV[4])
return { 1, ARGV[1], epoch }
