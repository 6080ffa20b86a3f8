-- Return a room's position; the room is made if it is new.
--
-- KEYS: hash, stream. ARGV: epoch if the room is new, expiry of a room without events (ms).
-- Returns epoch and offset.

local room = load_room(KEYS[1], KEYS[2]) or make_room(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
return { room.epoch, room.offset }
