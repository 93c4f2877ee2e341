-- Begins to build a tenant of which nothing is known. Answers its place if something is, or else the build's token.

local applied = call('GET', KEYS[1])
if applied then
  return { applied, '' }
end
local now = call('TIME')
local token = now[1] .. '.' .. now[2]
call('SET', base .. 'building', token .. ':0')
return { '', token }
