-- Functions for the book of who is present, put behind those of the outbox.
--
-- The keys of the book begin with a stem. `nodes` is the set of the nodes that have anybody in it; `of:NODE` the set of the
-- places in which a node has users, and `of:NODE:PLACE` the set of these. `at:PLACE` is a hash of all users at a place, with
-- the number of nodes that have them. `id` is lost whenever the book is lost. None of them expires: what a node has in it
-- is removed by the node, or by another one once its lease has run out.
--
-- `queues` are tables { name, hold, kinds }; `hold` is in ms, `kinds` has the kinds that the queue wants as keys.

local SEPARATOR = '\31' -- no name has a control character

local function is_user_place(place)
  return string.sub(place, 1, 1) == '/'
end

local function write_of_kind(outbox, queue, kind, times, place, user, fields)
  if queue.kinds[kind] then
    local room = is_user_place(place) and '' or place
    write_entry(outbox, queue.name, { 0, '', kind, times.happened, times.now, room, user, fields })
  end
end

-- Write the entries that were held back and are due, at most so many.
local function write_due(outbox, queue, now_ms, most)
  local held, since = queue_key(outbox, 'held', queue.name), queue_key(outbox, 'since', queue.name)
  local due = redis.call('ZRANGEBYSCORE', held, '-inf', now_ms, 'WITHSCORES', 'LIMIT', 0, most)
  local found = {}
  for at = 1, #due, 2 do
    local place, happened = string.match(redis.call('HGET', since, due[at]) or '0 0', '^(%d+) (%d+)$')
    found[#found + 1] = { due[at], tonumber(due[at + 1]), tonumber(place), tonumber(happened) }
  end
  table.sort(found, function(one, other)
    return one[2] < other[2] or one[2] == other[2] and one[3] < other[3]
  end)
  for _, each in ipairs(found) do
    local kind, place, user = string.match(each[1], '^(.-)\31(.-)\31(.*)$')
    redis.call('ZREM', held, each[1])
    redis.call('HDEL', since, each[1])
    write_of_kind(outbox, queue, kind, { happened = each[4], now = now_ms }, place, user, '{}')
  end
end

local function note_first(outbox, queues, first, last, now_ms, place, user, fields)
  for _, queue in ipairs(queues) do
    write_due(outbox, queue, now_ms, -1)
    local key = last .. SEPARATOR .. place .. SEPARATOR .. user
    redis.call('HDEL', queue_key(outbox, 'since', queue.name), key)
    if redis.call('ZREM', queue_key(outbox, 'held', queue.name), key) == 0 then
      write_of_kind(outbox, queue, first, { happened = now_ms, now = now_ms }, place, user, fields)
    end
  end
end

local function note_last(outbox, queues, last, now_ms, place, user)
  for _, queue in ipairs(queues) do
    local key = last .. SEPARATOR .. place .. SEPARATOR .. user
    local order = redis.call('HINCRBY', queue_key(outbox, 'head', queue.name), 'held', 1)
    redis.call('ZADD', queue_key(outbox, 'held', queue.name), now_ms + queue.hold, key)
    redis.call('HSET', queue_key(outbox, 'since', queue.name), key, string.format('%d %.0f', order, now_ms))
    if queue.hold == 0 then
      write_due(outbox, queue, now_ms, -1)
    end
  end
end

local function book_came(book, node, place, user, fields, is_silent, now_ms)
  local users, at = book.stem .. 'of:' .. node .. ':' .. place, book.stem .. 'at:' .. place
  if redis.call('SADD', users, user) == 0 then
    return
  end
  redis.call('SADD', book.stem .. 'of:' .. node, place)
  redis.call('SADD', book.stem .. 'nodes', node)
  local was_vacant = redis.call('EXISTS', at) == 0
  if redis.call('HINCRBY', at, user, 1) > 1 or is_silent then
    return
  end
  if is_user_place(place) then
    note_first(book.outbox, book.connectedness, 'user_online', 'user_offline', now_ms, place, user, fields)
    return
  end
  if was_vacant then
    note_first(book.outbox, book.occupancy, 'room_occupied', 'room_vacated', now_ms, place, '', '{}')
  end
  note_first(book.outbox, book.membership, 'user_joined', 'user_left', now_ms, place, user, fields)
end

local function book_left(book, node, place, user, now_ms)
  local places, at = book.stem .. 'of:' .. node, book.stem .. 'at:' .. place
  local users = places .. ':' .. place
  if redis.call('SREM', users, user) == 0 then
    return
  end
  if redis.call('EXISTS', users) == 0 then
    redis.call('SREM', places, place)
  end
  if redis.call('EXISTS', places) == 0 then
    redis.call('SREM', book.stem .. 'nodes', node)
  end
  if redis.call('HINCRBY', at, user, -1) > 0 then
    return
  end
  redis.call('HDEL', at, user)
  if is_user_place(place) then
    note_last(book.outbox, book.connectedness, 'user_offline', now_ms, place, user)
    return
  end
  note_last(book.outbox, book.membership, 'user_left', now_ms, place, user)
  if redis.call('EXISTS', at) == 0 then
    note_last(book.outbox, book.occupancy, 'room_vacated', now_ms, place, '')
  end
end

-- Before anything is written, so that a key of a wrong type refuses all of it.
local function check_book(book)
  for _, queues in ipairs({ book.occupancy, book.membership, book.connectedness }) do
    for _, queue in ipairs(queues) do
      check_queue(book.outbox, queue.name)
      redis.call('ZCARD', queue_key(book.outbox, 'held', queue.name))
      redis.call('HLEN', queue_key(book.outbox, 'since', queue.name))
    end
  end
end
