-- Adds credits to an account, once for each grant.
-- KEYS  account, books, credits, credit-grants
-- ARGV  1 grant's id  2 amount  3 the largest amount
-- Result  "missing" | "too much" | { granted, available, held, spent }
-- @include whole
-- @include credits
if redis.call('EXISTS', KEYS[1]) == 0 then return 'missing' end
local credits = read_credits(KEYS[2], KEYS[3])
if redis.call('SISMEMBER', KEYS[4], ARGV[1]) == 1 then return credits_reply(credits) end
if not make_available(credits, credits.available + tonumber(ARGV[2]), tonumber(ARGV[3])) then return 'too much' end
redis.call('SADD', KEYS[4], ARGV[1])
write_credits(KEYS[2], KEYS[3], credits)
return credits_reply(credits)
