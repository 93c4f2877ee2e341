#!lua flags=no-writes
-- Places of a stream's entries, without what they hold. KEYS[1]: the stream. ARGV: from where, as XRANGE has it; how many.

local found, from, most = {}, ARGV[1], tonumber(ARGV[2])
while #found < most do
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', math.min(16, most - #found))
  for _, entry in ipairs(page) do
    table.insert(found, string.match(entry[1], '^%d+'))
    from = '(' .. entry[1]
  end
  if #page == 0 then
    return found
  end
end
return found
