-- Functions that append drafts to a room, put behind those of rooms, and of the outbox where queues of it get the events.
--
-- A script that needs them calls `open_room` first, then `append_draft` for each draft, and `save_appended`. The first
-- write among them is one that Redis refuses when it is out of memory. `publish_appended` comes behind all other writes
-- of the script, as nothing takes back what was published.
--
-- KEYS of such a script: hash, stream. ARGV: epoch if the room is new, now, window of idempotency keys, expiry of the
--   room (ms each), channel, messages, bytes and age (ms) to keep, the queues that get an entry of each stored event or
--   empty (MessagePack of { outbox, room, names }; it needs the functions of the outbox). More of both may follow.

local meta, stream = KEYS[1], KEYS[2]
local now_ms, window_ms, keep_room_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local keep_messages, keep_bytes, keep_ms = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local keeps = keep_messages > 0 and keep_bytes > 0 and keep_ms > 0

local told = ARGV[9] ~= '' and cmsgpack.unpack(ARGV[9]) or nil
local room, first_held, was_empty
local published, headers, changes = {}, {}, false

local function drop_oldest(oldest)
  room.bytes = room.bytes - #oldest[2][4] -- the content
  room.first = room.first + 1
  room.oldest_ms = 0 -- not known yet
end

local function read_oldest()
  return redis.call('XRANGE', stream, room.first .. '-0', '+', 'COUNT', 1)[1]
end

-- The time of the oldest event is kept in the hash, so that most appends need not read it.
local function is_within_limits()
  local held = room.offset - room.first + 1
  return held <= keep_messages and room.bytes <= keep_bytes and room.oldest_ms > now_ms - keep_ms
end

local function trim()
  if not keeps then
    if not was_empty then
      redis.call('DEL', stream)
    end
    room.first, room.bytes = room.offset + 1, 0
    return
  end
  if was_empty then
    room.oldest_ms = now_ms
  end
  while room.first <= room.offset and not is_within_limits() do
    local oldest = read_oldest()
    room.oldest_ms = entry_time(oldest)
    if is_within_limits() then
      break
    end
    drop_oldest(oldest)
  end
  if room.first > room.offset then
    redis.call('DEL', stream)
  elseif room.first > first_held then
    redis.call('XTRIM', stream, 'MAXLEN', room.offset - room.first + 1)
  end
end

-- The keys of queues are checked before anything is written.
local function open_room()
  if told then
    for _, name in ipairs(told.names) do
      check_queue(told.outbox, name)
    end
  end
  room = load_room(meta, stream) or make_room(meta, stream, ARGV[1], keep_room_ms)
  first_held, was_empty = room.first, room.first > room.offset
  -- Events that were too old for a reader do not come back with a longer age.
  while keep_ms > room.age_ms and room.first <= room.offset do
    local oldest = read_oldest()
    if entry_time(oldest) > now_ms - room.age_ms then
      break
    end
    drop_oldest(oldest)
  end
end

-- Return the offset, 0 if it is ephemeral; -1 - offset of a draft that was stored before under the same key.
local function append_draft(key, is_ephemeral, content, header)
  changes = changes or key ~= nil or not is_ephemeral
  local sent = key and redis.call('GET', key)
  if sent then
    -- A key of another epoch belongs to a room that is gone.
    local epoch, offset, until_ms = string.match(sent, '^(%S+) (%d+) (%d+)$')
    if epoch == room.epoch and tonumber(until_ms) > now_ms then
      return -1 - tonumber(offset)
    end
  end
  local offset = 0
  if not is_ephemeral then
    room.offset = room.offset + 1
    offset = room.offset
    if keeps then
      redis.call('XADD', stream, offset .. '-0', 't', now_ms, 'c', content, 'h', header)
      room.bytes = room.bytes + #content
    end
  end
  if key then
    -- The nodes' clock decides when the window is over; Redis' own only cleans up, a minute later.
    local until_ms = string.format('%.0f', now_ms + window_ms)
    redis.call('SET', key, room.epoch .. ' ' .. offset .. ' ' .. until_ms, 'PX', window_ms + 60000)
  end
  if told and offset > 0 then
    for _, name in ipairs(told.names) do
      write_entry(
        told.outbox, name, { 0, '', 'message', now_ms, now_ms, told.room, '', content, header, offset, room.epoch }
      )
    end
  end
  published[#published + 1] = offset
  published[#published + 1] = content
  headers[#headers + 1] = header
  return offset
end

local function save_appended()
  if not changes then
    return
  end
  trim()
  room.age_ms = keep_ms
  -- Both keys expire together. The expiry includes slack, of which up to a quarter is spent before it is set again.
  local expires_ms = now_ms + keep_room_ms
  if was_empty or math.abs(expires_ms - room.expires_ms) >= 15000 then
    room.expires_ms = expires_ms
    redis.call('PEXPIRE', meta, keep_room_ms)
    redis.call('PEXPIRE', stream, keep_room_ms)
  end
  save_room(meta, room)
end

local function publish_appended()
  if #published > 0 then
    -- The last element tells it from the channel's other messages, arrays of two and four.
    redis.call('PUBLISH', ARGV[5], cmsgpack.pack({ room.epoch, now_ms, published, headers, 1 }))
  end
end
