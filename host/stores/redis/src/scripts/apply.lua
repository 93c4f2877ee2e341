-- Applies rows of the log. ARGV: up to where the caller believes this tenant is told, or nothing; up to where it is told by
-- this; then row by row its place, what it is, how many arguments follow, and these.

local MOST_DELIVERIES = 5

local applied = call('GET', KEYS[1])
if not applied and ARGV[3] ~= '1' then
  return redis.error_reply('UNAPPLIED nothing is known of this tenant: it is to be built first')
end
applied = tonumber(applied or '0')
if ARGV[1] ~= '' and applied < tonumber(ARGV[1]) then
  return redis.error_reply('BEHIND what was applied before is no longer there')
end

local counts = {}
local function count(what)
  counts[what] = (counts[what] or 0) + 1
end

-- What many rows write under one key is written at once: before it is read, or at the end.
local waiting = {}

local function later(verb, key, one, other)
  local words = waiting[key]
  if not words then
    words = { verb, key }
    waiting[key] = words
  end
  words[#words + 1] = one
  words[#words + 1] = other
end

local function settle()
  for key, words in pairs(waiting) do
    call(unpack(words))
    waiting[key] = nil
  end
end

local rows = {}

-- scope, owner, key, revision, `put` or `delete`, what a session keeps
function rows.memory(position, a)
  local scope, owner, key, revision, verb, stored = unpack(ARGV, a, a + 5)
  append(base .. 'changes', 'MAXLEN', '~', 10000, position .. '-0',
    'scope', scope, 'owner', owner, 'key', key, 'revision', revision, 'change', verb)
  if scope == 'session' then
    if verb == 'put' then
      keep(owner, key, stored)
    else
      forget(owner, key)
    end
  end
  count('memory-changes')
end

-- Most rows send something: the names of what they write are made once. What waits goes into one command.
local channels = { mail = {}, topic = {} }

local function channel(kind, name)
  local found = channels[kind][name]
  if not found then
    if kind == 'mail' then
      found = { stream = mailbox(name), bell = 'mailbox:' .. name, index = base .. 'places:' .. name }
    else
      found = { stream = open_topic(name), bell = 'topic:' .. name, index = base .. 'ids:topic:' .. name }
    end
    channels[kind][name] = found
  end
  return found
end

-- agent, id, event
function rows.mail(position, a)
  local to, id = channel('mail', ARGV[a]), ARGV[a + 1]
  if append(to.stream, position .. '-0', 'id', id, 'event', ARGV[a + 2]) then
    later('HSET', to.index, id, position .. ' 0 1')
  end
  rung[to.bell] = position
  count('messages-sent')
end

-- topic, id of 20 digits, event
function rows.topic(position, a)
  local to, id = channel('topic', ARGV[a]), ARGV[a + 1]
  if append(to.stream, position .. '-0', 'id', id, 'event', ARGV[a + 2]) then
    later('ZADD', to.index, '0', id .. ' ' .. position)
  end
  rung[to.bell] = position
  count('events-published')
end

-- Whether a row is older than the place where its message stands: a build had seen what came after it.
local function is_stale(agent, id, position)
  local stands = place(agent, id)
  return stands and tonumber(stands) > tonumber(position)
end

-- agent, taker, how many, ids
function rows.taken(position_of_row, a)
  settle()
  local agent, taker = ARGV[a], ARGV[a + 1]
  for i = a + 3, a + 2 + tonumber(ARGV[a + 2]) do
    local id = ARGV[i]
    local position, deliveries, state = place(agent, id)
    if position and state ~= '3' and tonumber(position) < tonumber(position_of_row) then
      local entry = position .. '-0'
      local pending = state == '2' and call('XPENDING', mailbox(agent), 'agents', entry, entry, 1)[1]
      -- In these hands already: a row that a rebuild had seen.
      if not (pending and pending[2] == taker) then
        if pending then
          let_go(agent, position)
        end
        hand_out(agent, id, position, deliveries + 1, taker)
      end
    end
    count('messages-taken')
  end
end

-- agent, id
function rows.processed(position, a)
  settle()
  remove(ARGV[a], ARGV[a + 1])
  ring('mailbox:' .. ARGV[a], position)
  count('messages-processed')
end

-- agent, id, reason, at
function rows.buried(position, a)
  settle()
  if not is_stale(ARGV[a], ARGV[a + 1], position) then
    bury(ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3])
  end
  ring('mailbox:' .. ARGV[a], position)
  count('messages-buried')
end

-- agent, id
function rows.revived(position, a)
  settle()
  local agent, id = ARGV[a], ARGV[a + 1]
  local before, _, state = place(agent, id)
  if before and tonumber(before) < tonumber(position) then
    local event = event_of(agent, id, before, state)
    remove(agent, id)
    if event then
      append(mailbox(agent), position .. '-0', 'id', id, 'event', event)
      set_place(agent, id, position, 0, '1')
    end
  end
  ring('mailbox:' .. agent, position)
  count('messages-revived')
end

-- taker, at
function rows.released(position, a)
  settle()
  local taker, at = ARGV[a], ARGV[a + 1]
  local hands = base .. 'hands:' .. taker
  for _, agent in ipairs(call('SMEMBERS', hands)) do
    local key = mailbox(agent)
    for _, pending in ipairs(call('XPENDING', key, 'agents', '-', '+', 1000000, taker)) do
      local entry = call('XRANGE', key, pending[1], pending[1])[1]
      local id = entry and entry[2][2]
      if not id then
        call('XACK', key, 'agents', pending[1])
      elseif pending[4] >= MOST_DELIVERIES then
        bury(agent, id, string.format('handed out %d times and never processed', pending[4]), at)
        count('messages-buried')
      else
        set_place(agent, id, string.match(pending[1], '^%d+'), pending[4], '1')
      end
    end
    call('XGROUP', 'DELCONSUMER', key, 'agents', taker)
    ring('mailbox:' .. agent, position)
  end
  call('DEL', hands)
end

-- run, how it ended or nothing, its mark, then step by step its path and mark
function rows.run(_, a, n)
  local run, over = ARGV[a], ARGV[a + 1]
  if over ~= '' then
    end_run(run)
    count('runs-' .. over)
    return
  end
  call('HSET', base .. 'runs', run, ARGV[a + 2])
  local steps = base .. 'steps:' .. run
  for i = a + 3, a + n - 1, 2 do
    local mark = ARGV[i + 1]
    -- Whose step it is stands only where it begins.
    if string.find(mark, '"agent":null', 1, true) then
      local before = call('HGET', steps, ARGV[i])
      local agent = before and string.match(before, '"agent":("[%l%d-]+")')
      if agent then
        mark = string.gsub(mark, '"agent":null', '"agent":' .. agent, 1)
      end
    end
    call('HSET', steps, ARGV[i], mark)
  end
end

local at = 3
while ARGV[at] do
  local position, n = ARGV[at], tonumber(ARGV[at + 2])
  if tonumber(position) > applied then
    rows[ARGV[at + 1]](position, at + 3, n)
  end
  at = at + 3 + n
end

settle()
ring_out()
for what, n in pairs(counts) do
  call('HINCRBY', base .. 'metrics', what, n)
end
if tonumber(ARGV[2]) > applied then
  call('SET', KEYS[1], ARGV[2])
end
return redis.status_reply('OK')
