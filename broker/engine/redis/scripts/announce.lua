-- Announce a node's members in a room: all of them, or those changed since the node's last announcement.
--
-- KEYS: version and size by node; the node's users in the room; its members; time of each node's latest heartbeat;
--   rooms with members.
-- ARGV: node, length of a lease (ms), expiry of the members (ms), channel, version announced last or 0 for all members,
--   room, connections in total, number of users; then user and connections, for each user; then connection and what it
--   shows, for each member, empty for one that left.
-- Returns the new version; 0 if the last announcement is lost, so that all members are needed; -1 without a lease.
--
-- Nodes of an earlier version read the users alone, and cannot read what is published, so that they read the snapshot.

local nodes, users, members, node = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local seen = redis.call('ZSCORE', KEYS[4], node)
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
redis.call('ZADD', KEYS[5], 0, ARGV[6])
if follows == 0 then
  redis.call('DEL', users, members)
end
local first_member = 9 + 2 * tonumber(ARGV[8])
for at = 9, first_member - 1, 2 do
  if ARGV[at + 1] == '0' then
    redis.call('HDEL', users, ARGV[at])
  else
    redis.call('HSET', users, ARGV[at], ARGV[at + 1])
  end
end
local changes = {}
for at = first_member, #ARGV, 2 do
  if ARGV[at + 1] == '' then
    redis.call('HDEL', members, ARGV[at])
  else
    redis.call('HSET', members, ARGV[at], ARGV[at + 1])
  end
  changes[#changes + 1] = ARGV[at]
  changes[#changes + 1] = ARGV[at + 1]
end
if redis.call('HLEN', users) == 0 then
  redis.call('HDEL', nodes, node)
end
if redis.call('HLEN', nodes) == 0 then
  redis.call('ZREM', KEYS[5], ARGV[6])
end
redis.call('PEXPIRE', nodes, ARGV[3])
redis.call('PEXPIRE', users, ARGV[3])
redis.call('PEXPIRE', members, ARGV[3])
redis.call('PUBLISH', ARGV[4], cmsgpack.pack({ node = node, version = version, follows = follows, members = changes }))
return version
