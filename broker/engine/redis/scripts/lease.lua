-- Renew a node's lease, and publish to the node itself.
--
-- KEYS: time of each node's latest heartbeat (a sorted set, in ms of this server's clock); id of the presence data;
--   rooms with members.
-- ARGV: node, length of a lease (ms), an id if there is none, the node's channel, message.
-- Returns 1 if the node had no lease (it is new, was away for too long, or the presence data was lost), this server's
-- time (ms), then the nodes that have died of late.

local alive, node, lease_ms = KEYS[1], ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local before = redis.call('ZSCORE', alive, node)
local had_none = not before or tonumber(before) < now_ms - lease_ms

redis.call('ZADD', alive, now_ms, node)
redis.call('SET', KEYS[2], ARGV[3], 'NX')
-- Every join and announcement needs these two: a wrong type is refused here too, where readiness shows it.
redis.call('GET', KEYS[2])
redis.call('ZCARD', KEYS[3])
-- Dead nodes stay listed long enough for every other node to see them.
redis.call('ZREMRANGEBYSCORE', alive, '-inf', now_ms - 20 * lease_ms)
redis.call('PUBLISH', ARGV[4], ARGV[5])
local answer = { had_none and 1 or 0, now_ms }
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', '(' .. string.format('%.0f', now_ms - lease_ms))) do
  answer[#answer + 1] = dead
end
return answer
