-- Gives a redemption code to a user, once. What it is worth is granted after it, in the user's own slot, so the same user may claim it again.
-- KEYS  code
-- ARGV  1 user  2 now
-- Result  { "claimed", what it is worth } | { "unknown" | "used" | "expired" }
local code = redis.call('HMGET', KEYS[1], 'micros', 'expires_at', 'redeemed_by')
if not code[1] then return { 'unknown' } end
if code[3] and code[3] ~= ARGV[1] then return { 'used' } end
if not code[3] then
  if code[2] and tonumber(code[2]) <= tonumber(ARGV[2]) then return { 'expired' } end
  redis.call('HSET', KEYS[1], 'redeemed_by', ARGV[1], 'redeemed_at', ARGV[2])
end
return { 'claimed', code[1] }
