-- Tell where a room stands and how many are in it. A room that nobody is in is taken off the list.
--
-- KEYS: hash of the room, version and size by node, when each node was last heard of, the rooms that somebody is in.
-- ARGV: room, how long a lease lasts (ms).
-- Returns size, epoch (empty if the room is not known) and offset.

local time = redis.call('TIME')
local least_ms = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000 - tonumber(ARGV[2])
local told, size = redis.call('HGETALL', KEYS[2]), 0
for at = 1, #told, 2 do
  local seen = redis.call('ZSCORE', KEYS[3], told[at])
  if seen and tonumber(seen) >= least_ms then
    size = size + tonumber(string.match(told[at + 1], '%d+$'))
  end
end
if size == 0 then
  redis.call('ZREM', KEYS[4], ARGV[1])
end
local epoch, offset = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'offset'))
return { size, epoch or '', tonumber(offset or '0') }
