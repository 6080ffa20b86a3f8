-- Read the timers of a server that are due first, but for those of rooms that another node owns that is alive.
--
-- KEYS: all timers (a sorted set by time; the members are the MessagePack of { tag of the room's keys, name }); time of
--   each node's latest heartbeat.
-- ARGV: node, length of a lease (ms), most timers to return, most to look at, beginning of all keys.
-- Returns for each: tag, name, time (ms).

local all, alive, node, lease_ms, most = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local found, stale, is_elsewhere_by_tag = {}, {}, {}

local function stem_of(tag)
  return ARGV[5] .. ':{' .. tag .. '}'
end

-- A room whose keys cannot be read holds up no other.
local function is_elsewhere(tag)
  if is_elsewhere_by_tag[tag] == nil then
    local owner = redis.pcall('HGET', stem_of(tag) .. ':code', 'node')
    is_elsewhere_by_tag[tag] = type(owner) == 'table'
      or owner and owner ~= node and lease_age_ms(alive, owner) <= lease_ms
  end
  return is_elsewhere_by_tag[tag]
end

local function look_at(member, score)
  local tag, name = unpack(cmsgpack.unpack(member))
  if is_elsewhere(tag) then
    return
  end
  local due_ms = redis.pcall('HGET', stem_of(tag) .. ':timers', name)
  if not due_ms then
    -- Redis was made to drop the room's hash: the timer would have no turn, and be due for ever.
    stale[#stale + 1] = member
  elseif type(due_ms) == 'string' and tonumber(due_ms) == tonumber(score) then
    found[#found + 1] = tag
    found[#found + 1] = name
    found[#found + 1] = due_ms
  end
end

local first, step = 0, 256
while first < tonumber(ARGV[4]) do
  local batch = redis.call('ZRANGE', all, first, first + step - 1, 'WITHSCORES')
  for at = 1, #batch, 2 do
    if #found < 3 * most then
      look_at(batch[at], batch[at + 1])
    end
  end
  if #batch < 2 * step or #found >= 3 * most then
    break
  end
  first = first + step
end
for _, member in ipairs(stale) do
  redis.call('ZREM', all, member)
end
return found
