-- Read a room's members by node. Those of a node that has died are deleted, and that is published, once, by the first
-- node that reads.
--
-- KEYS: version and size by node; time of each node's latest heartbeat; id of the presence data; rooms with members.
-- ARGV: beginnings of the keys of nodes' users and of nodes' members, length of a lease (ms), channel, room.
-- Returns the id of the presence data, the version of this snapshot, then node, version, members and users for each
-- node; users are only read of a node of an earlier version, which announces no members.

local nodes, alive = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local least_ms = now_us / 1000 - tonumber(ARGV[3])
local answer = { redis.call('GET', KEYS[3]) or '', now_us }
local announced = redis.call('HGETALL', nodes)
for at = 1, #announced, 2 do
  local node, users, members = announced[at], ARGV[1] .. announced[at], ARGV[2] .. announced[at]
  local announced_version = tonumber(string.match(announced[at + 1], '^%d+'))
  local seen = redis.call('ZSCORE', alive, node)
  if seen and tonumber(seen) >= least_ms then
    answer[#answer + 1] = node
    answer[#answer + 1] = announced_version
    local found = redis.call('HGETALL', members)
    answer[#answer + 1] = found
    answer[#answer + 1] = #found == 0 and redis.call('HGETALL', users) or {}
  else
    redis.call('HDEL', nodes, node)
    redis.call('DEL', users, members)
    local version = math.max(now_us, announced_version + 1)
    redis.call('PUBLISH', ARGV[4], cmsgpack.pack({ node = node, version = version, follows = 0, members = {} }))
  end
end
if #announced > 0 and redis.call('HLEN', nodes) == 0 then
  redis.call('ZREM', KEYS[4], ARGV[5])
end
return answer
