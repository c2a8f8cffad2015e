-- Takes a place on a worker, credits and what is claimed of the breaker for one attempt, or says why not.
-- KEYS  books, credits, leases, leases of the worker, lease, breaker
-- ARGV  1 attempt  2 now  3 expires at  4 credits to reserve  5 capacity  6 request  7 worker  8 incarnation  9 model
--       10 the account's revision, or "": any  11 the breaker's revision, or "": any  12 what the breaker becomes (JSON), or ""
-- Result  { "unknown_account" | "drained" | "changed" | "exhausted" | "full" | "settled" } | { "breaker", the breaker or "" }
--       | { "acquired", granted, available, held, spent, open leases on the worker }
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

local account = redis.call('HMGET', KEYS[1], 'gate', 'revision')
if not account[1] then return { 'unknown_account' } end
if account[1] == 'drained' then return { 'drained' } end
if ARGV[10] ~= '' and account[2] ~= ARGV[10] then return { 'changed' } end
if ARGV[11] ~= '' then
  local breaker = redis.call('GET', KEYS[6])
  local revision = '0'
  if breaker then revision = cjson.decode(breaker).revision end
  if revision ~= ARGV[11] then return { 'breaker', breaker or '' } end
end
local open = redis.call('ZCOUNT', KEYS[4], '(' .. ARGV[2], '+inf')
if open >= tonumber(ARGV[5]) then return { 'full' } end
local reserved = tonumber(ARGV[4])
if credits.available < reserved then return { 'exhausted' } end

credits.available = credits.available - reserved
credits.held = credits.held + reserved
write_credits(KEYS[1], KEYS[2], credits)
redis.call('HSET', KEYS[5], 'credits', ARGV[4], 'request', ARGV[6], 'worker', ARGV[7], 'incarnation', ARGV[8], 'model', ARGV[9])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
redis.call('ZADD', KEYS[4], ARGV[3], ARGV[1])
if ARGV[12] ~= '' then redis.call('SET', KEYS[6], ARGV[12]) end
local result = { 'acquired', unpack(credits_reply(credits)) }
result[6] = open + 1
return result
