-- Removes items. ARGV: the build it belongs to, or nothing; then item by item what it is and two words that name it.

local refused = go_on(ARGV[1])
if refused then
  return refused
end

-- What nobody has had is looked for from the beginning: there is little to discard.
local function discard(agent, id)
  if place(agent, id) then
    return remove(agent, id)
  end
  local key = mailbox(agent)
  each_entry(key, '-', math.huge, function(entry)
    if string.match(entry[1], '%d+$') == id then
      call('XDEL', key, entry[1])
      return true
    end
  end)
end

local items = { mail = discard, topic = withdraw, session = forget, run = end_run }
for at = 2, #ARGV, 3 do
  items[ARGV[at]](ARGV[at + 1], ARGV[at + 2])
end
return redis.status_reply('OK')
