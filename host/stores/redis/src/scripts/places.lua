-- Places of a stream's entries, without what they hold. KEYS[1]: the stream. ARGV: from where, as XRANGE has it; how many.

local found = {}
each_entry(KEYS[1], ARGV[1], tonumber(ARGV[2]), function(entry)
  table.insert(found, string.match(entry[1], '^%d+'))
end)
return found
