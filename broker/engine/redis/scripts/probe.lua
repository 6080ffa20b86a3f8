-- Show that this server takes writes and passes on what is published.
--
-- KEYS: a key of the node's own. ARGV: how long it lives (ms), the node's own channel, what to publish there.

redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
