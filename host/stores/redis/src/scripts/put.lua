-- Puts items right, whatever stands there. ARGV: the build it belongs to, or nothing; then item by item what it is, how
-- many arguments follow, and these.

local refused = go_on(ARGV[1])
if refused then
  return refused
end

-- What is to be added to each stream.
local missing = {}
-- Which messages are in somebody's hands, once they are there.
local claims = {}

-- The entry at a place, whatever message's it is.
local function stands_at(key, position)
  return call('XRANGE', key, position, position)[1]
end

local function add(key, grouped, position, id, event)
  missing[key] = missing[key] or { grouped = grouped }
  table.insert(missing[key], { position = position, id = id, event = event })
end

-- Entries go to the end of a stream alone: one with something to add before its end is written anew.
local function fill(key, entries)
  table.sort(entries, function(a, b)
    return tonumber(a.position) < tonumber(b.position)
  end)
  local function write(to, entry)
    call('XADD', to, entry_of(entry.position, entry.id), 'event', entry.event)
  end
  local last = 0
  if call('EXISTS', key) == 1 then
    local about = call('XINFO', 'STREAM', key)
    for i = 1, #about, 2 do
      if about[i] == 'last-generated-id' then
        last = number_of(about[i + 1])
      end
    end
  end
  if tonumber(entries[1].position) > last then
    for _, entry in ipairs(entries) do
      write(key, entry)
    end
    return
  end
  local new = base .. 'written-anew'
  call('DEL', new)
  local pending = {}
  if entries.grouped then
    pending = call('XPENDING', key, 'agents', '-', '+', 1000000)
    call('XGROUP', 'CREATE', new, 'agents', '0', 'MKSTREAM')
  end
  local next = 1
  each_entry(key, '-', math.huge, function(entry)
    while entries[next] and tonumber(entries[next].position) < number_of(entry[1]) do
      write(new, entries[next])
      next = next + 1
    end
    call('XADD', new, entry[1], unpack(entry[2]))
  end)
  while entries[next] do
    write(new, entries[next])
    next = next + 1
  end
  for _, entry in ipairs(pending) do
    call('XCLAIM', new, 'agents', entry[2], 0, entry[1], 'RETRYCOUNT', entry[4], 'FORCE', 'JUSTID')
  end
  call('RENAME', new, key)
end

local items = {}

-- agent, id, place, event, deliveries, taker or nothing, then of a dead letter: reason, at
function items.mail(a, n)
  local agent, id, position, event, deliveries, taker, reason, at = unpack(ARGV, a, a + n - 1)
  local key = mailbox(agent)
  local before, _, state = place(agent, id)
  local stands = stands_at(key, position)
  -- Somebody else's place, or another content.
  local other = stands and string.match(stands[1], '%d+$')
  if other and other ~= id then
    if place(agent, other) == position then
      remove(agent, other)
    else
      call('XDEL', key, stands[1])
    end
    stands = nil
  elseif stands and stands[2][2] ~= event then
    call('XDEL', key, stands[1])
    stands = nil
  end
  if before and (before ~= position or state == '3' or reason) then
    remove(agent, id)
    stands = stands_at(key, position)
  elseif state == '2' then
    let_go(agent, entry_of(position, id))
  end
  if reason then
    if stands then
      call('XDEL', key, stands[1])
    end
    write_letter(agent, id, position, deliveries, event, reason, at)
    return
  end
  if not stands then
    add(key, true, position, id, event)
  end
  if taker ~= '' or deliveries ~= '0' then
    set_place(agent, id, position, deliveries, '1')
  elseif before then
    call('HDEL', base .. 'places:' .. agent, id)
  end
  if taker ~= '' then
    table.insert(claims, { agent, id, position, deliveries, taker })
  end
end

-- topic, place, event
function items.topic(a)
  local topic, position, event = unpack(ARGV, a, a + 2)
  local key = open_topic(topic)
  local stands = stands_at(key, position)
  if stands and stands[2][2] ~= event then
    withdraw(topic, position)
    stands = nil
  end
  if not stands then
    add(key, false, position, '0', event)
  end
end

-- owner, key, what a session keeps or nothing
function items.session(a)
  if ARGV[a + 2] == '' then
    forget(ARGV[a], ARGV[a + 1])
  else
    keep(ARGV[a], ARGV[a + 1], ARGV[a + 2])
  end
end

-- run, its mark or nothing, then step by step its path and mark
function items.run(a, n)
  end_run(ARGV[a])
  if ARGV[a + 1] ~= '' then
    call('HSET', base .. 'runs', ARGV[a], ARGV[a + 1])
    for i = a + 2, a + n - 1, 2 do
      call('HSET', base .. 'steps:' .. ARGV[a], ARGV[i], ARGV[i + 1])
    end
  end
end

local at = 2
while ARGV[at] do
  local n = tonumber(ARGV[at + 1])
  items[ARGV[at]](at + 2, n)
  at = at + 2 + n
end
for key, entries in pairs(missing) do
  fill(key, entries)
end
for _, claim in ipairs(claims) do
  hand_out(unpack(claim))
end
return redis.status_reply('OK')
