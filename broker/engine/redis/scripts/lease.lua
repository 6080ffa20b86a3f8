-- Renew a node's lease, and publish to the node itself: a server that does both is well.
--
-- KEYS: when each node was last heard of (a sorted set, in ms of this server's clock), the board's id.
-- ARGV: node, how long a lease lasts (ms), an id if the board is new, the node's channel, what to publish there.
-- Returns 1 if the node had no lease (it is new, was away for too long, or everything was lost), this server's time
-- (ms), then the nodes that have died of late.

local alive, node, lease_ms = KEYS[1], ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local before = redis.call('ZSCORE', alive, node)
local had_none = not before or tonumber(before) < now_ms - lease_ms

redis.call('ZADD', alive, now_ms, node)
redis.call('SET', KEYS[2], ARGV[3], 'NX')
-- Long enough for all to have seen that it died.
redis.call('ZREMRANGEBYSCORE', alive, '-inf', now_ms - 20 * lease_ms)
redis.call('PUBLISH', ARGV[4], ARGV[5])
local answer = { had_none and 1 or 0, now_ms }
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', '(' .. string.format('%.0f', now_ms - lease_ms))) do
  answer[#answer + 1] = dead
end
return answer
