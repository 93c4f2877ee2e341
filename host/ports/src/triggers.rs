//! The ports of subscriptions that start runs: which there are, how far each has looked through its topic, and what became of the events it
//! took in.
//!
//! Invariants: an event is taken in once: the place up to which a topic was looked through, and what was found there, are one transaction,
//! which the record refuses to whoever looked from another place. That a run is started and that its event is under way is one commit, and
//! so are a run's end and what becomes of its event.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ltmc_model::gather::Rate;
use ltmc_model::journal::{Entry, Event as Happened};
use ltmc_model::message::Event;
use ltmc_model::run::{Run, State};
use ltmc_model::trigger::{OnPoison, Stage, Trigger, TriggerId};
use ltmc_model::{Digest, KeyId, Position, RunId, TenantId, Timestamp};

use crate::StoreError;
use crate::schedules::Paused;

/// A subscription as the record keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTrigger {
    /// The tenant that it belongs to.
    pub tenant: TenantId,
    /// The subscription's name.
    pub id: TriggerId,
    /// Of all that it is.
    pub digest: Digest,
    /// What it is.
    pub trigger: Trigger,
    /// In the name of which key it starts runs; none: the host's own, which starts none.
    pub by: Option<KeyId>,
    /// Since when it starts nothing, and why.
    pub paused: Option<Paused>,
    /// Up to which place its topic was looked through.
    pub position: Position,
    /// Up to which place events come again, or are from before it was there.
    pub replay_to: Position,
    /// The place of the newest event of its topic, where that is known.
    pub newest: Position,
    /// How many events wait for their run.
    pub waiting: u32,
    /// How many bytes these have.
    pub waiting_bytes: u64,
    /// How many runs are under way.
    pub under_way: u32,
    /// How many dead letters there are.
    pub dead: u32,
    /// How many runs it has started.
    pub started: u64,
    /// How many events had come before, by their source and id.
    pub duplicates: u64,
    /// How many events started nothing, for a later one of their key did.
    pub superseded: u64,
    /// What is to be told of events that wait.
    pub trouble: Option<String>,
}

impl StoredTrigger {
    /// How many more events can wait.
    pub fn room(&self) -> u32 {
        use ltmc_model::trigger::{MAX_WAITING, MAX_WAITING_BYTES};
        if self.waiting_bytes >= MAX_WAITING_BYTES { 0 } else { MAX_WAITING.saturating_sub(self.waiting) }
    }
}

/// An event that a subscription took in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The subscription that took it in.
    pub id: TriggerId,
    /// Where in the log the event stands.
    pub position: Position,
    /// What it is kept in order with.
    pub key: String,
    /// The event.
    pub event: Event,
    /// How far it is.
    pub stage: Stage,
    /// The run that it started last.
    pub run: Option<RunId>,
    /// Why it is a dead letter.
    pub reason: Option<String>,
    /// When it was taken in.
    pub at: Timestamp,
}

/// What was found in part of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intake {
    /// The place from which on it was looked.
    pub after: Position,
    /// The place up to which it was looked.
    pub upto: Position,
    /// Events that fit, in order: those that wait, and dead letters with their reasons.
    pub found: Vec<Found>,
    /// So many events may follow from one, as [`ltmc_model::trigger::MAX_CASCADE`] says: others are dead letters.
    pub cascade: u32,
    /// When that was.
    pub at: Timestamp,
    /// What is to be told.
    pub trouble: Option<String>,
}

/// An event that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where in the log it stands.
    pub position: Position,
    /// What it is kept in order with.
    pub key: String,
    /// The event.
    pub event: Event,
    /// Why it starts nothing; none: it is to start a run.
    pub dead: Option<String>,
}

/// By what a subscription starts a run: with the run's first entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggeredStart {
    /// The subscription's name.
    pub id: TriggerId,
    /// What it is: another one that has the name by now starts nothing.
    pub digest: Digest,
    /// The place in the log of the event that starts the run; of several the last.
    pub position: Position,
    /// The places of others of its key that start it together with that one.
    pub with: Vec<Position>,
    /// The places of others of its key that start nothing because of it.
    pub dropped: Vec<Position>,
    /// How many runs may start in how long, this one among them.
    pub rate: Option<Rate>,
}

/// Which of a tenant's events that were taken in are listed.
#[derive(Debug, Clone, Default)]
pub struct ArrivalFilter {
    /// Of this subscription.
    pub of: Option<TriggerId>,
    /// Whether only dead letters are.
    pub dead: bool,
    /// After this one.
    pub after: Option<(TriggerId, Position)>,
    /// At most so many.
    pub limit: u32,
}

/// The longest reason, or trouble, that is kept, in characters: see [`shortened`].
pub const MAX_REASON: usize = 300;

/// A reason, or a trouble, as it is kept.
pub fn shortened(text: &str) -> String {
    text.chars().take(MAX_REASON).collect()
}

/// What a run's end makes of the event that started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is dealt with, and is not kept any more.
    Done,
    /// It is a dead letter, at this stage and for this reason.
    DeadLetter(Stage, String),
}

/// What a run that has come to its end ([`State::is_final`]) makes of the event that started it; `entries` were its last.
pub fn after_run(run: &Run, entries: &[Entry], on_poison: OnPoison) -> Outcome {
    match run.state {
        State::Completed => Outcome::Done,
        _ => Outcome::DeadLetter(on_poison.stage(), shortened(&reason(run, entries))),
    }
}

/// Why a run's event is a dead letter.
fn reason(run: &Run, entries: &[Entry]) -> String {
    let told = entries.iter().rev().find_map(|entry| match &entry.event {
        Happened::RunFailed { failure } => Some(format!("{}: {}", failure.code.as_str(), failure.message)),
        Happened::RunCancelled { reason, .. } => Some(format!("cancelled: {reason}")),
        _ => None,
    });
    told.unwrap_or_else(|| format!("its run is {}", run.state.as_str()))
}

/// What an event says of the one that all of it began with, as it is counted by; none: it is that one itself.
pub fn root(event: &Event) -> Option<[u8; 16]> {
    event.trail.as_ref().map(|trail| short(&trail.correlation))
}

/// Why an event starts nothing that follows, with more than `most` others, from the same one.
pub fn over_budget(event: &Event, most: u32) -> String {
    let from = event.trail.as_ref().map_or("", |trail| trail.correlation.as_str());
    format!("budget: more than {most} events followed from the one that all of it began with, {from}")
}

/// What stands for a text where it is looked for: 16 bytes of its digest.
pub fn short(text: &str) -> [u8; 16] {
    let digest = Digest::of(text.as_bytes()).0;
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

/// What stands for an event among those that a subscription has seen.
pub fn seen(event: &Event) -> [u8; 16] {
    let Event { source, id, .. } = event;
    short(&format!("{}\n{source}\n{id}", source.len()))
}

/// For whoever deals with events.
#[async_trait]
pub trait WriteTriggers: Send + Sync {
    /// Takes in what was found in part of a topic. Whether it did: not where the subscription is another by now, is paused, or has been
    /// looked from another place. What a subscription has seen before, by its source and id, is counted and nothing else. On return it
    /// outlives this process; the machine only with what is brought to disk after it. Reasons and trouble are kept [`shortened`], as by
    /// the other writes here.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer; `Fenced`: the tenant is deleted.
    async fn take_in(
        &self,
        tenant: &TenantId,
        id: &TriggerId,
        digest: Digest,
        intake: Intake,
    ) -> Result<bool, StoreError>;

    /// An event that waits cannot start its run, for this reason: it is a dead letter, as the subscription says. Whether it is.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer, or refuses the change.
    async fn bury(
        &self,
        tenant: &TenantId,
        id: &TriggerId,
        position: Position,
        reason: String,
    ) -> Result<bool, StoreError>;

    /// Says what is to be told of a subscription.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer, or refuses the change.
    async fn tell(&self, tenant: &TenantId, id: &TriggerId, trouble: Option<String>) -> Result<(), StoreError>;
}

/// For those who read subscriptions.
#[async_trait]
pub trait ReadTriggers: Send + Sync {
    /// A subscription.
    async fn trigger(&self, tenant: &TenantId, id: &TriggerId) -> Result<Option<StoredTrigger>, StoreError>;

    /// A tenant's subscriptions by name, after `after`.
    async fn triggers(
        &self,
        tenant: &TenantId,
        after: Option<&TriggerId>,
        limit: u32,
    ) -> Result<Vec<StoredTrigger>, StoreError>;

    /// Tenants that have such subscriptions as [`Self::due_triggers`] gives, by name, after `after`, at most `limit`. How many each has makes no difference.
    async fn triggered_tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<TenantId>, StoreError>;

    /// Whether there is any, of any tenant's, that watches memory.
    async fn watches_memory(&self) -> Result<bool, StoreError>;

    /// A tenant's subscriptions, by name, after `after`, that are not paused and for which there may be something to do.
    async fn due_triggers(
        &self,
        tenant: &TenantId,
        after: Option<&TriggerId>,
        limit: u32,
    ) -> Result<Vec<StoredTrigger>, StoreError>;

    /// Events of a subscription that can start a run, in order: no earlier one of their key is open.
    async fn startable(&self, tenant: &TenantId, id: &TriggerId, limit: u32) -> Result<Vec<Arrival>, StoreError>;

    /// How many runs a subscription has started since then; not counted further than `most`.
    async fn started_since(
        &self,
        tenant: &TenantId,
        id: &TriggerId,
        since: Timestamp,
        most: u32,
    ) -> Result<u32, StoreError>;

    /// Keys of a subscription that wait for somebody, each with how many events wait behind.
    async fn parked(&self, tenant: &TenantId, id: &TriggerId) -> Result<BTreeMap<String, u32>, StoreError>;

    /// A tenant's events that were taken in and are not dealt with, by subscription and place.
    async fn arrivals(&self, tenant: &TenantId, filter: &ArrivalFilter) -> Result<Vec<Arrival>, StoreError>;

    /// How many events of its topic a subscription has not looked at; not counted further than `most`.
    async fn lag(&self, tenant: &TenantId, id: &TriggerId, most: u32) -> Result<u32, StoreError>;
}
