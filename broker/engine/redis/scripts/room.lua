-- Functions for rooms, put in front of each script that needs them.
--
-- A room is two keys. The hash holds its epoch, the offset of its newest event, the offset of the first one held,
-- the bytes held, for how long events are kept, the time of the oldest one held and when both keys expire (0: not
-- known, or earlier than that; by the nodes' clock). The stream holds the events under ids OFFSET-0, with their time,
-- content and header; readers pass over what stands behind these. Both expire together. If one is lost without the
-- other, the room begins a new epoch, as the rest cannot be trusted.

local function load_room(meta, stream)
  local epoch, offset, first, bytes, age_ms, oldest_ms, expires_ms = unpack(
    redis.call('HMGET', meta, 'epoch', 'offset', 'first', 'bytes', 'age_ms', 'oldest_ms', 'expires_ms')
  )
  if not epoch then
    return nil
  end
  local room = {
    epoch = epoch, offset = tonumber(offset), first = tonumber(first), bytes = tonumber(bytes),
    -- An earlier version does not keep the last two.
    age_ms = tonumber(age_ms), oldest_ms = tonumber(oldest_ms or 0), expires_ms = tonumber(expires_ms or 0),
  }
  room.saved = {
    first = room.first, age_ms = room.age_ms, oldest_ms = room.oldest_ms, expires_ms = room.expires_ms,
  }
  local held = room.offset - room.first + 1
  if redis.call('XLEN', stream) ~= held then
    return nil
  end
  if held > 0 and redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1][1] ~= room.offset .. '-0' then
    return nil
  end
  return room
end

-- Most appends change the offset and the bytes alone.
local function save_room(meta, room)
  local saved = room.saved
  if
    saved and saved.first == room.first and saved.age_ms == room.age_ms and saved.oldest_ms == room.oldest_ms
    and saved.expires_ms == room.expires_ms
  then
    redis.call('HSET', meta, 'offset', room.offset, 'bytes', room.bytes)
    return
  end
  redis.call(
    'HSET', meta, 'epoch', room.epoch, 'offset', room.offset, 'first', room.first, 'bytes', room.bytes,
    'age_ms', room.age_ms, 'oldest_ms', room.oldest_ms, 'expires_ms', room.expires_ms
  )
end

-- The first write is one that Redis refuses when it is out of memory: a script that has begun is not stopped.
local function make_room(meta, stream, epoch, keep_room_ms)
  local room = { epoch = epoch, offset = 0, first = 1, bytes = 0, age_ms = 0, oldest_ms = 0, expires_ms = 0 }
  save_room(meta, room)
  redis.call('PEXPIRE', meta, keep_room_ms)
  redis.call('DEL', stream)
  return room
end

local function entry_time(entry)
  return tonumber(entry[2][2])
end
