-- Takes the leader's lock, or renews it for its owner. The epoch grows whenever the lock changes hands, and is `now` at least.
-- KEYS  lock, epoch
-- ARGV  1 owner  2 now  3 expires at  4 time to live, in ms
-- Result  { 1: leads, 0: not; owner; epoch; what is left, in ms }
local now = tonumber(ARGV[2])
local lock = redis.call('GET', KEYS[1])
local epoch
if lock then
  lock = cjson.decode(lock)
  if lock.expiresAt > now then
    if lock.owner ~= ARGV[1] then
      -- The server lets it go by its own clock, which may be ahead of the caller's.
      return { 0, lock.owner, lock.epoch, math.min(lock.expiresAt - now, redis.call('PTTL', KEYS[1])) }
    end
    epoch = lock.epoch
  end
end
if not epoch then
  epoch = math.max(tonumber(redis.call('GET', KEYS[2]) or 0) + 1, now)
  redis.call('SET', KEYS[2], string.format('%.0f', epoch))
end
local text = '{"owner":' .. cjson.encode(ARGV[1]) .. ',"epoch":' .. string.format('%.0f', epoch) .. ',"expiresAt":' .. ARGV[3] .. '}'
redis.call('SET', KEYS[1], text, 'PX', ARGV[4])
return { 1, ARGV[1], epoch, tonumber(ARGV[4]) }
