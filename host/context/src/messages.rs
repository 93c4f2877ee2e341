//! Messages: what a call on a mailbox or a topic means.
//!
//! Invariants: a message is in one attempt's hands at a time, and leaves them with that attempt; it is gone in the same
//! commit that makes true what its processing changed, or it goes back. What an attempt sends is sent when it succeeds. Of one sender, a later message is never handed out while an earlier one
//! is in somebody's hands. Who sent an event is said by the host, not by the sender.
//!
//! To add a call: its [`Decide`], and its line in [`Messages::decide_any`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use ltmc_journal::runlog::Commit;
use ltmc_model::agent::AgentRef;
use ltmc_model::call::messages::{self as call, Draft, MessageCall};
use ltmc_model::delta::Delta;
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::message::{self, Channel, Delivery, Event, Events, MAX_MAILBOX, MAX_TAKEN, Message, Topic};
use ltmc_model::{AgentName, Position, Revision, TenantId};
use ltmc_ports::log::Interest;
use ltmc_ports::{Bus, Changes, Expect, ReadMail, StoreError};
use ltmc_projections::Follower;
use ltmc_tenancy::Authority;
use moka::sync::Cache;

use crate::context::{Asked, Decide, Decided, Decision, Whose, decided, patience};
use crate::locks::{LetGo, Locks};
use crate::subscription::Subscriptions;

/// Of so many mailboxes it is remembered how many messages they have at most.
const COUNTED: u64 = 10_000;
/// Rows of the log that somebody who waits for his mailbox looks at, at once.
const LOOK: u32 = 256;
/// The longest reason of a rejection, in bytes.
const MAX_REASON: usize = 1 << 10;

/// The mailboxes and topics of all tenants.
pub struct Messages {
    ports: Ports,
    /// How many messages a mailbox has at most, by what was counted and what was sent since.
    most: Cache<(TenantId, AgentName), Arc<AtomicU32>>,
}

/// What messages need.
pub struct Ports {
    /// Mailboxes, as the record has them.
    pub mail: Arc<dyn ReadMail>,
    /// Topics, as the record has them.
    pub bus: Arc<dyn Bus>,
    /// A database that follows the record and serves topics, and who leads it there.
    pub database: Option<(Arc<dyn Bus>, Arc<Follower>)>,
    /// What comes to mailboxes and topics.
    pub subscriptions: Arc<Subscriptions>,
    /// Which agents there are.
    pub authority: Arc<Authority>,
    /// One decides on a mailbox at a time.
    pub locks: Arc<Locks>,
}

impl Messages {
    /// Decided by the record.
    pub fn new(ports: Ports) -> Self {
        // bound: what is remembered
        Self { ports, most: Cache::new(COUNTED) }
    }

    /// Whether a mailbox has room for one more, which counts as being there from now on. It is counted anew only where it
    /// may be full, with what whoever asks sent so far; where it comes near that, the record is to look again. None: it is
    /// full.
    pub(crate) async fn room(&self, whose: Whose<'_>, agent: &AgentName) -> Result<Option<Option<Expect>>, StoreError> {
        let place = (whose.tenant.clone(), agent.clone());
        let one_more = |most: u32| (most < MAX_MAILBOX).then_some(most + 1);
        let known = self.most.get(&place);
        let count = match known.and_then(|most| most.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok())
        {
            Some(most) => most,
            None => {
                whose.settle().await?;
                let count = self.ports.mail.waiting(whose.tenant, agent, MAX_MAILBOX).await?;
                let count = count.saturating_add(sent_to(whose.own(), agent));
                self.most.insert(place, Arc::new(AtomicU32::new(count.saturating_add(1))));
                count
            }
        };
        let near = (count >= MAX_MAILBOX / 2).then(|| Expect::Room { agent: agent.clone(), more: 1 });
        Ok((count < MAX_MAILBOX).then_some(near))
    }

    /// What a call comes to.
    pub(crate) async fn decide_any(&self, asked: Asked<'_>, call: MessageCall) -> Decision<Reply> {
        match call {
            MessageCall::Send(call) => decided(self, asked, call).await,
            MessageCall::Publish(call) => decided(self, asked, call).await,
            MessageCall::Receive(call) => decided(self, asked, call).await,
            MessageCall::Ack(call) => decided(self, asked, call).await,
            MessageCall::Reject(call) => decided(self, asked, call).await,
            MessageCall::Read(call) => decided(self, asked, call).await,
        }
    }

    /// Events of a topic, from the database that follows or, in its place, from the record.
    async fn events(&self, whose: Whose<'_>, topic: &Topic, after: Position, limit: u32) -> Result<Events, StoreError> {
        if let Some((database, follower)) = &self.ports.database
            && whose.is_on_disk().await
            && follower.caught_up().await
        {
            match database.events(whose.tenant, topic, after, limit).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    metrics::counter!("ltmc_degraded_reads_total", "call" => "messages.read").increment(1);
                    tracing::warn!(%error, source = ?error.source, "the record answers in the place of the bus");
                }
            }
        }
        self.ports.bus.events(whose.tenant, topic, after, limit).await
    }
}

/// Whose mailbox a message is in that the attempt which asks has in its hands, and that this is so.
fn holder(whose: Whose<'_>, message: Revision) -> Option<(AgentName, Expect)> {
    let (agent, within) = (whose.agent?.clone(), whose.within?);
    let by = within.transaction.in_hands(message)?.clone();
    Some((agent.clone(), Expect::InHands { agent, message, by }))
}

impl Decide<call::Send> for Messages {
    async fn decide(&self, asked: Asked<'_>, call::Send { to, event }: call::Send) -> Decision<Revision> {
        let whose = asked.whose;
        let known = AgentRef { name: to.clone(), digest: None };
        if self.ports.authority.agent(whose.tenant, &known).await?.is_none() {
            return Ok(Decided::Answer(Err(Refusal::NotFound)));
        }
        let (id, event) = match event_of(asked, event) {
            Ok(event) => event,
            Err(why) => return Ok(Decided::refuse(why)),
        };
        let Some(room) = self.room(whose, &to).await? else {
            let full = format!("the mailbox of `{to}` holds {MAX_MAILBOX} messages, which is its bound");
            return Ok(Decided::Answer(Err(Refusal::Quota(full))));
        };
        sent(whose, id, Channel::Mailbox(to), event, room)
    }
}

impl Decide<call::Publish> for Messages {
    async fn decide(&self, asked: Asked<'_>, call::Publish { topic, event }: call::Publish) -> Decision<Revision> {
        match event_of(asked, event) {
            Err(why) => Ok(Decided::refuse(why)),
            Ok((id, event)) => sent(asked.whose, id, Channel::Topic(topic), event, None),
        }
    }
}

impl Decide<call::Receive> for Messages {
    async fn decide(
        &self,
        asked: Asked<'_>,
        call::Receive { limit, wait_ms }: call::Receive,
    ) -> Decision<Vec<Delivery>> {
        let whose = asked.whose;
        let wait = match patience(wait_ms) {
            Ok(wait) if (1..=MAX_TAKEN).contains(&limit) => wait,
            Ok(_) => return Ok(Decided::refuse(format!("1 to {MAX_TAKEN} messages are taken at once, not {limit}"))),
            Err(why) => return Ok(Decided::refuse(why)),
        };
        let (Some(agent), Some(within)) = (whose.agent, whose.within) else {
            return Ok(Decided::refuse("a mailbox is an agent's: only an attempt of it takes messages"));
        };
        let begun = Instant::now();
        let gone = gone(whose.own());
        if within.transaction.may_have_more() {
            // What it was handed before it was made again is not handed out another time.
            whose.settle().await?;
            let mut had = self.ports.mail.in_hands(whose.tenant, agent, within.transaction.taker(), MAX_TAKEN).await?;
            had.retain(|had| within.transaction.in_hands(had.id).is_none() && !gone.contains(&had.id));
            had.truncate(limit as usize);
            if !had.is_empty() {
                return Ok(Decided::Lease(had, Commit::default()));
            }
        }
        loop {
            whose.settle().await?;
            let seen = self.ports.subscriptions.log().ends().borrow().visible;
            let lock = self.ports.locks.take(whose, &("mailbox", agent), LetGo::Late).await;
            let ready = self.ports.mail.ready(whose.tenant, agent, limit, &gone).await?;
            if !ready.is_empty() {
                let (places, ready): (Vec<_>, Vec<_>) = ready.into_iter().unzip();
                let messages: Vec<Revision> = ready.iter().map(|delivery| delivery.id).collect();
                let expects = vec![Expect::Waiting { agent: agent.clone(), messages: messages.clone() }];
                let by = within.transaction.taker().clone();
                let deltas = vec![Delta::Taken { agent: agent.clone(), messages, places, by }];
                let locks = lock.into_iter().collect();
                return Ok(Decided::Lease(
                    ready,
                    Commit { changes: Changes { deltas, expects }, locks, ..Commit::default() },
                ));
            }
            drop(lock);
            let Some(left) = wait.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else {
                return Ok(Decided::Answer(Ok(Vec::new())));
            };
            if !whose.own().is_empty() {
                return Ok(Decided::Checkpoint);
            }
            // Whatever comes, or was missed: it is looked into the mailbox.
            let comes = self.ports.subscriptions.once(whose, Interest::Mailbox(agent.clone()), Some(seen), LOOK, left);
            if let Err(lost) = comes.await {
                lost.refusal()?;
            }
        }
    }
}

/// Messages that leave the mailbox with what an attempt did so far: none waits for them any more.
fn gone(own: &[Delta]) -> Vec<Revision> {
    let left = own.iter().filter_map(|delta| match delta {
        Delta::Processed { message, .. } | Delta::Buried { message, .. } => Some(*message),
        _ => None,
    });
    left.collect()
}

impl Decide<call::Ack> for Messages {
    async fn decide(&self, asked: Asked<'_>, call::Ack { id }: call::Ack) -> Decision<()> {
        let Some((agent, in_hands)) = holder(asked.whose, id) else { return Ok(not_in_hands()) };
        let delta = Delta::Processed { agent, message: id };
        Ok(Decided::change((), vec![delta], vec![in_hands], None))
    }
}

impl Decide<call::Reject> for Messages {
    async fn decide(&self, asked: Asked<'_>, call::Reject { id, reason }: call::Reject) -> Decision<()> {
        if reason.len() > MAX_REASON || reason.chars().any(|c| c.is_control() && c != '\n') {
            let why = format!("a reason has at most {MAX_REASON} bytes, and no control characters");
            return Ok(Decided::refuse(why));
        }
        let Some((agent, in_hands)) = holder(asked.whose, id) else { return Ok(not_in_hands()) };
        let delta = Delta::Buried { agent, message: id, reason, at: asked.now };
        Ok(Decided::change((), vec![delta], vec![in_hands], None))
    }
}

impl Decide<call::Read> for Messages {
    async fn decide(&self, Asked { whose, .. }: Asked<'_>, call: call::Read) -> Decision<Events> {
        let call::Read { topic, after, limit, wait_ms } = call;
        let wait = match patience(wait_ms) {
            Ok(wait) if (1..=MAX_TAKEN).contains(&limit) => wait,
            Ok(_) => return Ok(Decided::refuse(format!("1 to {MAX_TAKEN} events are read at once, not {limit}"))),
            Err(why) => return Ok(Decided::refuse(why)),
        };
        // What it published before "now" is not to come after it.
        if after.is_none() && !whose.own().is_empty() {
            return Ok(Decided::Checkpoint);
        }
        // What earlier steps published is in the log.
        whose.settle().await?;
        let log = self.ports.subscriptions.log();
        let visible = log.ends().borrow().visible;
        let after = after.unwrap_or(visible);
        let found = self.events(whose, &topic, after, limit).await?;
        // Looked at afterwards: what was thrown away meanwhile may be missing in what was found.
        if after < log.trimmed(whose.tenant).await? || after > visible {
            return Ok(Decided::Answer(Err(Refusal::Resync(visible))));
        }
        if !found.events.is_empty() || wait.is_zero() {
            return Ok(Decided::Answer(Ok(found)));
        }
        if !whose.own().is_empty() {
            return Ok(Decided::Checkpoint);
        }
        match self.ports.subscriptions.once(whose, Interest::Topic(topic), Some(after), limit, wait).await {
            Ok((rows, next)) => {
                let events = rows.iter().filter_map(|row| row.published()).collect();
                Ok(Decided::Answer(Ok(Events { events, next })))
            }
            Err(lost) => Ok(Decided::Answer(Err(lost.refusal()?))),
        }
    }
}

/// How many messages to this mailbox are among what an attempt did so far.
fn sent_to(own: &[Delta], to: &AgentName) -> u32 {
    let is_there =
        |delta: &&Delta| matches!(delta, Delta::Sent(Message { channel: Channel::Mailbox(agent), .. }) if agent == to);
    u32::try_from(own.iter().filter(is_there).count()).unwrap_or(u32::MAX)
}

fn not_in_hands() -> Decided<()> {
    Decided::Answer(Err(Refusal::NotFound))
}

/// A message that is sent with what asks; or held, in a branch that does so.
fn sent(whose: Whose<'_>, id: Revision, channel: Channel, event: Event, room: Option<Expect>) -> Decision<Revision> {
    let message = Message { id, channel, event };
    match whose.holds_messages() {
        Some(of) => whose.held(id, of, message),
        None => Ok(Decided::change(id, vec![Delta::Sent(message)], room.into_iter().collect(), None)),
    }
}

fn event_of(asked: Asked<'_>, draft: Draft) -> Result<(Revision, Event), String> {
    message::check(&draft.kind, draft.subject.as_deref(), &draft.data)?;
    let (id, Draft { kind, subject, data, given }) = ((asked.revision)(), draft);
    let (source, time, trail) = (asked.whose.source(), asked.now, asked.whose.trail());
    let mut event = Event { id: id.to_string(), source, kind, subject, time, data, attributes: BTreeMap::new(), trail };
    // Only of a client: what a guest says of itself counts for nothing.
    if let Some(given) = given.filter(|_| asked.whose.client.is_some()) {
        given.check(&event.source)?;
        given.tell(&mut event);
    }
    event.trace(asked.whose.traceparent().as_deref());
    Ok((id, event))
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}
