-- Return entries that were put aside to their queue.
--
-- KEYS: entries put aside; entries that wait (sorted sets by number).
-- ARGV: now (ms), channel, name of the queue, most entries, 1 if numbers follow; then the numbers.
-- Returns how many they were.

local found = {}
if ARGV[5] == '1' then
  for at = 6, #ARGV do
    found[#found + 1] = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[at], ARGV[at])[1]
  end
else
  found = redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[4]) - 1)
end
for _, packed in ipairs(found) do
  local entry = cmsgpack.unpack(packed)[3]
  entry[5] = tonumber(ARGV[1])
  redis.call('ZADD', KEYS[2], entry[1], cmsgpack.pack(entry))
  redis.call('ZREM', KEYS[1], packed)
end
if #found > 0 then
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
return #found
