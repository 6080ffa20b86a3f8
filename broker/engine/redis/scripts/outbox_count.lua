-- Count the entries of a queue.
--
-- KEYS: entries that wait; entries put aside (sorted sets by number).
-- Returns how many wait, the first of them in an array, if there is any, and how many were put aside.

return { redis.call('ZCARD', KEYS[1]), redis.call('ZRANGE', KEYS[1], 0, 0), redis.call('ZCARD', KEYS[2]) }
