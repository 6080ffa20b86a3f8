-- Functions for the queues of the outbox, put in front of each script that needs them.
--
-- The keys of a queue begin with a stem that all queues share. `head:NAME` is a hash with the epoch of the queue, the
-- number of its newest entry, and a count of the entries that were held back. `waiting:NAME` is a sorted set of entries by
-- number, `aside:NAME` one of those put aside. `held:NAME` is a sorted set of what is held back, by the time when it is due,
-- and `since:NAME` a hash with its place in the order and the time when it happened. None of them expires.
--
-- An entry is the MessagePack of an array: number, epoch, kind, time and time when it was queued (ms), room, user (each
-- empty for none), fields; behind those of a message, whose fields are its content: header, offset, epoch of the room.
--
-- `outbox` is the table { stem, channel }.

local function queue_key(outbox, part, name)
  return outbox.stem .. part .. ':' .. name
end

-- Before anything is written, so that a key of a wrong type refuses all of it.
local function check_queue(outbox, name)
  redis.call('HGET', queue_key(outbox, 'head', name), 'epoch')
  redis.call('ZCARD', queue_key(outbox, 'waiting', name))
end

local function note_news(outbox, name)
  redis.call('PUBLISH', outbox.channel, name)
end

local function write_entry(outbox, name, entry)
  local head, waiting = queue_key(outbox, 'head', name), queue_key(outbox, 'waiting', name)
  local epoch = redis.call('HGET', head, 'epoch')
  if not epoch then
    local time = redis.call('TIME')
    epoch = string.sub(redis.sha1hex(name .. time[1] .. '.' .. time[2]), 1, 16)
    redis.call('HSET', head, 'epoch', epoch)
  end
  entry[1], entry[2] = redis.call('HINCRBY', head, 'number', 1), epoch
  redis.call('ZADD', waiting, entry[1], cmsgpack.pack(entry))
  -- A reader that has more to read needs no news.
  if redis.call('ZCARD', waiting) == 1 then
    note_news(outbox, name)
  end
end
