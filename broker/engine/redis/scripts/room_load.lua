-- Make a node the owner of a room with code, unless another node that is alive owns it, and read what is stored of it.
--
-- KEYS: hash of the owner and the state; hash of the timers; time of each node's latest heartbeat.
-- ARGV: node, length of a lease (ms), expiry (ms) of the first hash if it holds no state and there are no timers.
-- Returns the owner, if that is another node; 0 if the node has no lease itself; else an array: fencing number; why the
--   room comes from another node, `lost` or `released`, else empty; name and time (ms) of each timer; and the class, version
--   and content of the state, if there is one.
--
-- A hash that holds no state keeps the fencing number, and the node that left the room. It expires, as a node that dies
-- leaves it behind.

local code, alive, node, lease_ms = KEYS[1], KEYS[3], ARGV[1], tonumber(ARGV[2])
if lease_age_ms(alive, node) > lease_ms then
  return 0
end
local owner, fence, left, class, version, content = unpack(
  redis.call('HMGET', code, 'node', 'fence', 'left', 'class', 'version', 'content')
)
if owner and owner ~= node and lease_age_ms(alive, owner) <= lease_ms then
  return owner
end
local timers = redis.call('HGETALL', KEYS[2])
local move = owner and owner ~= node and 'lost' or left and left ~= node and 'released' or ''
-- By the clock as well, so that numbers rise after a loss of the hash too.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local number = math.max(tonumber(fence or '0') + 1, now_ms)
redis.call('HSET', code, 'node', node, 'fence', string.format('%.0f', number))
redis.call('HDEL', code, 'left')
if class or #timers > 0 then
  redis.call('PERSIST', code)
else
  redis.call('PEXPIRE', code, ARGV[3])
end
if class then
  return { number, move, timers, class, version, content }
end
return { number, move, timers }
