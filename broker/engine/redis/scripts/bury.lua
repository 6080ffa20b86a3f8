-- Remove users of a node that has died from a place in the book.
--
-- KEYS: time of each node's latest heartbeat.
-- ARGV: the book (MessagePack), node, length of a lease (ms), now (ms), place, most users.
-- Returns how many users of the node are left there; -1 if it is alive.

local book, node, now_ms, place = cmsgpack.unpack(ARGV[1]), ARGV[2], tonumber(ARGV[4]), ARGV[5]
if lease_age_ms(KEYS[1], node) <= tonumber(ARGV[3]) then
  return -1
end
check_book(book)
local users = book.stem .. 'of:' .. node .. ':' .. place
for _, user in ipairs(redis.call('SRANDMEMBER', users, ARGV[6])) do
  book_left(book, node, place, user, now_ms)
end
local left = redis.call('SCARD', users)
if left == 0 then
  -- Also of a place that has lost its users in another way.
  redis.call('SREM', book.stem .. 'of:' .. node, place)
  if redis.call('EXISTS', book.stem .. 'of:' .. node) == 0 then
    redis.call('SREM', book.stem .. 'nodes', node)
  end
end
return left
