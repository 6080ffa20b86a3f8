-- Delete a room's events; its position stays. A room that is not there is not made.
--
-- KEYS: hash, stream. Returns how many events were deleted.

local room = load_room(KEYS[1], KEYS[2])
if not room then
  return 0
end
local held = room.offset - room.first + 1
-- First, as it needs no memory: Redis lets a script go on that has begun to write.
redis.call('DEL', KEYS[2])
room.first, room.bytes = room.offset + 1, 0
save_room(KEYS[1], room)
return held
