-- The books of an account's credits. `available` stands in a key of its own; granted = available + held + spent after every script.
local function read_credits(books_key, credits_key)
  local books = redis.call('HMGET', books_key, 'granted', 'held', 'spent')
  return {
    granted = tonumber(books[1] or '0'),
    available = tonumber(redis.call('GET', credits_key) or '0'),
    held = tonumber(books[2] or '0'),
    spent = tonumber(books[3] or '0'),
  }
end

local function write_credits(books_key, credits_key, credits)
  redis.call('HSET', books_key, 'granted', whole(credits.granted), 'held', whole(credits.held), 'spent', whole(credits.spent))
  redis.call('SET', credits_key, whole(credits.available))
end

-- granted, available, held, spent
local function credits_reply(credits)
  return { whole(credits.granted), whole(credits.available), whole(credits.held), whole(credits.spent) }
end

-- Makes `amount` available by granting or withdrawing the difference. false: more would be granted in all than an amount can be.
local function make_available(credits, amount, max)
  local granted = credits.held + credits.spent + amount
  if granted > max then return false end
  credits.granted = granted
  credits.available = amount
  return true
end
