-- Sets up to where a tenant is told. ARGV: the place; the build that is done by it, or nothing; `known` if the tenant had
-- such a place before.

if ARGV[2] ~= '' and call('GET', base .. 'building') ~= ARGV[2] then
  return redis.error_reply('REBUILD what was built is no longer there')
end
if ARGV[3] == 'known' and call('EXISTS', KEYS[1]) == 0 then
  return redis.error_reply('UNAPPLIED what was known of this tenant is no longer there')
end
call('SET', KEYS[1], ARGV[1])
call('DEL', base .. 'building')
call('HSETNX', base .. 'metrics', 'since', ARGV[1])
return redis.status_reply('OK')
