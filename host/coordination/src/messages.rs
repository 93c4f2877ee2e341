//! Messages: what a call on a mailbox or a topic means.
//!
//! Invariants: a message is in one attempt's hands at a time, and leaves them with that attempt; it is gone in the same
//! append that holds what its processing changed. Of one sender, a later message is never handed out while an earlier one
//! is in somebody's hands. Who sent an event is said by the host, not by the sender.
//!
//! To add a call: its [`Decide`], and its line in [`Messages::decide_any`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use ltmc_model::agent::AgentRef;
use ltmc_model::call::messages::{self as call, Draft, MessageCall};
use ltmc_model::delta::Delta;
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::message::{self, Channel, Delivery, Event, Events, MAX_MAILBOX, MAX_TAKEN, Message, Topic};
use ltmc_model::{AgentName, Position, Revision, TenantId};
use ltmc_ports::{Bus, ReadLog, ReadMail, StoreError};
use moka::sync::Cache;

use crate::Authority;
use crate::context::{Asked, Decide, Decided, Decision, Whose, decided, patience};
use crate::following::Follower;
use crate::locks::Locks;
use crate::news;

/// Of so many mailboxes it is remembered how many messages they have at most.
const COUNTED: u64 = 10_000;
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
    /// How far the record goes.
    pub log: Arc<dyn ReadLog>,
    /// Which agents there are.
    pub authority: Arc<Authority>,
    /// One decides on a mailbox at a time.
    pub locks: Arc<Locks>,
}

impl Messages {
    /// Decided by the record.
    pub fn new(ports: Ports) -> Self {
        Self { ports, most: Cache::new(COUNTED) }
    }

    /// Whether a mailbox has room for one more, which counts as being there from now on. It is counted anew only where it
    /// may be full.
    pub(crate) async fn has_room(&self, tenant: &TenantId, agent: &AgentName) -> Result<bool, StoreError> {
        let place = (tenant.clone(), agent.clone());
        let one_more = |most: u32| (most < MAX_MAILBOX).then_some(most + 1);
        if let Some(most) = self.most.get(&place)
            && most.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
        {
            return Ok(true);
        }
        let count = self.ports.mail.waiting(tenant, agent, MAX_MAILBOX).await?;
        self.most.insert(place, Arc::new(AtomicU32::new(count.saturating_add(1))));
        Ok(count < MAX_MAILBOX)
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

    /// The agent in whose mailbox a message is that this attempt has in its hands.
    async fn holder<'a>(&self, whose: Whose<'a>, id: Revision) -> Result<Option<&'a AgentName>, StoreError> {
        let (Some(agent), Some(run)) = (whose.agent, whose.run) else { return Ok(None) };
        if run.log.has_in_hands(run.attempt, id) {
            return Ok(Some(agent));
        }
        // Of an attempt that was taken up from its journal the record knows.
        whose.settle().await?;
        Ok(self.ports.mail.is_taken(whose.tenant, agent, id, run.attempt).await?.then_some(agent))
    }
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
        if !self.has_room(whose.tenant, &to).await? {
            let full = format!("the mailbox of `{to}` holds {MAX_MAILBOX} messages, which is its bound");
            return Ok(Decided::Answer(Err(Refusal::Quota(full))));
        }
        Ok(sent(id, Channel::Mailbox(to), event))
    }
}

impl Decide<call::Publish> for Messages {
    async fn decide(&self, asked: Asked<'_>, call::Publish { topic, event }: call::Publish) -> Decision<Revision> {
        match event_of(asked, event) {
            Err(why) => Ok(Decided::refuse(why)),
            Ok((id, event)) => Ok(sent(id, Channel::Topic(topic), event)),
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
        let (Some(agent), Some(run)) = (whose.agent, whose.run) else {
            return Ok(Decided::refuse("a mailbox is an agent's: only an attempt of it takes messages"));
        };
        let (begun, channel) = (Instant::now(), Channel::Mailbox(agent.clone()));
        loop {
            whose.settle().await?;
            let seen = self.ports.log.ends().borrow().visible;
            let lock = self.ports.locks.take(whose, &("mailbox", agent)).await;
            let ready = self.ports.mail.ready(whose.tenant, agent, limit).await?;
            if !ready.is_empty() {
                let (places, ready): (Vec<_>, Vec<_>) = ready.into_iter().unzip();
                let messages = ready.iter().map(|delivery| delivery.id).collect();
                let delta = Delta::Taken { agent: agent.clone(), messages, places, by: run.attempt.clone() };
                // Nobody else takes of this mailbox until it is in the record, often with what its processing changed.
                return Ok(Decided::change(ready, delta, lock));
            }
            drop(lock);
            let Some(left) = wait.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else {
                return Ok(Decided::Answer(Ok(Vec::new())));
            };
            news::wait(&*self.ports.log, whose.tenant, &channel, seen, left).await;
        }
    }
}

impl Decide<call::Ack> for Messages {
    async fn decide(&self, asked: Asked<'_>, call::Ack { id }: call::Ack) -> Decision<()> {
        let Some(agent) = self.holder(asked.whose, id).await? else { return Ok(not_in_hands()) };
        let delta = Delta::Processed { agent: agent.clone(), message: id };
        Ok(Decided::Change { reply: (), deltas: vec![delta], lock: None, at_once: false })
    }
}

impl Decide<call::Reject> for Messages {
    async fn decide(&self, asked: Asked<'_>, call::Reject { id, reason }: call::Reject) -> Decision<()> {
        if reason.len() > MAX_REASON || reason.chars().any(|c| c.is_control() && c != '\n') {
            let why = format!("a reason has at most {MAX_REASON} bytes, and no control characters");
            return Ok(Decided::refuse(why));
        }
        let Some(agent) = self.holder(asked.whose, id).await? else { return Ok(not_in_hands()) };
        let delta = Delta::Buried { agent: agent.clone(), message: id, reason, at: asked.now };
        Ok(Decided::Change { reply: (), deltas: vec![delta], lock: None, at_once: false })
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
        match self.ports.database {
            // What follows the record follows what is on disk.
            Some(_) => whose.barrier().await?,
            None => whose.settle().await?,
        }
        let ends = self.ports.log.ends();
        let visible = ends.borrow().visible;
        let after = after.unwrap_or(visible);
        if after < self.ports.log.trimmed().await? || after > visible {
            return Ok(Decided::Answer(Err(Refusal::Resync(visible))));
        }
        let (begun, channel) = (Instant::now(), Channel::Topic(topic.clone()));
        loop {
            let seen = ends.borrow().visible.max(after);
            let found = self.events(whose, &topic, after, limit).await?;
            let left = wait.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
            match left {
                Some(left) if found.events.is_empty() => {
                    news::wait(&*self.ports.log, whose.tenant, &channel, seen, left).await;
                }
                _ => return Ok(Decided::Answer(Ok(found))),
            }
        }
    }
}

fn not_in_hands() -> Decided<()> {
    Decided::Answer(Err(Refusal::NotFound))
}

/// Somebody may be waiting for it: it is written at once.
fn sent(id: Revision, channel: Channel, event: Event) -> Decided<Revision> {
    let delta = Delta::Sent(Message { id, channel, event });
    Decided::Change { reply: id, deltas: vec![delta], lock: None, at_once: true }
}

fn event_of(asked: Asked<'_>, draft: Draft) -> Result<(Revision, Event), String> {
    message::check(&draft.kind, draft.subject.as_deref(), &draft.data)?;
    let (id, Draft { kind, subject, data }) = ((asked.revision)(), draft);
    Ok((id, Event { id: id.to_string(), source: asked.whose.source(), kind, subject, time: asked.now, data }))
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}
