-- Tell where a room stands, making it if it is new.
--
-- KEYS: hash, stream. ARGV: epoch if the room is new, how long a room in which nothing was said is remembered (ms).
-- Returns epoch and offset.

local room = load_room(KEYS[1], KEYS[2]) or make_room(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
return { room.epoch, room.offset }
