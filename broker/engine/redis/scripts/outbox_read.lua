-- Read entries of a queue, those that were held back and are due among them.
--
-- ARGV: the outbox and the queue (MessagePack of { outbox, queue }), now (ms), number after which to read, most entries.
-- Returns the entries.

local given = cmsgpack.unpack(ARGV[1])
local outbox, queue = given.outbox, given.queue
write_due(outbox, queue, tonumber(ARGV[2]), 5000)
local waiting = queue_key(outbox, 'waiting', queue.name)
return redis.call('ZRANGEBYSCORE', waiting, '(' .. ARGV[3], '+inf', 'LIMIT', 0, ARGV[4])
