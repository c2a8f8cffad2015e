-- The one decision that lets a request in: takes everything that it needs, or nothing.
-- KEYS  user, key, holds, hold, entries, idempotency, the key's holds
-- ARGV  1 request  2 now  3 expires at  4 amount to hold  5 tokens  6 requests/min  7 tokens/min  8 concurrency  9 model
--       10 key's id  11 price (JSON) or ""  12 digest of the body, or "" without an idempotency key  13 when that key expires
--       14 beginning of the day  15 of the week  16 of the month  17 budget of users without their own, or ""  18 its window
-- Result  { verdict, detail, more, user's requests level, tokens level, time of the levels, then of the key, where it has limits: requests/min or
--       "", tokens/min or "", requests level, tokens level, time }; the verdict alone if there is no such user or key. The detail is what is
--       available ("user_quota", "user_budget", "key_budget"; more: the budget's window), the other request ("other_body", "running",
--       "billed"), or the limit ("concurrency_limited"); for limits, more is whose: "user" or "key".
-- The levels are those of limits.ts, which turns them into limits and waiting times.
-- @include whole
-- @include budget
local level_unit = 60000
local request, now, amount, tokens = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5])
local starts = { ['2'] = ARGV[14], ['3'] = ARGV[15], ['4'] = ARGV[16] }

local user = redis.call('HMGET', KEYS[1], 'available', 'held', 'requests', 'tokens', 'at', 'disabled', 'deleted_at',
  'budget', 'window', 'spent', 'period', 'period_spent', 'period_held')
local key = redis.call('HMGET', KEYS[2], 'id', 'revoked_at', 'expires_at', 'models', 'budget', 'held', 'spent', 'window',
  'period', 'period_spent', 'period_held', 'rpm', 'tpm', 'concurrency', 'requests', 'tokens', 'at')
if not user[1] or user[7] or not key[1] then return { 'unauthenticated' } end

-- A bucket as it is now: refilled up to a minute's worth.
local function bucket(rpm, tpm, requests, level, at)
  local seen = tonumber(at or ARGV[2])
  local function refill(stored, per_minute)
    if not per_minute then return nil end
    local capacity = per_minute * level_unit
    if not stored then return capacity end
    return math.min(capacity, tonumber(stored) + per_minute * math.max(0, now - seen))
  end
  return { rpm = rpm, tpm = tpm, requests = refill(requests, rpm), tokens = refill(level, tpm), at = math.max(now, seen) }
end
local of_user = bucket(tonumber(ARGV[6]), tonumber(ARGV[7]), user[3], user[4], user[5])
local of_key = (key[12] or key[13] or key[14]) and bucket(tonumber(key[12] or ''), tonumber(key[13] or ''), key[15], key[16], key[17])

local function say(verdict, detail, more)
  local reply = { verdict, detail or '', more or '', whole(of_user.requests), whole(of_user.tokens), whole(of_user.at) }
  if of_key then
    local levels = { key[12] or '', key[13] or '', of_key.requests and whole(of_key.requests) or '', of_key.tokens and whole(of_key.tokens) or '', whole(of_key.at) }
    for _, each in ipairs(levels) do reply[#reply + 1] = each end
  end
  return reply
end

if redis.call('EXISTS', KEYS[4]) == 1 then return say('admitted') end
if redis.call('HEXISTS', KEYS[5], request) == 1 then return say('settled') end

if key[2] or (key[3] and tonumber(key[3]) <= now) then return say('unauthenticated') end
if user[6] == '1' then return say('disabled') end
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

if of_user.requests < level_unit then return say('requests_limited', ARGV[6], 'user') end
if of_key and of_key.requests and of_key.requests < level_unit then return say('requests_limited', key[12], 'key') end
if of_user.tokens < tokens * level_unit then return say('tokens_limited', ARGV[7], 'user') end
if of_key and of_key.tokens and of_key.tokens < tokens * level_unit then return say('tokens_limited', key[13], 'key') end
if redis.call('ZCOUNT', KEYS[3], '(' .. ARGV[2], '+inf') >= tonumber(ARGV[8]) then
  return say('concurrency_limited', ARGV[8], 'user')
end
if key[14] and redis.call('ZCOUNT', KEYS[7], '(' .. ARGV[2], '+inf') >= tonumber(key[14]) then
  return say('concurrency_limited', key[14], 'key')
end

local available, key_held = tonumber(user[1]), tonumber(key[6])
if amount > available then return say('user_quota', user[1]) end
local user_budget, user_window = user[8] or ARGV[17], user[8] and user[9] or ARGV[18]
local user_counted, key_counted
if user_budget ~= '' then
  user_counted = counted(user_window, starts, user[10], user[2], user[11], user[12], user[13])
  local room = tonumber(user_budget) - user_counted.spent - user_counted.held
  if amount > room then return say('user_budget', whole(math.max(0, room)), user_window) end
end
if key[5] then
  key_counted = counted(key[8], starts, key[7], key[6], key[9], key[10], key[11])
  local room = tonumber(key[5]) - key_counted.spent - key_counted.held
  if amount > room then return say('key_budget', whole(math.max(0, room)), key[8] or '1') end
end

of_user.requests = of_user.requests - level_unit
of_user.tokens = of_user.tokens - tokens * level_unit
local user_fields = { 'available', whole(available - amount), 'held', whole(tonumber(user[2]) + amount),
  'requests', whole(of_user.requests), 'tokens', whole(of_user.tokens), 'at', whole(of_user.at) }
local key_fields = { 'held', whole(key_held + amount) }
local hold_fields = { 'key', ARGV[10], 'model', ARGV[9], 'micros', ARGV[4], 'tokens', ARGV[5], 'created_at', ARGV[2], 'price', ARGV[11] }
local function add(list, ...)
  for _, each in ipairs({ ... }) do list[#list + 1] = each end
end
if of_key then
  if of_key.requests then of_key.requests = of_key.requests - level_unit; add(key_fields, 'requests', whole(of_key.requests)) end
  if of_key.tokens then of_key.tokens = of_key.tokens - tokens * level_unit; add(key_fields, 'tokens', whole(of_key.tokens)) end
  add(key_fields, 'at', whole(of_key.at))
end
if user_counted then
  add(hold_fields, 'user_budget', user_budget, 'user_period', user_counted.period)
  if user_counted.period ~= '' then
    add(user_fields, 'period', user_counted.period, 'period_spent', whole(user_counted.spent), 'period_held', whole(user_counted.held + amount))
  end
end
if key_counted then
  add(hold_fields, 'key_budget', key[5], 'key_period', key_counted.period)
  if key_counted.period ~= '' then
    add(key_fields, 'period', key_counted.period, 'period_spent', whole(key_counted.spent), 'period_held', whole(key_counted.held + amount))
  end
end
redis.call('HSET', KEYS[1], unpack(user_fields))
redis.call('HSET', KEYS[2], unpack(key_fields))
redis.call('HSET', KEYS[4], unpack(hold_fields))
redis.call('ZADD', KEYS[3], ARGV[3], request)
if key[14] then redis.call('ZADD', KEYS[7], ARGV[3], request) end
if ARGV[12] ~= '' then
  redis.call('HSET', KEYS[6], 'request', request, 'body', ARGV[12], 'expires_at', ARGV[13])
  redis.call('PEXPIRE', KEYS[6], whole(math.max(1, tonumber(ARGV[13]) - now)))
end
return say('admitted')
