-- Ends a hold: charges the user and the key (charges.ts, holdCharge), releases the rest, corrects the token buckets, writes the ledger's entry.
-- KEYS  user, hold, holds, usage, entries; the API key and its holds are named by the hold, in the same slot
-- ARGV  1 request  2 cost  3 tokens that were used  4 now  5 the entry (JSON) without key, model and cost  6 what API keys' names begin with
--       7 what the names of their holds begin with
-- Result  nil: no such hold | { 1: settled now, 0: before; the entry (JSON) }
-- @include whole
-- @include budget
local entry = redis.call('HGET', KEYS[5], ARGV[1])
if entry then return { 0, entry } end
local hold = redis.call('HMGET', KEYS[2], 'micros', 'tokens', 'key', 'model', 'user_budget', 'user_period', 'key_budget', 'key_period')
if not hold[1] then return nil end

local held = tonumber(hold[1])
local user = redis.call('HMGET', KEYS[1], 'available', 'held', 'spent', 'tokens', 'period', 'period_spent', 'period_held')
local key_name = ARGV[6] .. hold[3]
local key = redis.call('HMGET', key_name, 'held', 'spent', 'tokens', 'period', 'period_spent', 'period_held')
local free = held + tonumber(user[1])
local charge = math.min(tonumber(ARGV[2]), free,
  budget_room(hold[5], hold[6], held, user[3], user[2], user[5], user[6], user[7]) or free,
  budget_room(hold[7], hold[8], held, key[2], key[1], key[4], key[5], key[6]) or free)

-- What changes of a user or key. In limits.ts's units; a bucket may go into debt.
local function settled(record, spent, tokens, hold_period, period, period_spent, period_held)
  local fields = { 'held', whole(tonumber(record) - held), 'spent', whole(tonumber(spent) + charge) }
  if tokens then
    fields[#fields + 1] = 'tokens'
    fields[#fields + 1] = whole(tonumber(tokens) + (tonumber(hold[2]) - tonumber(ARGV[3])) * 60000)
  end
  if hold_period and hold_period ~= '' and hold_period == period then
    for _, each in ipairs({ 'period_spent', whole(tonumber(period_spent) + charge), 'period_held', whole(tonumber(period_held) - held) }) do
      fields[#fields + 1] = each
    end
  end
  return fields
end
redis.call('HSET', KEYS[1], 'available', whole(free - charge), unpack(settled(user[2], user[3], user[4], hold[6], user[5], user[6], user[7])))
redis.call('HSET', key_name, unpack(settled(key[1], key[2], key[3], hold[8], key[4], key[5], key[6])))
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', ARGV[7] .. hold[3], ARGV[1])
entry = '{"keyId":' .. cjson.encode(hold[3]) .. ',"model":' .. cjson.encode(hold[4]) .. ',"costMicros":"' .. whole(charge) .. '",' .. string.sub(ARGV[5], 2)
redis.call('HSET', KEYS[5], ARGV[1], entry)
redis.call('ZADD', KEYS[4], ARGV[4], ARGV[1])
return { 1, entry }
