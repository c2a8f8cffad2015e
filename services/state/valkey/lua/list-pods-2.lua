-- Which workers are entered, and the revision that the directory had at that moment.
-- KEYS  index, revision
-- ARGV  –
-- Result  { revision, { id, … } }
return { redis.call('GET', KEYS[2]) or '0', redis.call('HKEYS', KEYS[1]) }
