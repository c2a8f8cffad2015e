-- A worker's record: what the directory adds, and the worker as it was sent.
local function pod_text(incarnation, registered_at, expires_at, revision, digest, worker)
  return '{"incarnation":' .. cjson.encode(incarnation) .. ',"registeredAt":' .. registered_at .. ',"expiresAt":' .. expires_at
    .. ',"revision":' .. revision .. ',"digest":"' .. digest .. '","worker":' .. worker .. '}'
end
