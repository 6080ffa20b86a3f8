-- Publish to all nodes that a user's connections are to be closed.
--
-- KEYS: time of each node's latest heartbeat. ARGV: length of a lease (ms), channel of all nodes, message.
-- Returns how many nodes received it, and how many are alive.

local time = redis.call('TIME')
local least_ms = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000 - tonumber(ARGV[1])
local received = redis.call('PUBLISH', ARGV[2], ARGV[3])
return { received, redis.call('ZCOUNT', KEYS[1], string.format('%.0f', least_ms), '+inf') }
