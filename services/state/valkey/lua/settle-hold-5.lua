-- Ends a hold: charges the user and the key (charges.ts, holdCharge), releases the rest, corrects the token bucket, writes the ledger's entry.
-- KEYS  user, hold, holds, usage, entries; the API key is named by the hold, in the same slot
-- ARGV  1 request  2 cost  3 tokens that were used  4 now  5 the entry (JSON) without key, model and cost  6 what API keys' names begin with
-- Result  nil: no such hold | { 1: settled now, 0: before; the entry (JSON) }
-- @include whole
local entry = redis.call('HGET', KEYS[5], ARGV[1])
if entry then return { 0, entry } end
local hold = redis.call('HMGET', KEYS[2], 'micros', 'tokens', 'key', 'model')
if not hold[1] then return nil end

local held = tonumber(hold[1])
local user = redis.call('HMGET', KEYS[1], 'available', 'held', 'spent', 'tokens')
local key_name = ARGV[6] .. hold[3]
local key = redis.call('HMGET', key_name, 'budget', 'held', 'spent')
local free = held + tonumber(user[1])
local charge = math.min(tonumber(ARGV[2]), free)
if key[1] then charge = math.min(charge, tonumber(key[1]) - tonumber(key[3]) - tonumber(key[2]) + held) end

redis.call('HSET', KEYS[1], 'available', whole(free - charge), 'held', whole(tonumber(user[2]) - held), 'spent', whole(tonumber(user[3]) + charge))
if user[4] then
  -- In limits.ts's units. A bucket may go into debt.
  redis.call('HSET', KEYS[1], 'tokens', whole(tonumber(user[4]) + (tonumber(hold[2]) - tonumber(ARGV[3])) * 60000))
end
redis.call('HSET', key_name, 'held', whole(tonumber(key[2]) - held), 'spent', whole(tonumber(key[3]) + charge))
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
entry = '{"keyId":' .. cjson.encode(hold[3]) .. ',"model":' .. cjson.encode(hold[4]) .. ',"costMicros":"' .. whole(charge) .. '",' .. string.sub(ARGV[5], 2)
redis.call('HSET', KEYS[5], ARGV[1], entry)
redis.call('ZADD', KEYS[4], ARGV[4], ARGV[1])
return { 1, entry }
