-- Takes a place on a worker and reserves credits for one attempt, or says why not.
-- KEYS  books, credits, leases, leases of the worker, lease
-- ARGV  1 attempt  2 now  3 expires at  4 credits to reserve  5 capacity  6 request  7 worker  8 incarnation  9 model
-- Result  { "unknown_account" | "drained" | "exhausted" | "full" | "settled" }
--       | { "acquired", granted, available, held, spent }
--       | { "known", granted, available, held, spent, expires at, credits, request, worker, incarnation, model }
-- @include whole
-- @include credits
local lease = redis.call('HMGET', KEYS[5], 'settled', 'credits', 'request', 'worker', 'incarnation', 'model')
if lease[1] then return { 'settled' } end
local credits = read_credits(KEYS[1], KEYS[2])
if lease[2] then
  local result = { 'known', unpack(credits_reply(credits)) }
  result[6] = redis.call('ZSCORE', KEYS[3], ARGV[1])
  for field = 2, 6 do
    result[#result + 1] = lease[field]
  end
  return result
end

local gate = redis.call('HGET', KEYS[1], 'gate')
if not gate then return { 'unknown_account' } end
if gate == 'drained' then return { 'drained' } end
if redis.call('ZCOUNT', KEYS[4], '(' .. ARGV[2], '+inf') >= tonumber(ARGV[5]) then return { 'full' } end
local reserved = tonumber(ARGV[4])
if credits.available < reserved then return { 'exhausted' } end

credits.available = credits.available - reserved
credits.held = credits.held + reserved
write_credits(KEYS[1], KEYS[2], credits)
redis.call('HSET', KEYS[5], 'credits', ARGV[4], 'request', ARGV[6], 'worker', ARGV[7], 'incarnation', ARGV[8], 'model', ARGV[9])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
redis.call('ZADD', KEYS[4], ARGV[3], ARGV[1])
return { 'acquired', unpack(credits_reply(credits)) }
