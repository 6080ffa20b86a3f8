-- Read who is in a room on which node. The users of a node that has died are dropped, and it is published so: by
-- whoever looks first, once.
--
-- KEYS: version and size by node, when each node was last heard of, the board's id, the rooms that somebody is in.
-- ARGV: what the keys of nodes' users begin with, how long a lease lasts (ms), channel, room.
-- Returns the board's id, the version up to which this is, then node, version and its users for each.

local nodes, alive = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local least_ms = now_us / 1000 - tonumber(ARGV[2])
local answer = { redis.call('GET', KEYS[3]) or '', now_us }
local told = redis.call('HGETALL', nodes)
for at = 1, #told, 2 do
  local node, users = told[at], ARGV[1] .. told[at]
  local told_version = tonumber(string.match(told[at + 1], '^%d+'))
  local seen = redis.call('ZSCORE', alive, node)
  if seen and tonumber(seen) >= least_ms then
    answer[#answer + 1] = node
    answer[#answer + 1] = told_version
    answer[#answer + 1] = redis.call('HGETALL', users)
  else
    redis.call('HDEL', nodes, node)
    redis.call('DEL', users)
    local version = math.max(now_us, told_version + 1)
    redis.call('PUBLISH', ARGV[3], cmsgpack.pack({ node, version, 0, {} }))
  end
end
if #told > 0 and redis.call('HLEN', nodes) == 0 then
  redis.call('ZREM', KEYS[4], ARGV[4])
end
return answer
