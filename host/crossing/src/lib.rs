//! The crossing: the one place through which every host call of every guest goes. Authorize, replay or perform, journal,
//! meter.
//!
//! Invariants:
//! - A call that is journaled is answered from the journal as long as its attempt's entries last: not authorized again, not
//!   performed again. Then it goes on for real.
//! - A replay that asks for something else than the journal holds ends the attempt; it is never answered with a guess.
//! - An attempt is a transaction ([`Transaction`]). What it changes is its own until it succeeds or makes a checkpoint;
//!   its entries are journaled as they come, so that people can follow it, and an attempt that goes on from the last checkpoint
//!   makes those after it anew.
//! - A call that is refused for lack of a capability is in the journal, like one that is performed.
//!
//! To add a host call: its interface's file in `ltmc_model::call`. It cannot go round this file: the sandbox has nothing but
//! [`Gate`] to reach the host by.

mod children;
mod holding;
mod rehearsal;
mod states;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ltmc_context::{Asked, Context, Decided, Transaction, Whose, Within, locks};
use ltmc_journal::fold::{Checkpoint, MAX_EFFECT_BYTES, MAX_EFFECTS};
use ltmc_journal::runlog::Commit;
use ltmc_journal::{History, RunLog};
use ltmc_model::call::attempt::AttemptCall;
use ltmc_model::call::messages::{Ack, MessageCall, Read, Reject};
use ltmc_model::call::session::{self, SessionCall};
use ltmc_model::call::{Call, Class, form, log};
use ltmc_model::effect::{ClockReads, Level, LogLine, Refusal, Reply};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::fork;
use ltmc_model::hand_off::{FENCED, HandedOff};
use ltmc_model::journal::{Effect, Event};
use ltmc_model::manifest::Isolation;
use ltmc_model::message::Taker;
use ltmc_model::state::Declared;
use ltmc_model::{AgentName, Capability, Digest, Revision, RunId, StepPath, Timestamp};
use ltmc_policy::Verdict;
use ltmc_ports::metered::Family;
use ltmc_ports::runner::{Directory, Gate};
use ltmc_ports::{Children, Clock, Conversation, Durability, Kind, StoreError};
use ltmc_tenancy::Authority;
use metrics::{Counter, Histogram, counter, histogram};

pub use holding::Holding;
pub use rehearsal::Rehearsal;

use rehearsal::Fits;

/// How many bytes of replies and changes may be staged before they are written.
const MAX_STAGED_BYTES: u64 = 256 << 10;
/// For how long what an attempt did may be staged before it is written, for those who follow it.
pub const MAX_STAGED_TIME: Duration = Duration::from_millis(100);

static CALLS: Family<Counter, 2> =
    Family::new(|[call, outcome]| counter!("ltmc_host_calls_total", "call" => call, "outcome" => outcome));
static SECONDS: Family<Histogram, 1> = Family::new(|[call]| histogram!("ltmc_host_call_seconds", "call" => call));
static DENIALS: Family<Counter, 1> =
    Family::new(|[capability]| counter!("ltmc_denials_total", "capability" => capability));
static LINES_DROPPED: LazyLock<Counter> = LazyLock::new(|| counter!("ltmc_log_lines_dropped_total"));

/// What all crossings share.
pub struct Shared {
    /// What is in force.
    pub authority: Arc<Authority>,
    /// What calls on shared context come to.
    pub context: Arc<Context>,
    /// The host's clock.
    pub clock: Arc<dyn Clock>,
}

/// Whether a call waits for events, and does not only look at what is kept of them.
fn waits(call: &Call) -> bool {
    matches!(call, Call::Messages(MessageCall::Read(Read { wait_ms, .. })) if *wait_ms > 0)
}

/// What an attempt does follows from the messages that it takes, and from the events that it waited for.
fn heard(turn: &mut Turn, waits: bool, answer: &Answer) {
    match answer {
        Ok(Reply::Deliveries(taken)) => turn.transaction.hear(taken.iter().map(|delivery| &delivery.event)),
        Ok(Reply::Events(found)) if waits => turn.transaction.hear(found.events.iter().map(|found| &found.event)),
        _ => {}
    }
}

/// One attempt's way to the host.
pub struct Crossing {
    shared: Arc<Shared>,
    log: Arc<RunLog>,
    children: Arc<dyn Children>,
    conversation: Arc<dyn Conversation>,
    holding: Option<Holding>,
    agent: AgentName,
    component: Digest,
    step: StepPath,
    attempt: u32,
    patience: Duration,
    /// One call at a time: their order is that of the journal.
    turn: tokio::sync::Mutex<Turn>,
    inputs: Mutex<Inputs>,
}

/// An attempt, as far as its journal goes.
pub struct Attempt {
    /// The run's log.
    pub log: Arc<RunLog>,
    /// The runs that its guests begin.
    pub children: Arc<dyn Children>,
    /// The conversation whose turn it is.
    pub conversation: Arc<dyn Conversation>,
    /// The conversation that it holds; none: it holds none.
    pub holding: Option<Holding>,
    /// The agent that runs.
    pub agent: AgentName,
    /// Which version: what it may do was granted to that one.
    pub component: Digest,
    /// The step.
    pub step: StepPath,
    /// From 1 on.
    pub number: u32,
    /// From where it goes on.
    pub begun_at: BegunAt,
    /// How often its run was overtaken by others so far: it waits the longer for locks.
    pub overtaken: u32,
    /// The branches with a context of their own that the step stands in, from the outside in.
    pub levels: Vec<fork::Level>,
    /// What it relies on of what it reads.
    pub isolation: Isolation,
}

/// From where an attempt goes on: its beginning, or its step's last checkpoint.
#[derive(Debug, Default)]
pub struct BegunAt {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// How many effects there were at each checkpoint so far.
    pub checkpoints: Vec<u32>,
    /// The parts of it whose messages are in its hands still: of a step that was over they were given back.
    pub holds: BTreeSet<u32>,
    /// The effects up to the last checkpoint, to be answered from the journal.
    pub replay: Vec<Effect>,
}

impl BegunAt {
    /// As a run's history has it of a step whose attempt has begun. The effects are handed out once.
    pub fn of(history: &mut History, step: &StepPath) -> Self {
        let replay = history.take_replay(step);
        let found = history.step(step);
        Self {
            checkpoint: found.map(|step| step.checkpoint).unwrap_or_default(),
            checkpoints: found.map(|step| step.checkpoints.clone()).unwrap_or_default(),
            holds: found.map(|step| step.took.clone()).unwrap_or_default(),
            replay,
        }
    }
}

struct Turn {
    replay: VecDeque<Effect>,
    checkpoints: Vec<u32>,
    holds: BTreeSet<u32>,
    /// Children that it began, and may join.
    children: BTreeSet<RunId>,
    /// To whom it has handed its conversation.
    handed: Option<Box<HandedOff>>,
    /// What its version declares of its states, once that was asked for.
    declared: Option<Arc<Declared>>,
    /// The number of the last effect.
    number: u32,
    staged: u64,
    written: Instant,
    /// What it did and is not true yet.
    transaction: Transaction,
}

/// What a guest reads and writes without a call of its own.
struct Inputs {
    /// What is to be read of the clock before the next recorded effect; none: the journal is at its end.
    recorded: Option<VecDeque<(Timestamp, u32)>>,
    /// What was read since the last effect.
    read: ClockReads,
    /// No guest sees its clock go back.
    latest: Timestamp,
    /// Lines so far.
    lines: u32,
    /// Lines that are in the journal from before.
    logged: u32,
    /// Whether a line says already that the ceiling withholds something.
    is_told: bool,
}

impl Crossing {
    /// The way of one attempt.
    pub fn new(shared: Arc<Shared>, attempt: Attempt) -> Self {
        let Attempt {
            log,
            children,
            conversation,
            holding,
            agent,
            component,
            step,
            number,
            begun_at,
            overtaken,
            levels,
            isolation,
        } = attempt;
        let BegunAt { checkpoint, checkpoints, holds, replay } = begun_at;
        let taker = Taker { run: log.run(), step: step.clone(), attempt: checkpoint.origin, part: checkpoint.part };
        let share = shared.context.overlays.share(log.tenant());
        let replay: VecDeque<Effect> = replay.into();
        let transaction = Transaction::new(taker, holds.contains(&checkpoint.part), share);
        let recorded = replay.front().map(|effect| effect.clock.iter().copied().collect());
        Self {
            shared,
            log,
            children,
            conversation,
            holding,
            agent,
            component,
            step,
            attempt: number,
            patience: locks::patience(overtaken),
            turn: tokio::sync::Mutex::new(Turn {
                replay,
                transaction: transaction.in_branches(levels).isolated(isolation),
                checkpoints,
                holds,
                children: BTreeSet::new(),
                handed: None,
                declared: None,
                number: 0,
                staged: 0,
                written: Instant::now(),
            }),
            inputs: Mutex::new(Inputs {
                recorded,
                read: Vec::new(),
                latest: Timestamp::default(),
                lines: 0,
                logged: checkpoint.logs,
                is_told: false,
            }),
        }
    }

    /// What the attempt did since its last checkpoint, for the commit that says how it ended well.
    pub async fn finish(&self) -> Commit {
        let mut turn = self.turn.lock().await;
        let mut commit = turn.transaction.take();
        // With what it did it is true that it handed its conversation on.
        commit.before.splice(0..0, turn.handed.take().map(Event::HandedOff));
        commit
    }

    /// Makes what the attempt did so far true.
    async fn checkpoint(&self, turn: &mut Turn) -> Result<(), Failure> {
        let (step, attempt, effects) = (self.step.clone(), self.attempt, turn.number);
        let commit = turn.transaction.take();
        turn.staged = 0;
        let event = Event::Checkpoint { step, attempt, effects };
        self.log.stage_with(event, commit).await.map_err(|e| broken(&e))?;
        self.log.flush(Durability::Lazy).await.map_err(|e| broken(&e))
    }

    /// Answers from the journal.
    fn replayed(&self, turn: &mut Turn, recorded: Effect, call: &Call) -> Result<Answer, Failure> {
        turn.number += 1;
        match Fits::of(&recorded, turn.number, call) {
            Fits::Same => {}
            Fits::Unknown => {
                let message = format!(
                    "host call {} ({}) is journaled in form {}, which this version of the host does not know: a newer one wrote \
                     it, and can resume the run",
                    recorded.number, recorded.call, recorded.form
                );
                return Err(Failure::new(Code::ReplayMismatch, message));
            }
            Fits::Other => {
                let message = format!(
                    "on resume the agent's host call {} was {} ({}), where the journal has {} ({}): it does not do the same \
                     for the same input, so it cannot be resumed; call it anew",
                    turn.number,
                    call.name(),
                    call.about(),
                    recorded.call,
                    recorded.about
                );
                return Err(Failure::new(Code::ReplayMismatch, message));
            }
        }
        if let (true, Err(Refusal::Denied(capability))) = (recorded.withheld, &recorded.reply) {
            self.tell_withheld(capability);
        }
        let mut inputs = self.inputs();
        inputs.read.clear();
        inputs.recorded = turn.replay.front().map(|next| next.clock.iter().copied().collect());
        drop(inputs);
        self.in_hands_again(turn, call, &recorded.reply);
        heard(turn, waits(call), &recorded.reply);
        Ok(recorded.reply)
    }

    /// Messages that were taken before the checkpoint from which the attempt goes on are in its hands still, and children that
    /// were begun are its own.
    fn in_hands_again(&self, turn: &mut Turn, call: &Call, reply: &Answer) {
        match (call, reply) {
            (Call::Messages(MessageCall::Receive(_)), Ok(Reply::Deliveries(taken))) => {
                let part = turn.checkpoints.partition_point(|effects| *effects < turn.number);
                let part = u32::try_from(part).unwrap_or(u32::MAX);
                if !turn.holds.contains(&part) {
                    return;
                }
                let by = Taker { part, ..turn.transaction.taker().clone() };
                turn.transaction.hand(taken.iter().map(|delivery| delivery.id), &by);
            }
            (
                Call::Messages(MessageCall::Ack(Ack { id }) | MessageCall::Reject(Reject { id, .. })),
                Ok(Reply::Done),
            ) => turn.transaction.let_go(*id),
            (Call::Coordination(_), Ok(Reply::Begun(run))) => drop(turn.children.insert(*run)),
            _ => {}
        }
    }

    /// Decides and performs, and journals either.
    async fn performed(&self, turn: &mut Turn, call: Call) -> Result<Answer, Failure> {
        let load = self.log.load(&self.step);
        if load.effects >= MAX_EFFECTS || load.bytes >= MAX_EFFECT_BYTES {
            let message = format!(
                "it made {} host calls and was answered {} bytes; an attempt may make {MAX_EFFECTS} and be answered \
                 {MAX_EFFECT_BYTES} bytes",
                load.effects, load.bytes
            );
            return Err(Failure::new(Code::LimitResources, message));
        }
        let (name, about, request) = (call.name(), call.about(), call.digest());
        let is_checkpoint = matches!(call, Call::Attempt(AttemptCall::Checkpoint(_)));
        let waits = waits(&call);
        let verdict = self.verdict(&call).await?;
        let withheld = matches!(verdict, Verdict::Withheld(_));
        let (capability, decided) = match verdict {
            Verdict::Allowed(capability) => match call {
                _ if turn.handed.is_some() => (capability, Decided::Answer(Err(Refusal::Invalid(FENCED.into())))),
                Call::Coordination(call) => (capability, self.coordinated(turn, call, request).await?),
                Call::State(call) => (capability, self.stated(turn, &call, request).await?),
                Call::Session(SessionCall::History(call)) => (capability, Decided::Answer(self.history(&call).await)),
                call => (capability, self.decided(turn, call).await?),
            },
            Verdict::Denied(capability) | Verdict::Withheld(capability) => {
                if withheld {
                    self.tell_withheld(&capability);
                }
                (Some(capability.clone()), Decided::Answer(Err(Refusal::Denied(capability))))
            }
        };
        turn.number += 1;
        let effect = |reply| {
            let clock = std::mem::take(&mut self.inputs().read);
            Event::Effect(Effect {
                step: self.step.clone(),
                attempt: self.attempt,
                number: turn.number,
                call: name.to_owned(),
                about,
                form: form::CURRENT,
                request,
                capability,
                withheld,
                clock,
                reply,
            })
        };
        turn.staged += 256;
        let answer = match decided {
            Decided::Answer(answer) => {
                turn.staged += answer.as_ref().map_or(0, Reply::size);
                self.log.stage(effect(answer.clone()));
                answer
            }
            Decided::Change(reply, commit) => {
                turn.transaction.add(commit)?;
                self.log.stage(effect(Ok(reply.clone())));
                Ok(reply)
            }
            Decided::Lease(reply, commit) => {
                turn.staged += reply.size();
                if let Reply::Deliveries(taken) = &reply {
                    let by = turn.transaction.taker().clone();
                    turn.transaction.hand(taken.iter().map(|delivery| delivery.id), &by);
                }
                self.log.stage_with(effect(Ok(reply.clone())), commit).await.map_err(|e| broken(&e))?;
                Ok(reply)
            }
            // Only an attempt that did something is told so, and it is asked again once that is true.
            Decided::Checkpoint => Err(Refusal::Unavailable { message: "ask again".into(), retry_after_ms: 0 }),
        };
        heard(turn, waits, &answer);
        if is_checkpoint && turn.handed.is_none() {
            self.checkpoint(turn).await?;
        } else if turn.staged > MAX_STAGED_BYTES || turn.written.elapsed() >= MAX_STAGED_TIME {
            (turn.staged, turn.written) = (0, Instant::now());
            self.log.flush(Durability::Lazy).await.map_err(|e| broken(&e))?;
        }
        Ok(answer)
    }

    /// What a call comes to that is allowed. Where it would wait for others, what the attempt did so far becomes true first.
    async fn decided(&self, turn: &mut Turn, call: Call) -> Result<Decided, Failure> {
        loop {
            let revision = || self.log.next_revision();
            match self.shared.context.decide(self.asked(turn, &revision), call.clone()).await {
                Ok(Decided::Checkpoint) if !turn.transaction.is_empty() => self.checkpoint(turn).await?,
                Ok(decided) => return Ok(decided),
                Err(error) => return unanswered(&error),
            }
        }
    }

    /// Under which circumstances the attempt asks.
    fn asked<'a>(&'a self, turn: &'a Turn, revision: &'a (dyn Fn() -> Revision + Send + Sync)) -> Asked<'a> {
        let whose = Whose {
            tenant: self.log.tenant(),
            session: Some(&self.log.started().session),
            agent: Some(&self.agent),
            within: Some(Within { log: Some(&self.log), transaction: &turn.transaction }),
            client: None,
            cause: None,
            patience: self.patience,
        };
        Asked { whose, now: self.shared.clock.now(), revision }
    }

    /// What was said before, for who may read it.
    async fn history(&self, call: &session::History) -> Answer {
        ltmc_model::session::check_last(call.last).map_err(Refusal::Invalid)?;
        let after = self.holding.as_ref().map_or(0, |holding| holding.told_after);
        self.conversation.history(call.last, after).await.map(Reply::History).map_err(|error| unavailable(&error))
    }

    async fn verdict(&self, call: &Call) -> Result<Verdict, Failure> {
        let authority = &self.shared.authority;
        let in_force = authority.in_force(self.log.tenant(), &self.agent, &self.component).await;
        let in_force = in_force.map_err(|e| broken(&e))?;
        let refused = |capability| match in_force.decide(&[capability]) {
            Verdict::Allowed(_) => None,
            refused => Some(refused),
        };
        Ok(match in_force.decide(&call.needs()) {
            Verdict::Allowed(capability) => {
                call.needs_besides().into_iter().find_map(refused).unwrap_or(Verdict::Allowed(capability))
            }
            refused => refused,
        })
    }

    /// Keeps a line, once, within bounds.
    fn keep(&self, line: LogLine) {
        let mut inputs = self.inputs();
        inputs.lines += 1;
        let number = inputs.lines;
        let known = number <= inputs.logged;
        drop(inputs);
        let line = match number {
            _ if known => return,
            1..LogLine::MAX_LINES => line,
            LogLine::MAX_LINES => host_line(format!("only {} log lines of an attempt are kept", LogLine::MAX_LINES)),
            _ => {
                LINES_DROPPED.increment(1);
                return;
            }
        };
        let text = line.message.as_str();
        tracing::debug!(
            target: "ltmc::guest", tenant = %self.log.tenant(), run = %self.log.run(), step = %self.step,
            agent = %self.agent, level = line.level.as_str(), text,
        );
        self.log.stage(Event::Log { step: self.step.clone(), attempt: self.attempt, number, line });
    }

    /// Log lines replay by being made again, so their refusal is a line too, and the same one each time.
    async fn log_line(&self, line: LogLine) -> Result<Answer, Failure> {
        match self.verdict(&log::Write(line.clone()).into()).await? {
            Verdict::Allowed(_) => {
                self.keep(line);
                Ok(Ok(Reply::Done))
            }
            Verdict::Denied(capability) => {
                self.keep(host_line(format!("a log line was refused: `{capability}` is not granted")));
                Ok(Err(Refusal::Denied(capability)))
            }
            Verdict::Withheld(capability) => {
                self.keep(host_line(format!("a log line was refused: {}", self.withheld(&capability))));
                Ok(Err(Refusal::Denied(capability)))
            }
        }
    }

    /// Says in the attempt's log, once, that the tenant's ceiling withholds what was granted: the guest is told only what it lacks. An
    /// attempt that is made again says it at the same place.
    fn tell_withheld(&self, capability: &Capability) {
        if !std::mem::replace(&mut self.inputs().is_told, true) {
            self.keep(host_line(format!("a call was refused: {}", self.withheld(capability))));
        }
    }

    fn withheld(&self, capability: &Capability) -> String {
        let tenant = self.log.tenant();
        format!(
            "`{capability}` is granted, and the ceiling of tenant `{tenant}` withholds it; the operator can change that"
        )
    }

    fn inputs(&self) -> MutexGuard<'_, Inputs> {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Answer = Result<Reply, Refusal>;

/// What a recorded clock shows next; none: all of it was read.
fn next_read(reads: &mut VecDeque<(Timestamp, u32)>) -> Option<Timestamp> {
    let (at, left) = reads.front_mut()?;
    let at = *at;
    *left = left.saturating_sub(1);
    if *left == 0 {
        reads.pop_front();
    }
    Some(at)
}

#[async_trait]
impl Gate for Crossing {
    async fn cross(&self, call: Call) -> Result<Answer, Failure> {
        let (name, begun) = (call.name(), Instant::now());
        let mut turn = self.turn.lock().await;
        let answer = match call {
            Call::Log(log::LogCall::Write(log::Write(line))) => self.log_line(line).await,
            call => {
                debug_assert_eq!(call.class(), Class::Transactional);
                match turn.replay.pop_front() {
                    Some(recorded) => self.replayed(&mut turn, recorded, &call),
                    None => self.performed(&mut turn, call).await,
                }
            }
        };
        drop(turn);
        let outcome = match &answer {
            Ok(Ok(_)) => "ok",
            Ok(Err(Refusal::Denied(capability))) => {
                DENIALS.of([capability.kind()]).increment(1);
                "denied"
            }
            Ok(Err(Refusal::Conflict(_))) => "conflict",
            Ok(Err(Refusal::Invalid(_))) => "invalid",
            Ok(Err(Refusal::Quota(_))) => "quota",
            Ok(Err(Refusal::NotFound)) => "not-found",
            Ok(Err(Refusal::Resync(_))) => "resync",
            Ok(Err(Refusal::Unavailable { .. })) => "unavailable",
            Err(_) => "ended",
        };
        CALLS.of([name, outcome]).increment(1);
        SECONDS.of([name]).record(begun.elapsed());
        answer
    }

    async fn grants(&self, directory: &Directory) -> bool {
        match self.shared.authority.in_force(self.log.tenant(), &self.agent, &self.component).await {
            Ok(in_force) => in_force.may_write(&directory.name).is_some_and(|write| write || !directory.write),
            Err(error) => {
                tracing::warn!(%error, source = ?error.source, "whether a directory is granted was not answered");
                false
            }
        }
    }

    fn now(&self) -> Timestamp {
        let live = self.shared.clock.now();
        let mut inputs = self.inputs();
        let recorded = match &mut inputs.recorded {
            // Of what was read before a recorded effect every reading is there; after the last of them it stands still.
            Some(reads) => Some(next_read(reads).unwrap_or(inputs.latest)),
            None => None,
        };
        let at = recorded.unwrap_or(live).max(inputs.latest);
        inputs.latest = at;
        match inputs.read.last_mut() {
            Some((last, times)) if *last == at => *times = times.saturating_add(1),
            _ => inputs.read.push((at, 1)),
        }
        at
    }

    fn stderr(&self, text: &str) {
        let message = text[..text.floor_char_boundary(LogLine::MAX_MESSAGE)].to_owned();
        self.keep(LogLine { level: Level::Info, message, fields: vec![("stream".into(), "stderr".into())] });
    }
}

impl std::fmt::Debug for Crossing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crossing").field("step", &self.step).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn host_line(message: String) -> LogLine {
    LogLine { level: Level::Warn, message, fields: vec![("stream".into(), "host".into())] }
}

/// What a call comes to that the record did not answer.
fn unanswered(error: &StoreError) -> Result<Decided, Failure> {
    match error.kind {
        // The run's own thread is lost: nothing that it is told now would last.
        Kind::Stale | Kind::Fenced | Kind::Conflict => Err(broken(error)),
        Kind::TooCostly => Ok(Decided::Answer(Err(Refusal::Invalid(error.reason())))),
        _ => Ok(Decided::Answer(Err(unavailable(error)))),
    }
}

/// A read that failed is an answer that the guest can live with.
fn unavailable(error: &StoreError) -> Refusal {
    tracing::warn!(%error, source = ?error.source, "a guest's read was not answered");
    Refusal::Unavailable { message: "the record does not answer".into(), retry_after_ms: 1_000 }
}

/// A write that failed ends the attempt: what the record holds is known only by reading it again.
pub fn broken(error: &StoreError) -> Failure {
    match error.kind {
        Kind::Fenced | Kind::Conflict | Kind::Stale => {
            Failure::new(Code::Fenced, "the run goes on from the record").retryable()
        }
        Kind::Full => Failure::new(Code::StorageFull, "the record has no room left").retryable(),
        Kind::Displaced => Failure::new(
            Code::Fenced,
            "the run is not the turn at work in its session: its turn is over, and what it does comes too late",
        ),
        Kind::OverQuota => Failure::new(Code::DiskQuotaExceeded, error.reason()),
        Kind::Unavailable => Failure::new(Code::Unavailable, "the record does not answer").retryable(),
        Kind::TooCostly | Kind::Corrupt | Kind::Internal => {
            tracing::error!(%error, source = ?error.source, "the record failed");
            Failure::new(Code::Internal, "the record failed")
        }
    }
}
