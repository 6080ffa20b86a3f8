-- Give a room with code up, if a node owns it.
--
-- KEYS: hash of the owner and the state; hash of the timers.
-- ARGV: node, its fencing number, expiry (ms) of the hash if it holds no state.
-- Returns 1 if the node owned the room, else 0.

local owner, fence, class = unpack(redis.call('HMGET', KEYS[1], 'node', 'fence', 'class'))
if owner ~= ARGV[1] or fence ~= ARGV[2] then
  return 0
end
local has_timers = redis.call('HLEN', KEYS[2]) > 0
-- First, as it needs no memory: Redis lets a script go on that has begun to write.
redis.call('HDEL', KEYS[1], 'node')
redis.call('HSET', KEYS[1], 'left', ARGV[1])
if not class and not has_timers then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
