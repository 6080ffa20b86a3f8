-- Tell all nodes to close a user's connections.
--
-- KEYS: when each node was last heard of. ARGV: how long a lease lasts (ms), the channel of all nodes, what to publish.
-- Returns how many nodes have heard it, and how many are alive.

local time = redis.call('TIME')
local least_ms = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000 - tonumber(ARGV[1])
local heard = redis.call('PUBLISH', ARGV[2], ARGV[3])
return { heard, redis.call('ZCOUNT', KEYS[1], string.format('%.0f', least_ms), '+inf') }
