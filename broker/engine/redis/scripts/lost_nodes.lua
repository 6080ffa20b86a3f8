-- Return the nodes that have users in the book and no lease.
--
-- KEYS: time of each node's latest heartbeat; nodes in the book. ARGV: length of a lease (ms).

local time = redis.call('TIME')
local least_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(ARGV[1])
local lost = {}
for _, node in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local seen = redis.call('ZSCORE', KEYS[1], node)
  if not seen or tonumber(seen) < least_ms then
    lost[#lost + 1] = node
  end
end
return lost
