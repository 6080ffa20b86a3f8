-- Store turns of a room with code for its owner: their events, the state, the timers and the answers; and publish the
-- events. All or nothing.
--
-- KEYS and ARGV: those of `appending.lua`. Then KEYS: hash of the owner and the state; hash of the timers; all timers of
--   this server (a sorted set by time); one for each answer. ARGV: node, its fencing number; `keep`, `delete` or `replace`,
--   and class, version and content of the state; number of drafts, then for each: 1 if it is ephemeral, its content, its
--   header; number of timers, then for each: its name, when it is due (ms) or empty to remove it, its member of the sorted
--   set; for each answer: the draft whose offset belongs to it (from 1) or 0, its content; at last the expiry (ms) of the
--   hash of the owner if there is neither a state nor a timer.
-- Returns the epoch, then for each draft its offset, 0 if it is ephemeral; an empty epoch without drafts. 0, with nothing
--   done, if the node does not own the room.
--
-- Neither the state nor the timers expire.

local code, timers, all_timers = KEYS[3], KEYS[4], KEYS[5]
local owner, fence, class = unpack(redis.call('HMGET', code, 'node', 'fence', 'class'))
if owner ~= ARGV[10] or fence ~= ARGV[11] then
  return 0
end
-- Before anything is written, so that a key of a wrong type refuses all of it.
redis.call('HLEN', timers)
redis.call('ZCARD', all_timers)

local at = 16
local function next_argument()
  at = at + 1
  return ARGV[at]
end

local answer, drafts = { '' }, tonumber(ARGV[16])
if drafts > 0 then
  open_room()
  answer[1] = room.epoch
  for _ = 1, drafts do
    local is_ephemeral, content, header = next_argument() == '1', next_argument(), next_argument()
    answer[#answer + 1] = append_draft(nil, is_ephemeral, content, header)
  end
  save_appended()
end

if ARGV[12] == 'replace' then
  redis.call('HSET', code, 'class', ARGV[13], 'version', ARGV[14], 'content', ARGV[15])
elseif ARGV[12] == 'delete' then
  redis.call('HDEL', code, 'class', 'version', 'content')
end

for _ = 1, tonumber(next_argument()) do
  local name, due_ms, member = next_argument(), next_argument(), next_argument()
  if due_ms == '' then
    redis.call('HDEL', timers, name)
    redis.call('ZREM', all_timers, member)
  else
    redis.call('HSET', timers, name, due_ms)
    redis.call('ZADD', all_timers, due_ms, member)
  end
end

for index = 6, #KEYS do
  local draft, content = tonumber(next_argument()), next_argument()
  local offset = draft > 0 and answer[1 + draft] or 0
  -- As with idempotency keys, the nodes' clock decides when the window is over.
  local until_ms = string.format('%.0f', now_ms + window_ms)
  local place = string.format('%s %.0f %s ', until_ms, offset, answer[1])
  redis.call('SET', KEYS[index], place .. content, 'PX', window_ms + 60000)
end

local untouched_ms = next_argument()
if not class or ARGV[12] == 'delete' then
  if ARGV[12] == 'replace' or redis.call('HLEN', timers) > 0 then
    redis.call('PERSIST', code)
  else
    redis.call('PEXPIRE', code, untouched_ms)
  end
end

publish_appended()
return answer
