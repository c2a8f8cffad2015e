-- Remembers an outcome: the first one of an attempt, and the first one with content of its request.
-- KEYS  the attempt's outcome, the request's final one
-- ARGV  1 outcome with its expiry (JSON)  2 "1" if there was content  3 time to live, in ms
-- Result  1: it is the attempt's | 0: the attempt has another one
local first = redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3], 'NX')
if not first then return 0 end
if ARGV[2] == '1' then redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3], 'NX') end
return 1
