//! Shared context in memory: what a store makes of the log's deltas, in the plainest form. Also the oracle that the suites
//! hold other stores against.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use ltmc_model::delta::{Delta, FactEnd, Logged, Topic};
use ltmc_model::graph::{Entity, Fact, FactFilter, FactPage, MAX_VISITED, Reached, Relation, Walk};
use ltmc_model::memory::{Drawer, Item};
use ltmc_model::message::{
    self, Channel, DeadLetter, Delivery, Event, Events, MAX_DELIVERIES, MAX_MAILBOX, Message, Published, Taker,
};
use ltmc_model::recall::Note;
use ltmc_model::trigger::Watched;
use ltmc_model::{AgentName, Position, Revision, TenantId, Timestamp};
use tokio::sync::{broadcast, watch};

use super::MemoryRecord;
use crate::log::{Ends, Group, Interest, Rows};
use crate::{Expect, ReadFacts, ReadGraph, ReadLog, ReadMail, StoreError};

/// Everything of every tenant.
#[derive(Debug, Default)]
pub struct Context {
    /// Keys and values.
    pub memory: BTreeMap<(TenantId, Drawer, String), Item>,
    /// Facts, those that are over too.
    pub facts: BTreeMap<(TenantId, Revision), Fact>,
    /// Notes, by their ids.
    pub notes: BTreeMap<(TenantId, String), Note>,
    /// Messages in mailboxes, by their place.
    pub mail: BTreeMap<(TenantId, AgentName, Position), Kept>,
    /// Events of topics, by their place.
    pub topics: BTreeMap<(TenantId, message::Topic, Position), Event>,
    /// Every delta so far.
    pub log: Vec<Logged>,
}

/// A message in a mailbox.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The message.
    pub message: Message,
    /// How often it was handed out.
    pub deliveries: u32,
    /// In whose hands it is.
    pub taken: Option<Taker>,
    /// Why it is a dead letter, and since when.
    pub dead: Option<(String, Timestamp)>,
}

impl Context {
    /// The log's end.
    pub fn end(&self) -> Position {
        Position(self.log.len() as u64)
    }

    /// Forgets all that a tenant has, but the rows of the log.
    pub(super) fn purge(&mut self, tenant: &TenantId) {
        self.memory.retain(|(of, ..), _| of != tenant);
        self.facts.retain(|(of, _), _| of != tenant);
        self.notes.retain(|(of, _), _| of != tenant);
        self.mail.retain(|(of, ..), _| of != tenant);
        self.topics.retain(|(of, ..), _| of != tenant);
    }

    /// How many things a tenant has.
    pub(super) fn left(&self, tenant: &TenantId) -> usize {
        self.memory.keys().filter(|(of, ..)| of == tenant).count()
            + self.facts.keys().filter(|(of, _)| of == tenant).count()
            + self.notes.keys().filter(|(of, _)| of == tenant).count()
            + self.mail.keys().filter(|(of, ..)| of == tenant).count()
            + self.topics.keys().filter(|(of, ..)| of == tenant).count()
    }

    /// Where the newest change of what is watched stands.
    pub(super) fn remembered(&self, tenant: &TenantId, watched: &Watched) -> Position {
        let is_meant = |row: &&Logged| {
            row.tenant == *tenant && matches!(&row.delta, Delta::Memory(change) if watched.concerns(change))
        };
        self.log.iter().rev().find(is_meant).map_or(Position(0), |row| row.position)
    }

    /// Makes a delta true.
    pub fn apply(&mut self, tenant: &TenantId, delta: &Delta) {
        let position = self.end().next();
        self.log.push(Logged { position, tenant: tenant.clone(), delta: delta.clone() });
        match delta {
            Delta::Memory(change) => {
                let place = (tenant.clone(), change.drawer.clone(), change.key.clone());
                match &change.value {
                    None => drop(self.memory.remove(&place)),
                    Some(value) => {
                        let item = Item {
                            key: change.key.clone(),
                            value: value.bytes.clone(),
                            revision: change.revision,
                            expires_at: value.expires_at,
                        };
                        self.memory.insert(place, item);
                    }
                }
            }
            Delta::FactBegan(fact) => drop(self.facts.insert((tenant.clone(), fact.id), fact.clone())),
            Delta::FactEnded(FactEnd { id, valid_to, ended_at, .. }) => {
                if let Some(fact) = self.facts.get_mut(&(tenant.clone(), *id)) {
                    (fact.valid_to, fact.ended_at) = (Some(*valid_to), Some(*ended_at));
                }
            }
            Delta::NoteKept(note) => drop(self.notes.insert((tenant.clone(), note.id.clone()), note.clone())),
            Delta::NoteForgotten { id, .. } => drop(self.notes.remove(&(tenant.clone(), id.clone()))),
            Delta::Sent(message) => match &message.channel {
                Channel::Mailbox(agent) => {
                    let kept = Kept { message: message.clone(), deliveries: 0, taken: None, dead: None };
                    self.mail.insert((tenant.clone(), agent.clone(), position), kept);
                }
                Channel::Topic(topic) => {
                    self.topics.insert((tenant.clone(), topic.clone(), position), message.event.clone());
                }
            },
            Delta::Taken { agent, messages, by, .. } => {
                for kept in self.of(tenant, agent).filter(|kept| messages.contains(&kept.message.id)) {
                    kept.taken = Some(by.clone());
                    kept.deliveries += 1;
                }
            }
            Delta::Processed { agent, message } => {
                self.mail.retain(|(t, a, _), kept| !(t == tenant && a == agent && kept.message.id == *message));
            }
            Delta::Buried { agent, message, reason, at } => {
                for kept in self.of(tenant, agent).filter(|kept| kept.message.id == *message) {
                    kept.taken = None;
                    kept.dead = Some((reason.clone(), *at));
                }
            }
            Delta::Revived { agent, message } => {
                let found =
                    self.mail.iter().find(|((t, a, _), kept)| t == tenant && a == agent && kept.message.id == *message);
                if let Some(place) = found.map(|(place, _)| place.clone())
                    && let Some(kept) = self.mail.remove(&place)
                {
                    let kept = Kept { deliveries: 0, taken: None, dead: None, ..kept };
                    self.mail.insert((tenant.clone(), agent.clone(), position), kept);
                }
            }
            Delta::Released { by, at } => {
                for ((t, _, _), kept) in &mut self.mail {
                    if t == tenant && kept.taken.as_ref() == Some(by) {
                        kept.taken = None;
                        if kept.deliveries >= MAX_DELIVERIES {
                            kept.dead =
                                Some((format!("handed out {} times and never processed", kept.deliveries), *at));
                        }
                    }
                }
            }
            Delta::Run(_) => {}
        }
    }

    /// See [`ReadFacts::holding`].
    pub fn holding(&self, tenant: &TenantId, subject: &Entity, relation: &Relation, object: &Entity) -> Option<&Fact> {
        let same = |fact: &&Fact| {
            fact.subject == *subject && fact.relation == *relation && fact.object == *object && fact.valid_to.is_none()
        };
        self.facts_of(tenant).find(same)
    }

    /// Whether this is so at `at`.
    pub fn holds(&self, tenant: &TenantId, at: Timestamp, expect: &Expect) -> bool {
        let mailbox = |agent: &AgentName| {
            let agent = agent.clone();
            self.mail.iter().filter(move |((t, a, _), _)| t == tenant && *a == agent).map(|(_, kept)| kept)
        };
        let message = |agent: &AgentName, id: &Revision| mailbox(agent).find(|kept| kept.message.id == *id);
        match expect {
            Expect::Key { drawer, key, revision } => {
                let found = self.memory.get(&(tenant.clone(), drawer.clone(), key.clone()));
                let lives = found.filter(|item| item.expires_at.is_none_or(|end| end > at));
                lives.map(|item| item.revision) == *revision
            }
            Expect::Fact { subject, relation, object, id } => {
                self.holding(tenant, subject, relation, object).map(|fact| fact.id) == *id
            }
            Expect::Note { id, revision } => {
                self.notes.get(&(tenant.clone(), id.clone())).map(|note| note.revision) == *revision
            }
            Expect::Waiting { agent, messages } => messages
                .iter()
                .all(|id| message(agent, id).is_some_and(|kept| kept.taken.is_none() && kept.dead.is_none())),
            Expect::InHands { agent, message: id, by } => {
                message(agent, id).is_some_and(|kept| kept.taken.as_ref() == Some(by))
            }
            Expect::DeadLetter { agent, message: id } => message(agent, id).is_some_and(|kept| kept.dead.is_some()),
            Expect::Room { agent, more } => {
                mailbox(agent).filter(|kept| kept.dead.is_none()).count() + *more as usize <= MAX_MAILBOX as usize
            }
            Expect::Storage { more, quota } => {
                let of_tenant = self.memory.iter().filter(|((t, _, _), _)| t == tenant);
                let held: usize = of_tenant.map(|(_, item)| item.key.len() + item.value.len()).sum();
                held as u64 + more <= *quota
            }
            Expect::Unchanged { part, since } => {
                let newer = self.log.iter().rev().take_while(|row| row.position > *since);
                newer.into_iter().all(|row| row.tenant != *tenant || !part.concerns(&row.delta))
            }
            // What was granted is in the catalog; runs, schedules, sessions, and who waits, have rows of their own.
            Expect::Grants { .. }
            | Expect::UnderWay { .. }
            | Expect::Workflow { .. }
            | Expect::Schedules { .. }
            | Expect::Schedule { .. }
            | Expect::Subscriptions { .. }
            | Expect::Subscription { .. }
            | Expect::DeadEvent { .. }
            | Expect::OpenSession { .. }
            | Expect::Unfinished { .. }
            | Expect::Unsettled { .. }
            | Expect::RoomInSession { .. }
            | Expect::NoSession { .. }
            | Expect::ToBeSummedUp { .. }
            | Expect::Idle { .. }
            | Expect::SessionEpoch { .. }
            | Expect::AtWork { .. }
            | Expect::Waiters { .. } => false,
        }
    }

    /// Whether what a delta replaces is older than it: revisions of a key or a note only grow.
    pub fn is_newer(&self, tenant: &TenantId, delta: &Delta) -> bool {
        match delta {
            Delta::Memory(change) => {
                let found = self.memory.get(&(tenant.clone(), change.drawer.clone(), change.key.clone()));
                found.is_none_or(|item| item.revision < change.revision)
            }
            Delta::NoteKept(note) => {
                self.notes.get(&(tenant.clone(), note.id.clone())).is_none_or(|found| found.revision < note.revision)
            }
            _ => true,
        }
    }

    fn of<'a>(&'a mut self, tenant: &'a TenantId, agent: &'a AgentName) -> impl Iterator<Item = &'a mut Kept> {
        self.mail.iter_mut().filter(move |((t, a, _), _)| t == tenant && a == agent).map(|(_, kept)| kept)
    }

    /// What is seen of the facts next to an entity.
    fn next_to(&self, tenant: &TenantId, walk: &Walk, entity: &Entity) -> Vec<Fact> {
        let wanted = |fact: &&Fact| {
            fact.leads_from(entity, walk.direction)
                && fact.seen(walk.as_of)
                && walk.relation.as_ref().is_none_or(|relation| fact.relation == *relation)
        };
        self.facts_of(tenant).filter(wanted).cloned().collect()
    }

    fn facts_of(&self, tenant: &TenantId) -> impl Iterator<Item = &Fact> {
        let from = (tenant.clone(), Revision(0));
        self.facts.range(from..).take_while(move |((t, _), _)| t == tenant).map(|(_, fact)| fact)
    }

    /// That these messages are handed out, from where they stand now.
    pub fn taken(&self, tenant: &TenantId, agent: &AgentName, messages: Vec<Revision>, by: Taker) -> Delta {
        let place = |id: &Revision| {
            let mut all = self.mail.iter();
            let found = all.find(|((t, a, _), kept)| t == tenant && a == agent && kept.message.id == *id);
            found.map_or(Position(0), |((_, _, position), _)| *position)
        };
        let places = messages.iter().map(place).collect();
        Delta::Taken { agent: agent.clone(), messages, places, by }
    }

    /// See [`ReadGraph::facts`].
    pub fn facts(&self, tenant: &TenantId, filter: &FactFilter) -> FactPage {
        let limit = filter.limit.max(1) as usize;
        let mut facts: Vec<Fact> =
            self.facts_of(tenant).filter(|fact| filter.admits(fact)).take(limit + 1).cloned().collect();
        let more = facts.len() > limit;
        facts.truncate(limit);
        let next = facts.last().filter(|_| more).map(|last| last.id);
        FactPage { facts, next, degraded: false }
    }

    /// See [`ReadGraph::path`].
    pub fn path(&self, tenant: &TenantId, walk: &Walk, to: &Entity) -> Option<Vec<Fact>> {
        let mut came: BTreeMap<Entity, Option<(Entity, Fact)>> = BTreeMap::from([(walk.from.clone(), None)]);
        let mut front = vec![walk.from.clone()];
        for _ in 0..walk.depth {
            if came.contains_key(to) {
                break;
            }
            let mut next = Vec::new();
            for entity in front {
                for fact in self.next_to(tenant, walk, &entity) {
                    let other = if fact.subject == entity { fact.object.clone() } else { fact.subject.clone() };
                    if !came.contains_key(&other) {
                        came.insert(other.clone(), Some((entity.clone(), fact)));
                        next.push(other);
                    }
                }
            }
            front = next;
        }
        let mut way = VecDeque::new();
        let mut at = to.clone();
        while let Some((before, fact)) = came.get(&at)?.clone() {
            way.push_front(fact);
            at = before;
        }
        Some(way.into())
    }

    /// See [`ReadGraph::reach`].
    pub fn reach(&self, tenant: &TenantId, walk: &Walk) -> Reached {
        let mut seen = BTreeSet::from([walk.from.clone()]);
        let mut known = BTreeSet::new();
        let mut reached = Reached::default();
        let mut front = vec![walk.from.clone()];
        for _ in 0..walk.depth {
            let mut ring: BTreeMap<Revision, Fact> = BTreeMap::new();
            for entity in &front {
                ring.extend(self.next_to(tenant, walk, entity).into_iter().map(|fact| (fact.id, fact)));
            }
            front.clear();
            for fact in ring.into_values().filter(|fact| known.insert(fact.id)) {
                if reached.facts.len() >= MAX_VISITED as usize {
                    reached.cut = true;
                    return reached;
                }
                front.extend([&fact.subject, &fact.object].into_iter().filter(|e| seen.insert((*e).clone())).cloned());
                reached.facts.push(fact);
            }
        }
        reached
    }
}

#[async_trait]
impl ReadGraph for MemoryRecord {
    async fn facts(&self, tenant: &TenantId, filter: &FactFilter) -> Result<FactPage, StoreError> {
        Ok(self.context(|context| context.facts(tenant, filter)))
    }

    async fn path(&self, tenant: &TenantId, walk: &Walk, to: &Entity) -> Result<Option<Vec<Fact>>, StoreError> {
        Ok(self.context(|context| context.path(tenant, walk, to)))
    }

    async fn reach(&self, tenant: &TenantId, walk: &Walk) -> Result<Reached, StoreError> {
        Ok(self.context(|context| context.reach(tenant, walk)))
    }
}

#[async_trait]
impl ReadFacts for MemoryRecord {
    async fn holding(
        &self,
        tenant: &TenantId,
        subject: &Entity,
        relation: &Relation,
        object: &Entity,
    ) -> Result<Option<Fact>, StoreError> {
        Ok(self.context(|context| context.holding(tenant, subject, relation, object).cloned()))
    }

    async fn next_to(
        &self,
        tenant: &TenantId,
        walk: &Walk,
        front: &BTreeSet<Entity>,
        limit: usize,
    ) -> Result<Vec<Fact>, StoreError> {
        let next_to = |entity: &Entity| FactFilter {
            entity: Some(entity.clone()),
            direction: walk.direction,
            relation: walk.relation.clone(),
            as_of: walk.as_of,
            history: false,
            after: None,
            limit: u32::MAX,
        };
        let found = |context: &Context| {
            let facts = front.iter().flat_map(|entity| context.facts(tenant, &next_to(entity)).facts);
            facts.map(|fact| (fact.id, fact)).collect::<BTreeMap<_, _>>()
        };
        Ok(self.context(found).into_values().take(limit).collect())
    }
}

#[async_trait]
impl ReadMail for MemoryRecord {
    async fn ready(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
        limit: u32,
        gone: &[Revision],
    ) -> Result<Vec<(Position, Delivery)>, StoreError> {
        Ok(self.context(|context| {
            let mut held: BTreeSet<&str> = BTreeSet::new();
            let mut ready = Vec::new();
            for ((t, a, position), kept) in &context.mail {
                if t != tenant || a != agent || kept.dead.is_some() {
                    continue;
                }
                let sender = kept.message.event.source.as_str();
                if kept.taken.is_some() {
                    if !gone.contains(&kept.message.id) {
                        held.insert(sender);
                    }
                } else if !held.contains(sender) && ready.len() < limit as usize {
                    let (id, event) = (kept.message.id, kept.message.event.clone());
                    ready.push((*position, Delivery { id, deliveries: kept.deliveries + 1, event }));
                }
            }
            ready
        }))
    }

    async fn in_hands(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
        by: &Taker,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        Ok(self.context(|context| {
            let of = context
                .mail
                .iter()
                .filter(|((t, a, _), kept)| t == tenant && a == agent && kept.taken.as_ref() == Some(by));
            let delivery = |kept: &Kept| Delivery {
                id: kept.message.id,
                deliveries: kept.deliveries,
                event: kept.message.event.clone(),
            };
            of.map(|(_, kept)| delivery(kept)).take(limit as usize).collect()
        }))
    }

    async fn waiting(&self, tenant: &TenantId, agent: &AgentName, most: u32) -> Result<u32, StoreError> {
        Ok(self.context(|context| {
            let waiting =
                context.mail.iter().filter(|((t, a, _), kept)| t == tenant && a == agent && kept.dead.is_none());
            u32::try_from(waiting.take(most as usize).count()).unwrap_or(most)
        }))
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        agent: Option<&AgentName>,
        after: Option<Revision>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        Ok(self.context(|context| {
            let mut dead: Vec<DeadLetter> = context
                .mail
                .iter()
                .filter(|((t, a, _), _)| t == tenant && agent.is_none_or(|agent| a == agent))
                .filter_map(|(_, kept)| letter(kept))
                .filter(|letter| after.is_none_or(|after| letter.message.id > after))
                .collect();
            dead.sort_by_key(|letter| letter.message.id);
            dead.truncate(limit as usize);
            dead
        }))
    }

    async fn dead_letter(&self, tenant: &TenantId, id: Revision) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.context(|context| {
            let mut of_tenant = context.mail.iter().filter(|((t, _, _), _)| t == tenant);
            of_tenant.find(|(_, kept)| kept.message.id == id).and_then(|(_, kept)| letter(kept))
        }))
    }
}

fn letter(kept: &Kept) -> Option<DeadLetter> {
    let (reason, at) = kept.dead.clone()?;
    Some(DeadLetter { message: kept.message.clone(), deliveries: kept.deliveries, reason, at })
}

impl MemoryRecord {
    /// Those messages of a tenant's topics that are meant, each in its place.
    pub(super) fn published(
        &self,
        tenant: &TenantId,
        is_meant: impl Fn(&Message) -> bool,
    ) -> Vec<(message::Topic, Published)> {
        self.context(|context| {
            let of_tenant = context.log.iter().filter(|row| row.tenant == *tenant);
            let found = of_tenant.filter_map(|row| match &row.delta {
                Delta::Sent(sent) if is_meant(sent) => match &sent.channel {
                    Channel::Topic(topic) => Some((topic.clone(), row.published()?)),
                    Channel::Mailbox(_) => None,
                },
                _ => None,
            });
            found.collect()
        })
    }
}

#[async_trait]
impl crate::Bus for MemoryRecord {
    async fn events(
        &self,
        tenant: &TenantId,
        topic: &message::Topic,
        after: Position,
        limit: u32,
    ) -> Result<Events, StoreError> {
        Ok(self.context(|context| {
            let from = (tenant.clone(), topic.clone(), after.next());
            let found = context.topics.range(from..).take_while(|((t, name, _), _)| t == tenant && name == topic);
            let found =
                found.take(limit as usize).map(|((_, _, at), event)| Published { position: *at, event: event.clone() });
            let events: Vec<Published> = found.collect();
            let next = events.last().map_or(after, |last| last.position);
            Events { events, next }
        }))
    }
}

#[async_trait]
impl ReadLog for MemoryRecord {
    async fn log(
        &self,
        tenant: Option<&TenantId>,
        topics: &[Topic],
        after: Position,
        to: Position,
        limit: u32,
    ) -> Result<Vec<Logged>, StoreError> {
        Ok(self.context(|context| {
            let wanted = |logged: &&Logged| {
                logged.position > after
                    && logged.position <= to
                    && topics.contains(&logged.delta.topic())
                    && tenant.is_none_or(|tenant| logged.tenant == *tenant)
            };
            context.log.iter().filter(wanted).take(limit as usize).cloned().collect()
        }))
    }

    async fn rows(
        &self,
        tenant: &TenantId,
        interest: &Interest,
        after: Position,
        to: Position,
        limit: u32,
    ) -> Result<Rows, StoreError> {
        if let Interest::Run(run) = interest {
            let run = crate::ReadJournal::run(self, tenant, *run).await?;
            return Ok(Rows::of_run(run.as_ref(), after));
        }
        let kept = after.max(self.trimmed(tenant).await?);
        Ok(self.context(|context| {
            let mine = |row: &&Logged| row.tenant == *tenant && interest.concerns(&row.delta);
            let within = context.log.iter().filter(|row| row.position > kept && row.position <= to);
            let rows: Vec<Logged> = within.filter(mine).take(limit as usize).cloned().collect();
            let is_last = rows.len() < limit as usize;
            let next = if is_last { to.max(after) } else { rows.last().map_or(after, |last| last.position) };
            Rows { rows, next }
        }))
    }

    fn record_id(&self) -> &str {
        "memory"
    }

    async fn trimmed(&self, _: &TenantId) -> Result<Position, StoreError> {
        Ok(Position(self.trimmed.load(Ordering::SeqCst)))
    }

    async fn trim(&self, to: Position, limit: u32) -> Result<u64, StoreError> {
        let most = to.0.min(self.subscribe_ends().borrow().durable.0);
        let before = self.trimmed.load(Ordering::SeqCst);
        let trimmed = most.saturating_sub(before).min(u64::from(limit));
        self.trimmed.store(before + trimmed, Ordering::SeqCst);
        Ok(trimmed)
    }

    fn ends(&self) -> watch::Receiver<Ends> {
        self.subscribe_ends()
    }

    fn follow(&self) -> broadcast::Receiver<std::sync::Arc<Group>> {
        self.subscribe_news()
    }

    fn newest(&self, topics: &[Topic]) -> Position {
        self.context(|context| {
            let newest = context.log.iter().rev().find(|logged| topics.contains(&logged.delta.topic()));
            newest.map_or(Position(0), |logged| logged.position)
        })
    }

    async fn tenants_with_context(&self) -> Result<Vec<TenantId>, StoreError> {
        Ok(self.context(|context| {
            let tenants: BTreeSet<TenantId> = context.log.iter().map(|logged| logged.tenant.clone()).collect();
            tenants.into_iter().collect()
        }))
    }
}
