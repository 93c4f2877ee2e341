-- Applies rows of the log. ARGV: up to where the caller believes this tenant is told, or nothing; up to where it is told by
-- this; the first row's place; then row by row its place, what it is, how many arguments follow, and these. Rows that send to
-- a channel are told as one, at the place of the last.

local MOST_DELIVERIES = 5
-- There are thousands of them, and a global costs a look-up each time.
local ARGV, tonumber = ARGV, tonumber

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

-- agent, then message by message its place, id and event
function rows.mail(_, a, n)
  local agent = ARGV[a]
  local stream = mailbox(agent)
  for i = a + 1, a + n - 1, 3 do
    local position, id = ARGV[i], ARGV[i + 1]
    if tonumber(position) > applied then
      append(stream, entry_of(position, id), 'event', ARGV[i + 2])
      count('messages-sent')
    end
  end
end

-- topic, then event by event its place and the event
function rows.topic(_, a, n)
  local topic = ARGV[a]
  local stream = open_topic(topic)
  for i = a + 1, a + n - 1, 2 do
    local position = ARGV[i]
    if tonumber(position) > applied then
      append(stream, position .. '-0', 'event', ARGV[i + 1])
      count('events-published')
    end
  end
end

-- Whether a row is older than the place where its message stands: a build had seen what came after it.
local function is_stale(agent, id, position)
  local stands = place(agent, id)
  return stands and tonumber(stands) > tonumber(position)
end

-- agent, taker, then message by message its id and the place where it stood
function rows.taken(position_of_row, a, n)
  local agent, taker = ARGV[a], ARGV[a + 1]
  for i = a + 2, a + n - 1, 2 do
    local id = ARGV[i]
    local position, deliveries, state = place(agent, id)
    if not position then
      position, deliveries, state = ARGV[i + 1], 0, '1'
    end
    if state ~= '3' and tonumber(position) < tonumber(position_of_row) then
      local entry = entry_of(position, id)
      local pending = state == '2' and call('XPENDING', mailbox(agent), 'agents', entry, entry, 1)[1]
      -- In these hands already: a row that a rebuild had seen.
      if not (pending and pending[2] == taker) then
        if pending then
          let_go(agent, entry)
        end
        hand_out(agent, id, position, deliveries + 1, taker)
      end
    end
    count('messages-taken')
  end
end

-- agent, id
function rows.processed(position, a)
  remove(ARGV[a], ARGV[a + 1])
  count('messages-processed')
end

-- agent, id, reason, at
function rows.buried(position, a)
  if not is_stale(ARGV[a], ARGV[a + 1], position) then
    bury(ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3])
  end
  count('messages-buried')
end

-- agent, id
function rows.revived(position, a)
  local agent, id = ARGV[a], ARGV[a + 1]
  local before, _, state = place(agent, id)
  if before and tonumber(before) < tonumber(position) then
    local event = event_of(agent, id, before, state)
    remove(agent, id)
    if event then
      append(mailbox(agent), entry_of(position, id), 'event', event)
      set_place(agent, id, position, 0, '1')
    end
  end
  count('messages-revived')
end

-- taker, at
function rows.released(position, a)
  local taker, at = ARGV[a], ARGV[a + 1]
  local hands = base .. 'hands:' .. taker
  for _, agent in ipairs(call('SMEMBERS', hands)) do
    local key = mailbox(agent)
    for _, pending in ipairs(call('XPENDING', key, 'agents', '-', '+', 1000000, taker)) do
      local position, id = string.match(pending[1], '^(%d+)%-(%d+)$')
      if not place(agent, id) then
        call('XACK', key, 'agents', pending[1])
      elseif pending[4] >= MOST_DELIVERIES then
        bury(agent, id, string.format('handed out %d times and never processed', pending[4]), at)
        count('messages-buried')
      else
        set_place(agent, id, position, pending[4], '1')
      end
    end
    call('XGROUP', 'DELCONSUMER', key, 'agents', taker)
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

local at = 4
while ARGV[at] do
  local position, n = ARGV[at], tonumber(ARGV[at + 2])
  if tonumber(position) > applied then
    rows[ARGV[at + 1]](position, at + 3, n)
  end
  at = at + 3 + n
end

for what, n in pairs(counts) do
  call('HINCRBY', base .. 'metrics', what, n)
end
if tonumber(ARGV[2]) > applied then
  call('SET', KEYS[1], ARGV[2])
end
return redis.status_reply('OK')
