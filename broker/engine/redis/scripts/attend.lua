-- Note in the book which users of a node came to a place and left it, in their order.
--
-- KEYS: time of each node's latest heartbeat.
-- ARGV: the book (MessagePack), node, length of a lease (ms), now (ms), id of the book when it was noted last, an id if
--   there is none, place; then for each change: user, `came` or `left`, `noted` if the book with that id had the user, `lost`
--   if one before it had, fields.
-- Returns the id of the book; empty without a lease.
--
-- Where the book was lost since, those who were in it are put into the new one first, without an entry: they did not come.

local book, node, now_ms, place = cmsgpack.unpack(ARGV[1]), ARGV[2], tonumber(ARGV[4]), ARGV[7]
if lease_age_ms(KEYS[1], node) > tonumber(ARGV[3]) then
  return ''
end
check_book(book)
redis.call('SET', book.stem .. 'id', ARGV[6], 'NX')
local id = redis.call('GET', book.stem .. 'id')
for at = 8, #ARGV, 4 do
  local before = ARGV[at + 2]
  if before == 'lost' or before == 'noted' and id ~= ARGV[5] then
    book_came(book, node, place, ARGV[at], '{}', true, now_ms)
  end
end
for at = 8, #ARGV, 4 do
  if ARGV[at + 1] == 'came' then
    book_came(book, node, place, ARGV[at], ARGV[at + 3], false, now_ms)
  else
    book_left(book, node, place, ARGV[at], now_ms)
  end
end
return id
