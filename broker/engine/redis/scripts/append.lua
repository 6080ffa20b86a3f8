-- Store drafts, or find them stored before, and publish the new ones; all or nothing.
--
-- KEYS and ARGV: those of `appending.lua`; then a key for each idempotency key; then for each draft: the index in KEYS of
--   its idempotency key or 0, 1 if it is ephemeral, its content, its header.
-- Returns the epoch, then for each draft its offset, 0 if it is ephemeral; -1 - offset for one stored before.

open_room()
local answer = { room.epoch }
for at = 10, #ARGV, 4 do
  answer[#answer + 1] = append_draft(KEYS[tonumber(ARGV[at])], ARGV[at + 1] == '1', ARGV[at + 2], ARGV[at + 3])
end
save_appended()
publish_appended()
return answer
