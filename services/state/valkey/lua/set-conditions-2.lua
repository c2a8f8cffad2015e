-- Replaces an account's conditions, if there is the account.
-- KEYS  account, conditions
-- ARGV  1 conditions (JSON)
-- Result  1 | 0: there is no such account
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[1])
return 1
