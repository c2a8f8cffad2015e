-- The one decision that lets a request in: takes everything that it needs, or nothing.
-- KEYS  user, key, holds, hold, entries, idempotency
-- ARGV  1 request  2 now  3 expires at  4 amount to hold  5 tokens  6 requests/min  7 tokens/min  8 concurrency  9 model
--       10 key's id  11 price (JSON) or ""  12 digest of the body, or "" without an idempotency key  13 when that key expires
-- Result  { verdict, requests level, tokens level, time of the levels, detail }; no levels if there is no such user or key. The detail is
--       what is available ("user_quota", "key_budget") or the other request ("other_body", "running", "billed").
-- The levels are those of limits.ts, which turns them into limits and waiting times.
-- @include whole
local level_unit = 60000
local request, now, amount, tokens = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])

local user = redis.call('HMGET', KEYS[1], 'available', 'held', 'requests', 'tokens', 'at')
local key = redis.call('HMGET', KEYS[2], 'id', 'revoked_at', 'expires_at', 'models', 'budget', 'held', 'spent')
if not user[1] or not key[1] then return { 'unauthenticated' } end

local at = tonumber(user[5] or ARGV[2])
local function refill(level, per_minute)
  local capacity = per_minute * level_unit
  if not level then return capacity end
  return math.min(capacity, tonumber(level) + per_minute * math.max(0, now - at))
end
local requests_level = refill(user[3], tonumber(ARGV[6]))
local tokens_level = refill(user[4], tonumber(ARGV[7]))
at = math.max(now, at)
local function say(verdict, detail)
  return { verdict, whole(requests_level), whole(tokens_level), whole(at), detail }
end

if redis.call('EXISTS', KEYS[4]) == 1 then return say('admitted') end
if redis.call('HEXISTS', KEYS[5], request) == 1 then return say('settled') end

if key[2] or (key[3] and tonumber(key[3]) <= now) then return say('unauthenticated') end
if key[4] then
  local allowed = false
  for _, model in ipairs(cjson.decode(key[4])) do
    allowed = allowed or model == ARGV[9]
  end
  if not allowed then return say('model_not_allowed') end
end

if ARGV[12] ~= '' then
  local known = redis.call('HMGET', KEYS[6], 'request', 'body', 'expires_at')
  if known[1] and tonumber(known[3]) > now then
    if known[2] ~= ARGV[12] then return say('other_body', known[1]) end
    if redis.call('ZSCORE', KEYS[3], known[1]) then return say('running', known[1]) end
    local entry = redis.call('HGET', KEYS[5], known[1])
    if entry then
      entry = cjson.decode(entry)
      if entry['end'] == 'END_FINISHED' or entry.costMicros ~= '0' then return say('billed', known[1]) end
    end
  end
end

if requests_level < level_unit then return say('requests_limited') end
if tokens_level < tokens * level_unit then return say('tokens_limited') end
if redis.call('ZCOUNT', KEYS[3], '(' .. ARGV[2], '+inf') >= tonumber(ARGV[8]) then return say('concurrency_limited') end

local available, key_held = tonumber(user[1]), tonumber(key[6])
if amount > available then return say('user_quota', user[1]) end
if key[5] then
  local room = tonumber(key[5]) - tonumber(key[7]) - key_held
  if amount > room then return say('key_budget', whole(math.max(0, room))) end
end

requests_level = requests_level - level_unit
tokens_level = tokens_level - tokens * level_unit
redis.call('HSET', KEYS[1], 'available', whole(available - amount), 'held', whole(tonumber(user[2]) + amount),
  'requests', whole(requests_level), 'tokens', whole(tokens_level), 'at', whole(at))
redis.call('HSET', KEYS[2], 'held', whole(key_held + amount))
redis.call('HSET', KEYS[4], 'key', ARGV[10], 'model', ARGV[9], 'micros', ARGV[4], 'tokens', ARGV[5], 'created_at', ARGV[2], 'price', ARGV[11])
redis.call('ZADD', KEYS[3], ARGV[3], request)
if ARGV[12] ~= '' then
  redis.call('HSET', KEYS[6], 'request', request, 'body', ARGV[12], 'expires_at', ARGV[13])
  redis.call('PEXPIRE', KEYS[6], whole(math.max(1, tonumber(ARGV[13]) - now)))
end
return say('admitted')
