-- Read what is stored of a room with code, and which node owns it. Changes nothing.
--
-- KEYS: hash of the owner and the state; hash of the timers; time of each node's latest heartbeat.
-- ARGV: length of a lease (ms).
-- Returns the owner, empty if there is none that is alive; name and time (ms) of each timer; and the class, version and
--   content of the state, if there is one.

local owner, class, version, content = unpack(
  redis.call('HMGET', KEYS[1], 'node', 'class', 'version', 'content')
)
if not owner or lease_age_ms(KEYS[3], owner) > tonumber(ARGV[1]) then
  owner = ''
end
local timers = redis.call('HGETALL', KEYS[2])
if class then
  return { owner, timers, class, version, content }
end
return { owner, timers }
