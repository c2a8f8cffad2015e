-- Reads an account with its books, as they are at one moment.
-- KEYS  account, books, credits, conditions
-- ARGV  –
-- Result  nil: there is none | { record (JSON), conditions (JSON) or "", revision, granted, available, held, spent }
-- @include whole
-- @include credits
local record = redis.call('GET', KEYS[1])
if not record then return nil end
local credits = read_credits(KEYS[2], KEYS[3])
local result = { record, redis.call('GET', KEYS[4]) or '', redis.call('HGET', KEYS[2], 'revision') }
for _, amount in ipairs(credits_reply(credits)) do
  result[#result + 1] = amount
end
return result
