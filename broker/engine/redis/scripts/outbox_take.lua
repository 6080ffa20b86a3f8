-- Take entries out of a queue, and perhaps put them aside, for the latest holder of the lease.
--
-- KEYS: number of the latest holder; entries that wait; entries put aside (sorted sets by number).
-- ARGV: fencing number, time (ms) at which they are put aside or empty, reason; then the numbers.
-- Returns 1; 0 with nothing done if there is a later holder.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
for at = 4, #ARGV do
  local entry = redis.call('ZRANGEBYSCORE', KEYS[2], ARGV[at], ARGV[at])[1]
  if entry then
    if ARGV[2] ~= '' then
      redis.call('ZADD', KEYS[3], ARGV[at], cmsgpack.pack({ tonumber(ARGV[2]), ARGV[3], cmsgpack.unpack(entry) }))
    end
    redis.call('ZREM', KEYS[2], entry)
  end
end
return 1
