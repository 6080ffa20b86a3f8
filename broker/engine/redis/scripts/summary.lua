-- Return a room's size and position. A room without members is removed from the list.
--
-- KEYS: hash of the room; version and size by node; time of each node's latest heartbeat; rooms with members.
-- ARGV: room, length of a lease (ms).
-- Returns size, epoch (empty if the room has none) and offset.

local time = redis.call('TIME')
local least_ms = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000 - tonumber(ARGV[2])
local announced, size = redis.call('HGETALL', KEYS[2]), 0
for at = 1, #announced, 2 do
  local seen = redis.call('ZSCORE', KEYS[3], announced[at])
  if seen and tonumber(seen) >= least_ms then
    size = size + tonumber(string.match(announced[at + 1], '%d+$'))
  end
end
if size == 0 then
  redis.call('ZREM', KEYS[4], ARGV[1])
end
local epoch, offset = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'offset'))
return { size, epoch or '', tonumber(offset or '0') }
