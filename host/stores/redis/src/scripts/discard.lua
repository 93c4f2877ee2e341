-- Removes items. ARGV: the build it belongs to, or nothing; then item by item what it is and two words that name it.

local refused = go_on(ARGV[1])
if refused then
  return refused
end

local items = { mail = remove, topic = withdraw, session = forget, run = end_run }
for at = 2, #ARGV, 3 do
  items[ARGV[at]](ARGV[at + 1], ARGV[at + 2])
end
return redis.status_reply('OK')
