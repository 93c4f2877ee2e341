-- What every script that writes begins with. KEYS[1] is a tenant's `applied`; its other keys stand beside it, under the same
-- hash tag, and so in the same slot of a cluster.

local call = redis.call
local base = string.sub(KEYS[1], 1, -#'applied' - 1)

local function number_of(entry)
  return tonumber(string.match(entry, '^%d+'))
end

-- Adds to a stream and says so, unless the stream has been further already: then the entry is there, or was and is gone.
local function append(key, ...)
  local reply = redis.pcall('XADD', key, ...)
  if type(reply) ~= 'table' then
    return true
  end
  if not string.find(reply.err, 'equal or smaller', 1, true) then
    error(reply)
  end
  return false
end

-- Mailboxes: a message's entry is `PLACE-ID`. Of messages that somebody has had, `places:AGENT` has the place, how often they
-- were handed out, and their state: 1 waiting, 2 taken, 3 dead.
local known = {}

local function mailbox(agent)
  local key = base .. 'mailbox:' .. agent
  if not known[key] then
    if call('EXISTS', key) == 0 then
      call('XGROUP', 'CREATE', key, 'agents', '0', 'MKSTREAM')
      call('ZADD', base .. 'mailboxes', 0, agent .. '/')
    end
    known[key] = true
  end
  return key
end

local function place(agent, id)
  local found = call('HGET', base .. 'places:' .. agent, id)
  if not found then
    return nil
  end
  local position, deliveries, state = string.match(found, '^(%d+) (%d+) (%d)$')
  return position, tonumber(deliveries), state
end

local function entry_of(position, id)
  return position .. '-' .. id
end

local function set_place(agent, id, position, deliveries, state)
  call('HSET', base .. 'places:' .. agent, id, string.format('%s %d %s', position, deliveries, state))
end

local function letter(agent, id)
  return base .. 'dead:' .. agent .. ':' .. id
end

-- Takes an entry out of its taker's hands.
local function let_go(agent, entry)
  local key = mailbox(agent)
  local pending = call('XPENDING', key, 'agents', entry, entry, 1)[1]
  if not pending then
    return
  end
  local taker = pending[2]
  call('XACK', key, 'agents', entry)
  if #call('XPENDING', key, 'agents', '-', '+', 1, taker) == 0 then
    call('XGROUP', 'DELCONSUMER', key, 'agents', taker)
    call('SREM', base .. 'hands:' .. taker, agent)
  end
end

-- Puts a message into its taker's hands, if it is there.
local function hand_out(agent, id, position, deliveries, taker)
  local claimed = call('XCLAIM', mailbox(agent), 'agents', taker, 0, entry_of(position, id), 'RETRYCOUNT', deliveries, 'FORCE', 'JUSTID')
  if #claimed == 0 then
    return
  end
  call('SADD', base .. 'hands:' .. taker, agent)
  set_place(agent, id, position, deliveries, '2')
end

-- Removes a message that somebody has had, wherever it stands.
local function remove(agent, id)
  local position, _, state = place(agent, id)
  if not position then
    return
  end
  if state == '2' then
    let_go(agent, entry_of(position, id))
  end
  if state == '3' then
    call('DEL', letter(agent, id))
  else
    call('XDEL', mailbox(agent), entry_of(position, id))
  end
  call('HDEL', base .. 'places:' .. agent, id)
end

local function write_letter(agent, id, position, deliveries, event, reason, at)
  call('HSET', letter(agent, id), 'position', position, 'deliveries', deliveries, 'reason', reason, 'at', at, 'event', event)
  set_place(agent, id, position, deliveries, '3')
end

local function event_of(agent, id, position, state)
  if state == '3' then
    return call('HGET', letter(agent, id), 'event')
  end
  local entry = call('XRANGE', mailbox(agent), entry_of(position, id), entry_of(position, id))[1]
  return entry and entry[2][2]
end

-- Makes a dead letter of a message.
local function bury(agent, id, reason, at)
  local position, deliveries, state = place(agent, id)
  if not position then
    return
  end
  local event = event_of(agent, id, position, state)
  remove(agent, id)
  if event then
    write_letter(agent, id, position, deliveries, event, reason, at)
  end
end

-- Topics: an event's entry is `PLACE-0`.
local function open_topic(topic)
  local key = base .. 'topic:' .. topic
  if not known[key] then
    call('ZADD', base .. 'topics', 0, topic .. '/')
    known[key] = true
  end
  return key
end

local function withdraw(topic, position)
  call('XDEL', base .. 'topic:' .. topic, position .. '-0')
end

-- Session data.
local function keep(owner, key, stored)
  if call('HSET', base .. 'session:' .. owner, key, stored) == 1 then
    call('ZADD', base .. 'session-keys', 0, owner .. '/' .. key)
  end
end

local function forget(owner, key)
  if call('HDEL', base .. 'session:' .. owner, key) == 1 then
    call('ZREM', base .. 'session-keys', owner .. '/' .. key)
  end
end

-- Runs.
local function end_run(run)
  call('HDEL', base .. 'runs', run)
  call('DEL', base .. 'steps:' .. run)
end

-- A build goes on only if all of it so far is still here: `building` has its token and how many calls it has seen.
local function go_on(building)
  if building == '' then
    return nil
  end
  if call('GET', base .. 'building') ~= building then
    return redis.error_reply('REBUILD what was built so far is no longer there')
  end
  local token, count = string.match(building, '^(.+):(%d+)$')
  call('SET', base .. 'building', string.format('%s:%d', token, tonumber(count) + 1))
  return nil
end
