-- Announce a node's users in a room: all of them, or those changed since the node's last announcement.
--
-- KEYS: version and size by node; the node's users in the room; time of each node's latest heartbeat; rooms with
--   members.
-- ARGV: node, length of a lease (ms), expiry of the users (ms), channel, version announced last or 0 for all users,
--   room, connections in total; then user and connections, for each user.
-- Returns the new version; 0 if the last announcement is lost, so that all users are needed; -1 without a lease.

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
