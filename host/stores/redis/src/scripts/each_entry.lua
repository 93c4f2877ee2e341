-- Goes through a stream's entries from `from` on, at most `most`, until `visit` says that it is enough. Few are read at once:
-- each may be large.
local function each_entry(key, from, most, visit)
  while most > 0 do
    local page = redis.call('XRANGE', key, from, '+', 'COUNT', math.min(16, most))
    for _, entry in ipairs(page) do
      if visit(entry) then
        return
      end
      from = '(' .. entry[1]
    end
    if #page == 0 then
      return
    end
    most = most - #page
  end
end

