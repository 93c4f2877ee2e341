-- Ids and states of all messages of a mailbox. KEYS: its stream, and the places of those that somebody has had.

local found, had = {}, {}
local places = redis.call('HGETALL', KEYS[2])
for i = 1, #places, 2 do
  had[places[i]] = true
  table.insert(found, places[i])
  table.insert(found, string.match(places[i + 1], '%d$'))
end
each_entry(KEYS[1], '-', math.huge, function(entry)
  local id = string.match(entry[1], '%d+$')
  if not had[id] then
    table.insert(found, id)
    table.insert(found, '1')
  end
end)
return found
