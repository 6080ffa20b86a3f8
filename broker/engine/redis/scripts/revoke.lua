-- Store a revocation, merged with that of the same key, and publish it to all nodes.
--
-- KEYS: when each revocation runs out (a sorted set, Unix seconds); for those that have one, the time before which the
--   tokens that they mean were issued (likewise).
-- ARGV: key of the revocation, when it runs out, time of issue or '', now (Unix seconds), channel, message.
-- Returns how many nodes received it.

local expiries, issued = KEYS[1], KEYS[2]
-- Those that have run out, in parts, so that no call takes long.
for _, key in ipairs(redis.call('ZRANGEBYSCORE', expiries, '-inf', ARGV[4], 'LIMIT', 0, 1000)) do
  redis.call('ZREM', expiries, key)
  redis.call('ZREM', issued, key)
end
redis.call('ZADD', expiries, 'GT', ARGV[2], ARGV[1])
if ARGV[3] ~= '' then
  redis.call('ZADD', issued, 'GT', ARGV[3], ARGV[1])
end
-- Nothing is left behind when no revocation follows. Counted by the nodes' clocks, and a minute more, as those differ.
local last = redis.call('ZRANGE', expiries, -1, -1, 'WITHSCORES')
local seconds = string.format('%.0f', math.max(0, math.ceil(tonumber(last[2]) - tonumber(ARGV[4]))) + 60)
redis.call('EXPIRE', expiries, seconds)
redis.call('EXPIRE', issued, seconds)
return redis.call('PUBLISH', ARGV[5], ARGV[6])
