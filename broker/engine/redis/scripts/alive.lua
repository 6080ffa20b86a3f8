-- Functions for the leases of nodes, put in front of each script that needs them.

-- `alive` is the key with the time of each node's latest heartbeat, a sorted set in ms of this server's clock.
local function lease_age_ms(alive, node)
  local time = redis.call('TIME')
  local seen = redis.call('ZSCORE', alive, node)
  return seen and tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(seen) or math.huge
end
