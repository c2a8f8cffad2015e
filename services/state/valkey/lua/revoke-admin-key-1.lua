-- Takes an admin key out, unless it is the last one that may do everything.
-- KEYS  admin keys
-- ARGV  1 its id
-- Result  "revoked" | "missing" | "last"
local keys = redis.call('HGETALL', KEYS[1])
local found, role
local admins = 0
for index = 1, #keys, 2 do
  local key = cjson.decode(keys[index + 1])
  -- One from before there were roles.
  if type(key) ~= 'table' then key = { id = 'admin_' .. string.sub(keys[index], 1, 16), role = 'ADMIN_ROLE_ADMIN' } end
  if key.role == 'ADMIN_ROLE_ADMIN' then admins = admins + 1 end
  if key.id == ARGV[1] then
    found = keys[index]
    role = key.role
  end
end
if not found then return 'missing' end
if role == 'ADMIN_ROLE_ADMIN' and admins < 2 then return 'last' end
redis.call('HDEL', KEYS[1], found)
return 'revoked'
