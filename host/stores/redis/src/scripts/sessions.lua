#!lua flags=no-writes
-- Keys of sessions and their revisions. KEYS[1]: a tenant's `applied`. ARGV: from where, as ZRANGEBYLEX has it; how many.

local base = string.sub(KEYS[1], 1, -#'applied' - 1)
local found = {}
for _, member in ipairs(redis.call('ZRANGEBYLEX', base .. 'session-keys', ARGV[1], '+', 'LIMIT', 0, ARGV[2])) do
  local owner, key = string.match(member, '^([^/]*)/(.*)$')
  local stored = redis.call('HGET', base .. 'session:' .. owner, key)
  table.insert(found, member)
  table.insert(found, stored and string.match(stored, '^%d+') or '0')
end
return found
