-- Read some of a room's events; the room is made if it is new. Changes nothing else.
--
-- KEYS: hash, stream.
-- ARGV: epoch if the room is new, expiry of a room without events (ms), now (ms), offset to read after, most events
--   or -1, 1 for the newest first.
-- Returns epoch, offset, first offset held, and the stream's entries.

local stream = KEYS[2]
local now_ms, after, limit = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local room = load_room(KEYS[1], stream) or make_room(KEYS[1], stream, ARGV[1], ARGV[2])

-- The next append deletes events that are too old; until then they are skipped here.
local first = room.first
while first <= room.offset do
  local oldest = redis.call('XRANGE', stream, first .. '-0', '+', 'COUNT', 1)[1]
  if entry_time(oldest) > now_ms - room.age_ms then
    break
  end
  first = first + 1
end

local entries = {}
local from = math.max(first, after + 1)
if from <= room.offset and limit ~= 0 then
  local most = limit < 0 and room.offset or math.min(limit, room.offset)
  if ARGV[6] == '1' then
    entries = redis.call('XREVRANGE', stream, '+', from .. '-0', 'COUNT', most)
  else
    entries = redis.call('XRANGE', stream, from .. '-0', '+', 'COUNT', most)
  end
end
return { room.epoch, room.offset, first, entries }
