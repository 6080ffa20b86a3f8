-- Tell of a node's users in a room: all of them, or what has changed since it told last.
--
-- KEYS: version and size by node, the node's users in the room, when each node was last heard of, the rooms that
--   somebody is in.
-- ARGV: node, how long a lease lasts and how long this is remembered (ms), channel, version told last or 0 to tell
--   all, room, how many connections there are in all; then a user and how many of them are his, for each.
-- Returns the new version; 0 if what was told before is lost, and all must be told; -1 if the node has no lease.

local nodes, users, node = KEYS[1], KEYS[2], ARGV[1]
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local seen = redis.call('ZSCORE', KEYS[3], node)
if not seen or tonumber(seen) < now_us / 1000 - tonumber(ARGV[2]) then
  return -1
end
local before = tonumber(string.match(redis.call('HGET', nodes, node) or '0', '^%d+'))
local follows = tonumber(ARGV[5])
if follows ~= 0 and follows ~= before then
  return 0
end
local version = math.max(now_us, before + 1)
redis.call('HSET', nodes, node, string.format('%.0f ', version) .. ARGV[7])
redis.call('ZADD', KEYS[4], 0, ARGV[6])
if follows == 0 then
  redis.call('DEL', users)
end
local counts = {}
for at = 8, #ARGV, 2 do
  local count = tonumber(ARGV[at + 1])
  if count == 0 then
    redis.call('HDEL', users, ARGV[at])
  else
    redis.call('HSET', users, ARGV[at], count)
  end
  counts[#counts + 1] = ARGV[at]
  counts[#counts + 1] = count
end
if redis.call('HLEN', users) == 0 then
  redis.call('HDEL', nodes, node)
end
if redis.call('HLEN', nodes) == 0 then
  redis.call('ZREM', KEYS[4], ARGV[6])
end
redis.call('PEXPIRE', nodes, ARGV[3])
redis.call('PEXPIRE', users, ARGV[3])
redis.call('PUBLISH', ARGV[4], cmsgpack.pack({ node, version, follows, counts }))
return version
