//! Shared context: memory, graph, recall and messages, behind one question: what does this call come to?
//!
//! Invariants: nothing here writes. A call comes to an answer, or to an answer with a change and what that was decided on;
//! whoever asked (the crossing for a guest, a use case for a client) has the record make it true, where that is still so. Who
//! may ask was decided before. An attempt sees the record with what it did itself on top.
//!
//! To add a part: a file here with its `decide`, and its line in [`Context::decide`]. To add a call: in its part's file, its
//! [`Decide`] and its line in the part's `decide`.

use std::sync::Arc;
use std::time::Duration;

use ltmc_journal::RunLog;
use ltmc_journal::runlog::{Commit, Lock};
use ltmc_model::call::graph::GraphCall;
use ltmc_model::call::memory::MemoryCall;
use ltmc_model::call::recall::RecallCall;
use ltmc_model::call::{Call, HostCall, MAX_WAIT_MS};
use ltmc_model::caller::Caller;
use ltmc_model::caller::Cause;
use ltmc_model::delta::Delta;
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::memory::{Drawer, Scope};
use ltmc_model::message::Trail;
use ltmc_model::{AgentName, KeyId, Revision, SessionId, TenantId, Timestamp};
use ltmc_ports::expect::Part;
use ltmc_ports::{Bus, Changes, Durability, Expect, ReadFacts, ReadMail, ReadMemory, Schemas, StoreError};
use ltmc_tenancy::{Authority, Pot};

use crate::clients::{Owner, whose};
use crate::graph::Graph;
use crate::handed::Handed;
use crate::locks::Locks;
use crate::memory::Memory;
use crate::messages::{self, Messages};
use crate::recall::Recall;
use crate::subscription::Subscriptions;
use crate::transaction::{self, Transaction};

/// The shared context of all tenants.
pub struct Context {
    /// Keys and values.
    pub memory: Memory,
    /// Entities and facts.
    pub graph: Graph,
    /// Texts found by what they mean; none: there is no index here.
    pub recall: Option<Recall>,
    /// Mailboxes and topics.
    pub messages: Messages,
    /// Who judges the data of agents' states by their schemas; none: such states cannot be changed here.
    pub schemas: Option<Arc<dyn Schemas>>,
    /// Bytes that attempts have changed and not made true yet.
    pub overlays: Pot,
}

/// Who asks, and whose context it is.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// Whose the scope `session` is; none: nobody's.
    pub session: Option<&'a SessionId>,
    /// Whose the scope `agent` is, and which mailbox is its own; none: nobody's.
    pub agent: Option<&'a AgentName>,
    /// The attempt that asks, or a client's transaction; none: a client that asks for one thing.
    pub within: Option<Within<'a>>,
    /// The client that asks, where no run does.
    pub client: Option<&'a KeyId>,
    /// What that asks because of.
    pub cause: Option<&'a Cause>,
    /// For how long it waits for a lock.
    pub patience: Duration,
}

/// What a call is a part of.
#[derive(Debug, Clone, Copy)]
pub struct Within<'a> {
    /// Its run's log; none: it is a client's.
    pub log: Option<&'a Arc<RunLog>>,
    /// What was done within it and is not true yet.
    pub transaction: &'a Transaction,
}

/// Under which circumstances a call is asked.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The session and the agent whose scopes and mailbox are meant.
    pub whose: Whose<'a>,
    /// The time by which expiries are decided and changes are dated.
    pub now: Timestamp,
    /// Draws the next revision, as often as is needed.
    pub revision: &'a (dyn Fn() -> Revision + Send + Sync),
}

/// A part of shared context that knows what a call comes to.
pub(crate) trait Decide<C: HostCall> {
    /// What it comes to; the answer is of the call's own kind.
    fn decide(&self, asked: Asked<'_>, call: C) -> impl Future<Output = Decision<C::Reply>> + Send;
}

/// What a call comes to; the error: a store did not answer.
pub(crate) type Decision<R> = Result<Decided<R>, StoreError>;

/// What a call comes to that is answered with `R`; by default any call.
pub enum Decided<R = Reply> {
    /// An answer; nothing changes.
    Answer(Result<R, Refusal>),
    /// An answer, with what becomes true once what asks succeeds: an attempt with its end or its next checkpoint, a client's
    /// act at once.
    Change(R, Commit),
    /// An answer, with what becomes true at once, whether or not the attempt succeeds: what it is lent, and gives back.
    Lease(R, Commit),
    /// It would wait for others, who are to see what the attempt did so far: ask again once that is true.
    Checkpoint,
}

impl<R> Decided<R> {
    /// An answer that becomes true with these deltas, which were decided on what is expected.
    pub(crate) fn change(reply: R, deltas: Vec<Delta>, expects: Vec<Expect>, lock: Option<Lock>) -> Self {
        Self::Change(
            reply,
            Commit { changes: Changes { deltas, expects }, locks: lock.into_iter().collect(), ..Commit::default() },
        )
    }

    pub(crate) fn refuse(why: impl Into<String>) -> Self {
        Self::Answer(Err(Refusal::Invalid(why.into())))
    }

    /// The same, true at once.
    pub(crate) fn at_once(self) -> Self {
        match self {
            Self::Change(reply, commit) => Self::Lease(reply, commit),
            other => other,
        }
    }

    /// The same, for who does not know which call it is.
    fn of_any_call(self) -> Decided
    where
        R: Into<Reply>,
    {
        match self {
            Self::Answer(answer) => Decided::Answer(answer.map(Into::into)),
            Self::Change(reply, commit) => Decided::Change(reply.into(), commit),
            Self::Lease(reply, commit) => Decided::Lease(reply.into(), commit),
            Self::Checkpoint => Decided::Checkpoint,
        }
    }
}

/// What a call comes to in this part, for who does not know which call it is.
pub(crate) async fn decided<C: HostCall>(part: &impl Decide<C>, asked: Asked<'_>, call: C) -> Decision<Reply> {
    part.decide(asked, call).await.map(Decided::of_any_call)
}

impl<'a> Whose<'a> {
    /// What events that it sends follow from: of an attempt what its run does, or what it took itself, whichever is further.
    pub(crate) fn trail(&self) -> Option<Box<Trail>> {
        if let Some(cause) = self.cause {
            let trail = cause.trail.clone()?;
            return Some(Box::new(Trail { run: cause.run, ..trail }));
        }
        let within = self.within?;
        let log = within.log?;
        let of_run = log.read(|history| history.trail().cloned());
        let trail = Trail::deeper(of_run, within.transaction.heard().cloned())?;
        Some(Box::new(trail.by(log.run())))
    }

    /// The trace that events which it sends go on with.
    pub(crate) fn traceparent(&self) -> Option<String> {
        match (self.cause, self.log()) {
            (Some(cause), _) => cause.traceparent.clone(),
            (None, log) => log?.started().traceparent.clone(),
        }
    }

    /// What the attempt that asks did and is not true yet, in order.
    pub(crate) fn own(&self) -> &'a [Delta] {
        self.within.map_or(&[], |within| within.transaction.deltas())
    }

    /// An answer with which nothing changes. That, too, was decided on something: within a transaction it is expected.
    pub(crate) fn unchanged<R>(&self, reply: R, expects: Vec<Expect>, lock: Option<Lock>) -> Decided<R> {
        match self.within {
            Some(_) => Decided::change(reply, Vec::new(), expects, lock),
            None => Decided::Answer(Ok(reply)),
        }
    }

    /// The log of the run that asks.
    pub(crate) fn log(&self) -> Option<&'a Arc<RunLog>> {
        self.within.and_then(|within| within.log)
    }

    pub(crate) fn drawer(&self, scope: Scope) -> Drawer {
        match (scope, self.session, self.agent) {
            (Scope::Session, Some(session), _) => Drawer::Session(session.clone()),
            (Scope::Agent, _, Some(agent)) => Drawer::Agent(agent.clone()),
            (Scope::State, _, Some(agent)) => Drawer::State(agent.clone()),
            _ => Drawer::Global,
        }
    }

    /// Who sends: an agent or a client; it cannot say otherwise.
    pub(crate) fn source(&self) -> String {
        match (self.agent, self.client) {
            (_, Some(key)) => format!("/keys/{key}"),
            (Some(agent), None) => format!("/agents/{agent}"),
            (None, None) => "/host".to_owned(),
        }
    }

    /// What is found in the newest delta of its own, or of an earlier step of its run that is not in the record yet, in which
    /// there is anything to be found.
    pub(crate) fn newest<T>(&self, mut find: impl FnMut(&Delta) -> Option<T>) -> Option<T> {
        let own = self.own().iter().rev().find_map(&mut find);
        own.or_else(|| self.log().and_then(|log| log.newest_pending(find)))
    }

    /// The lock number `place`, if it has it.
    pub(crate) fn lock(&self, place: usize) -> Option<Lock> {
        let within = self.within?;
        within.transaction.lock(place).cloned().or_else(|| within.log?.lock(place))
    }

    /// Whether all that who asks reads is to hold still when what it does becomes true.
    pub(crate) fn is_serializable(&self) -> bool {
        self.within.is_some_and(|within| within.transaction.is_serializable())
    }

    /// The part of the record that a call reads as a whole, so that what is not there counts too; none: it reads no more than the keys that it
    /// names, which the memory remembers, what is a branch's own, or what comes one after the other (mailboxes, topics, changes).
    fn reads_whole(&self, call: &Call) -> Option<Part> {
        match call {
            Call::Memory(MemoryCall::List(list)) => {
                let drawer = self.drawer(list.scope);
                self.apart(&drawer).is_none().then(|| Part::Keys(drawer, list.prefix.clone()))
            }
            Call::Memory(
                MemoryCall::Open(_)
                | MemoryCall::Get(_)
                | MemoryCall::Put(_)
                | MemoryCall::Delete(_)
                | MemoryCall::Update(_)
                | MemoryCall::Touch(_)
                | MemoryCall::Changes(_),
            ) => None,
            Call::Graph(
                GraphCall::Facts(_) | GraphCall::FindPath(_) | GraphCall::Reach(_) | GraphCall::DependencyOrder(_),
            ) => Some(Part::Facts),
            Call::Recall(RecallCall::Search(_)) => Some(Part::Notes),
            // They are refused, or change nothing, because of facts that hold: that, too, is read.
            Call::Graph(GraphCall::Relate(_) | GraphCall::Unrelate(_)) => Some(Part::Facts),
            Call::Recall(RecallCall::Remember(_) | RecallCall::Forget(_)) => None,
            Call::Attempt(_)
            | Call::Log(_)
            | Call::Messages(_)
            | Call::Coordination(_)
            | Call::Session(_)
            | Call::State(_) => None,
        }
    }

    /// Writes what earlier steps of the run have staged, so that reads of the record see it.
    pub(crate) async fn settle(&self) -> Result<(), StoreError> {
        match self.log() {
            Some(log) if log.has_pending() => log.flush(Durability::Lazy).await,
            _ => Ok(()),
        }
    }

    /// Whether all that its run wrote is known to be on disk, and so in what follows the disk.
    pub(crate) async fn is_on_disk(&self) -> bool {
        match self.log() {
            Some(log) => log.is_on_disk().await,
            None => true,
        }
    }

    /// The same as [`Self::settle`], and everything before it to disk: for whoever reads what follows the disk.
    pub(crate) async fn barrier(&self) -> Result<(), StoreError> {
        match self.log() {
            Some(log) => log.flush(Durability::Barrier).await,
            None => Ok(()),
        }
    }
}

impl Context {
    /// All of it answered by one record, which is written through `handed`; without recall.
    pub fn of_record<R>(
        record: &Arc<R>,
        handed: &Arc<Handed>,
        subscriptions: &Arc<Subscriptions>,
        authority: Arc<Authority>,
    ) -> Self
    where
        R: ReadMemory + ReadFacts + ReadMail + Bus + 'static,
    {
        let locks = Arc::new(Locks::default());
        let (handed, subscriptions) = (handed.clone(), subscriptions.clone());
        let ports = messages::Ports {
            mail: record.clone(),
            bus: record.clone(),
            database: None,
            subscriptions: subscriptions.clone(),
            authority: authority.clone(),
            locks: locks.clone(),
        };
        Self {
            memory: Memory::new(record.clone(), handed, subscriptions, locks.clone(), authority),
            graph: Graph::new(record.clone(), None, locks),
            recall: None,
            messages: Messages::new(ports),
            schemas: None,
            overlays: transaction::pot(),
        }
    }

    /// Room for what a session's memory is to hold more than it does now: what the record is to expect of it. Bytes that a key holds already
    /// are no more.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer; the inner [`Refusal`] where the tenant has no such room.
    pub async fn room_in_session(
        &self,
        by: &Caller,
        id: &SessionId,
        deltas: &[Delta],
        now: Timestamp,
    ) -> Result<Result<Option<Expect>, Refusal>, StoreError> {
        let owner = Owner { session: Some(id.clone()), agent: None };
        let whose = whose(by, &owner);
        let (mut more, mut before) = (0, 0);
        for delta in deltas {
            let Delta::Memory(change) = delta else { continue };
            more += change.value.as_ref().map_or(0, |value| change.key.len() + value.bytes.len());
            let item = self.memory.item(whose, &change.drawer, &change.key, now).await?;
            before += item.map_or(0, |item| item.key.len() + item.value.len());
        }
        match more.saturating_sub(before) {
            0 => Ok(Ok(None)),
            more => self.memory.fits(whose, more).await,
        }
    }

    /// Has an attempt that is serializable rely on what a call reads; or why it may not read that.
    async fn relies(&self, whose: Whose<'_>, call: &Call) -> Result<Option<String>, StoreError> {
        let Some(within) = whose.within.filter(|_| whose.is_serializable()) else { return Ok(None) };
        let too_many = |most: usize, what: &str| {
            Some(format!(
                "an agent whose `isolation` is `serializable` reads at most {most} {what} between two checkpoints"
            ))
        };
        if let Some(part) = whose.reads_whole(call) {
            // What its run did before is no news to it, and the index of notes follows what is on disk.
            match part {
                Part::Notes => whose.barrier().await?,
                Part::Keys(..) | Part::Facts => whose.settle().await?,
            }
            let since = self.memory.newest(matches!(part, Part::Notes));
            if !within.transaction.rely(part, since) {
                return Ok(too_many(transaction::MAX_PARTS, "lists, walks and searches"));
            }
        }
        let is_full = matches!(call, Call::Memory(_)) && within.transaction.relies_on_all_it_may();
        Ok(if is_full { too_many(transaction::MAX_RELIED, "keys") } else { None })
    }

    /// What a call comes to.
    pub async fn decide(&self, asked: Asked<'_>, call: Call) -> Decision<Reply> {
        if let Some(why) = self.relies(asked.whose, &call).await? {
            return Ok(Decided::refuse(why));
        }
        match call {
            // What they mean is the crossing's business; a client has no attempt.
            Call::Attempt(_) | Call::Coordination(_) | Call::Session(_) => Ok(Decided::Answer(Ok(Reply::Done))),
            // By whose declaration is the crossing's business, too (`Context::state`); a client is no agent.
            Call::State(_) => Ok(Decided::refuse("only an agent has a state of its own")),
            Call::Log(_) => Ok(Decided::Answer(Ok(Reply::Done))),
            Call::Memory(call) => self.memory.decide_any(asked, call).await,
            Call::Graph(call) => self.graph.decide_any(asked, call).await,
            Call::Recall(call) => match &self.recall {
                Some(recall) => recall.decide_any(asked, call).await,
                None => {
                    let message = "this host has no index of what texts mean".to_owned();
                    Ok(Decided::Answer(Err(Refusal::Unavailable { message, retry_after_ms: 60_000 })))
                }
            },
            Call::Messages(call) => self.messages.decide_any(asked, call).await,
        }
    }
}

/// How long a call may wait, as it asked.
pub(crate) fn patience(wait_ms: u64) -> Result<Duration, String> {
    if wait_ms > MAX_WAIT_MS {
        return Err(format!("a call waits at most {MAX_WAIT_MS} milliseconds, not {wait_ms}"));
    }
    Ok(Duration::from_millis(wait_ms))
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}
