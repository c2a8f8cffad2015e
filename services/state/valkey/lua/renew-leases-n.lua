-- Moves the expiry of those attempts that are open leases of an account.
-- KEYS  leases, then the lease of each attempt; the sets of the workers' leases are named after KEYS[1], in the same slot
-- ARGV  1 expires at, then the attempts
-- Result  how many were moved
local moved = 0
for index = 2, #ARGV do
  local worker = redis.call('HGET', KEYS[index], 'worker')
  if worker then
    redis.call('ZADD', KEYS[1], 'XX', ARGV[1], ARGV[index])
    redis.call('ZADD', KEYS[1] .. ':' .. worker, 'XX', ARGV[1], ARGV[index])
    moved = moved + 1
  end
end
return moved
