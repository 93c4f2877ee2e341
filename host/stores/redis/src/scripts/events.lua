#!lua flags=no-writes
-- Events of a stream after a place. KEYS[1]: the stream. ARGV: the place, at most how many, at most how many bytes, though
-- always one. Answers place, event, place, event…

local found, bytes = {}, 0
local most, bound = tonumber(ARGV[2]), tonumber(ARGV[3])
local from = '(' .. ARGV[1] .. '-0'
while #found / 2 < most do
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', math.min(16, most - #found / 2))
  for _, entry in ipairs(page) do
    bytes = bytes + #entry[2][2]
    if #found > 0 and bytes > bound then
      return found
    end
    table.insert(found, string.match(entry[1], '^%d+'))
    table.insert(found, entry[2][2])
    from = '(' .. entry[1]
  end
  if #page == 0 then
    return found
  end
end
return found
