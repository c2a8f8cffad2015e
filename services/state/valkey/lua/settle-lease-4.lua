-- Ends a lease: charges the account (charges.ts, leaseCharge), releases the rest, and remembers for a while what was charged.
-- KEYS  books, credits, leases, lease; the set of the worker's leases is named after KEYS[3], in the same slot
-- ARGV  1 attempt  2 credits that the agent reported, or ""  3 "1" if there was content  4 how long to remember, in ms
-- Result  nil: no such attempt | { "settled" or "known", charged, granted, available, held, spent }
-- @include whole
-- @include credits
local lease = redis.call('HMGET', KEYS[4], 'settled', 'credits', 'worker')
if not lease[1] and not lease[2] then return nil end
local credits = read_credits(KEYS[1], KEYS[2])
if lease[1] then return { 'known', lease[1], unpack(credits_reply(credits)) } end

local reserved = tonumber(lease[2])
local due = 0
if ARGV[2] ~= '' then due = tonumber(ARGV[2]) elseif ARGV[3] == '1' then due = reserved end
local charge = math.min(due, reserved + credits.available)
credits.available = reserved + credits.available - charge
credits.held = credits.held - reserved
credits.spent = credits.spent + charge
write_credits(KEYS[1], KEYS[2], credits)
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[3] .. ':' .. lease[3], ARGV[1])
redis.call('DEL', KEYS[4])
redis.call('HSET', KEYS[4], 'settled', whole(charge))
redis.call('PEXPIRE', KEYS[4], ARGV[4])
return { 'settled', whole(charge), unpack(credits_reply(credits)) }
