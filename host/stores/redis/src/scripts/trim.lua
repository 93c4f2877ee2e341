-- Removes events of a topic up to a place, and answers how many. ARGV: the topic, the place, at most how many.

local topic, to, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local key, ids = base .. 'topic:' .. topic, base .. 'ids:topic:' .. topic
local removed = 0
local last
repeat
  local page = call('XRANGE', key, last and ('(' .. last) or '-', to .. '-0', 'COUNT', math.min(128, most - removed))
  for _, entry in ipairs(page) do
    call('ZREM', ids, entry[2][2] .. ' ' .. string.match(entry[1], '^%d+'))
    last = entry[1]
  end
  removed = removed + #page
until #page == 0 or removed >= most
if last then
  call('XTRIM', key, 'MINID', '=', string.format('%s-1', string.match(last, '^%d+')))
end
return removed
