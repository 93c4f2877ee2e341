-- Events of a stream after a place. KEYS[1]: the stream. ARGV: the place, at most how many, at most how many bytes, though
-- always one. Answers place, event, place, event…

local found, bytes = {}, 0
local bound = tonumber(ARGV[3])
each_entry(KEYS[1], '(' .. ARGV[1] .. '-0', tonumber(ARGV[2]), function(entry)
  bytes = bytes + #entry[2][2]
  if #found > 0 and bytes > bound then
    return true
  end
  table.insert(found, string.match(entry[1], '^%d+'))
  table.insert(found, entry[2][2])
end)
return found
