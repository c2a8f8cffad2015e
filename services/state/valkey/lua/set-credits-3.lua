-- Makes an account's available credits this amount.
-- KEYS  account, books, credits
-- ARGV  1 amount  2 the largest amount
-- Result  "missing" | "too much" | { granted, available, held, spent }
-- @include whole
-- @include credits
if redis.call('EXISTS', KEYS[1]) == 0 then return 'missing' end
local credits = read_credits(KEYS[2], KEYS[3])
if not make_available(credits, tonumber(ARGV[1]), tonumber(ARGV[2])) then return 'too much' end
write_credits(KEYS[2], KEYS[3], credits)
return credits_reply(credits)
