-- Get, extend or end the lease of the outbox.
--
-- KEYS: holder; number of the latest holder. ARGV: holder, time of the lease (ms), 0 to end it.
-- Returns the number of the holder; 0 if there is another one.

local holder, fence = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if holder and fence and holder ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
if not holder or not fence then
  -- By the clock as well, so that numbers rise after a loss of all data too.
  local time = redis.call('TIME')
  local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  fence = string.format('%.0f', math.max(tonumber(fence or '0') + 1, now_ms))
  redis.call('SET', KEYS[2], fence)
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return tonumber(fence)
