//! The engine: does what patterns decide, and journals it.
//!
//! Invariants: everything that is done is in the run's log before the pattern is asked again; so is what others bring into it from
//! outside, of which `news` tells. What is under way is what the pattern last said: whatever it does not say any more is ended. Dropping [`Engine::drive`] anywhere ends its attempts, as soon as
//! none of its [`Guests`] is left, and leaves a log that can be gone on with. An error of the record's ends it: what is true is then
//! known only by reading the record.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{AbortHandle, AbortRegistration, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use ltmc_context::merge::{Joined, Joining};
use ltmc_crossing::{Attempt, BegunAt, Crossing, MAX_STAGED_TIME};
use ltmc_journal::fold::{Status, Step, not_needed};
use ltmc_journal::runlog::Commit;
use ltmc_journal::undoing::Ending;
use ltmc_journal::{History, RunLog};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::fork::Level;
use ltmc_model::journal::Event;
use ltmc_model::limits::Limits;
use ltmc_model::run::Usage;
use ltmc_model::workflow::{Retry, Validate};
use ltmc_model::{RunId, Seq, StepPath, Timestamp};
use ltmc_ports::runner::{Job, Outcome};
use ltmc_ports::{Durability, Expect, StoreError};
use ltmc_processor::Account;
use ltmc_tenancy::Compute;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::children::{Children, Sub};
use crate::conversation::Conversation;
use crate::coordinator::Coordinator;
use crate::decide::Decider;
use crate::guests::Guests;
use crate::patterns::{About, Decision, Input, Output, Settled, Todo};
use crate::plan::Plan;
use crate::prepared::{Assigned, Preparer};
use crate::resumed::Resumed;
use crate::runs::Ports;
use crate::{aggregate, ask, emit, holding, input, judge, metered, needs, rescued, take_up};

/// How often a step of a workflow is tried in all when all that is wrong is that the host is busy.
pub(crate) const TRIES_WHEN_BUSY: u32 = 8;
/// So many things that were done are decided on together.
const TAKEN_AT_ONCE: usize = 64;
/// A run that has nothing to do for so long is suspended: to be taken up from the record costs less than its place does.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// What drives one run.
pub(crate) struct Engine<'a> {
    pub(crate) ports: &'a Ports,
    pub(crate) plan: &'a Arc<Plan>,
    pub(crate) compute: &'a Compute,
    pub(crate) log: &'a Arc<RunLog>,
    pub(crate) coordinator: &'a Coordinator,
    /// How often, one time after the other, others changed what it had decided on.
    pub(crate) overtaken: u32,
    pub(crate) beginnings: &'a Beginnings,
    /// Those of its guests that are at work.
    pub(crate) guests: &'a Guests,
    /// Set once a guest begins, or somebody judges in a process of its own.
    pub(crate) bounded: &'a AtomicBool,
    /// Told when others brought something into its log.
    pub(crate) news: &'a Notify,
    /// What its guests begin.
    pub(crate) children: &'a Arc<Children>,
    /// The conversation whose turn it is.
    pub(crate) conversation: &'a Arc<Conversation>,
}

/// When each step's attempt first began in this process: one that begins again because others were faster has its wall time
/// once, over all its beginnings.
#[derive(Debug, Default)]
pub(crate) struct Beginnings(Mutex<BTreeMap<StepPath, (u32, tokio::time::Instant)>>);

impl Beginnings {
    /// So many of the last ones are kept: what began before them is over, and in the record, long since.
    const KEPT: usize = 20_000;

    /// For how long an attempt has been under way.
    fn since(&self, step: &StepPath, attempt: u32) -> Duration {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (attempt, tokio::time::Instant::now());
        let first = begun.entry(step.clone()).or_insert(now);
        if first.0 != attempt {
            *first = now;
        }
        let since = first.1;
        if begun.len() >= 2 * Self::KEPT {
            let mut times: Vec<_> = begun.values().map(|(_, at)| *at).collect();
            let (_, oldest, _) = times.select_nth_unstable(Self::KEPT);
            let oldest = *oldest;
            begun.retain(|_, (_, at)| *at >= oldest);
        }
        since.elapsed()
    }
}

/// Why a thing that was to be done was not.
pub(crate) enum Stop {
    /// The record failed: this owner of the run knows nothing any more.
    Lost(StoreError),
    /// The run is over.
    Failed(Failure),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Lost(error)
    }
}

/// How far a run was driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Driven {
    /// It is over.
    Over,
    /// It waits for long, and goes on from the record.
    Suspended,
}

impl Engine<'_> {
    /// Drives the run until it is over or suspended, and that is on disk; of a child, in the record.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer, or refuses what the run did.
    pub(crate) async fn drive(&self) -> Result<Driven, StoreError> {
        let (mut open, mut lingered) = (Open::default(), false);
        let mut work = FuturesUnordered::new();
        let ended = loop {
            let (decision, decided_at) = self.log.read_mut(|history| {
                history.tick(self.log.now());
                (self.plan.flow.next(&StepPath::root(), history, &Input::Run), history.seq())
            });
            let todos = match decision {
                Decision::Do(todos) => todos,
                Decision::Done(step) => break vec![Event::RunCompleted { step }],
                Decision::Skipped => break self.nothing_done(),
                Decision::Failed(failure) => break vec![self.failed(failure)],
            };
            let (halts, todos): (Vec<Todo>, Vec<Todo>) =
                todos.into_iter().partition(|todo| matches!(todo, Todo::Halt { .. }));
            if todos.is_empty()
                && let Some(event) = set_aside(halts)
            {
                if self.stage_as_decided(decided_at, event) {
                    break Vec::new();
                }
                continue;
            }
            for (todo, number, registration) in open.renew(todos) {
                lingered = false;
                work.push(async move {
                    let key = owned(todo.key());
                    let done = Abortable::new(self.carry_out(todo), registration).await;
                    (key, number, done)
                });
            }
            let mut lingers = false;
            if let Some(until) = open.only_waits()
                && until.since(self.log.now()) >= LONG_WAIT
            {
                // How long a child takes is not known: most are over soon.
                lingers =
                    !lingered && self.log.read(|history| history.open_children(&StepPath::root()).next().is_some());
                if !lingers {
                    // Whatever waits may have its turn at the log, which it gives back only where it is polled.
                    (open, work) = (Open::default(), FuturesUnordered::new());
                    if self.suspend(until, decided_at).await? {
                        return Ok(Driven::Suspended);
                    }
                    continue;
                }
            }
            let mut next = tokio::select! {
                biased;
                next = work.next() => next,
                () = self.news.notified() => continue,
                () = tokio::time::sleep(LONG_WAIT), if lingers => {
                    lingered = true;
                    continue;
                }
            };
            let mut taken = 0;
            let failure = loop {
                match next {
                    None => break Some(Failure::new(Code::Internal, "the workflow decided to do nothing")),
                    Some((key, number, done)) => {
                        open.is_over(&key, number);
                        match done {
                            Ok(Ok(())) | Err(_) => {}
                            Ok(Err(Stop::Lost(error))) => return Err(error),
                            Ok(Err(Stop::Failed(failure))) => break Some(failure.in_step(&key.0)),
                        }
                    }
                }
                // What was done meanwhile is in the log too, and is decided on together: a decision looks at all that is open.
                taken += 1;
                next = if taken < TAKEN_AT_ONCE { work.next().now_or_never().flatten() } else { None };
                if next.is_none() {
                    break None;
                }
            };
            let Some(failure) = failure else { continue };
            let event = self.failed(failure);
            if !matches!(event, Event::RunFailing { .. }) {
                break vec![event];
            }
            (open, work) = (Open::default(), FuturesUnordered::new());
            self.guests.all_left().await;
            self.children.end(&StepPath::root());
            self.journal(event);
        };
        // As above: what is still open is not polled any more.
        drop(work);
        self.end(ended).await
    }

    /// Adds what follows from a decision, unless somebody brought something into the log since; whoever does so later finds the run
    /// suspended or set aside.
    fn stage_as_decided(&self, decided_at: Seq, event: Event) -> bool {
        let as_decided = |history: &History| (history.seq() == decided_at).then(|| vec![event]).ok_or(());
        self.log.stage_if(as_decided).is_ok()
    }

    fn failed(&self, failure: Failure) -> Event {
        self.log.read(|history| failed(history, failure))
    }

    /// Adds an entry, and counts what it says of how failures were dealt with.
    fn journal(&self, event: Event) {
        self.count(&event);
        self.log.stage(event);
    }

    fn count(&self, event: &Event) {
        self.log.read(|history| rescued::count(event, history, self.plan));
    }

    /// Suspends the run, unless others brought something into its log since it was decided; whether it is suspended.
    async fn suspend(&self, until: Timestamp, decided_at: Seq) -> Result<bool, StoreError> {
        // Whoever brings something into the log finds the run suspended from here on, or was faster.
        let suspended = |history: &History| {
            if history.seq() != decided_at {
                return Err(());
            }
            // The end of a child makes it due, if that comes after this; what came before it is found now.
            let root = StepPath::root();
            let joined = history.open_children(&root).map(|(_, run)| Expect::UnderWay { run });
            let heard = history.all_heard();
            Ok((vec![Event::RunSuspended { until, heard }], joined.collect()))
        };
        if self.log.stage_if_expecting(suspended).is_err() {
            return Ok(false);
        }
        self.log.flush(Durability::Barrier).await.map(|()| true)
    }

    /// Ends the run. Of one that another run began nobody outside is told before that one's end is on disk, which comes after it.
    async fn end(&self, events: Vec<Event>) -> Result<Driven, StoreError> {
        events.iter().for_each(|event| self.count(event));
        let is_child = self.log.started().parent.is_some();
        let durability = if is_child { Durability::Lazy } else { Durability::Barrier };
        self.log.append(events, durability).await.map(|()| Driven::Over)
    }

    /// How a run ends of which everything was skipped: with its input.
    fn nothing_done(&self) -> Vec<Event> {
        let (node, output) = (StepPath::root(), self.log.started().input.clone());
        vec![Event::NodeEnded { node: node.clone(), output }, Event::RunCompleted { step: node }]
    }

    async fn carry_out(&self, todo: Todo) -> Result<(), Stop> {
        match todo {
            Todo::Attempt { step, input } => {
                let assigned = self.preparer().assigned(self.compute, self.plan, &step, &input).await;
                let needs = self.needs(&step, &input);
                self.attempt(&step, assigned.map_err(Stop::Failed)?, needs).await?;
            }
            Todo::Judge { node } => {
                let judged = self.rejection(&node).await;
                self.stage(node, judged, |node, rejection| Event::StepJudged { step: node, rejection });
            }
            Todo::Register { node, given } => self.journal(Event::CompensationRegistered { node, given }),
            Todo::Compensate { node, within, failure } => {
                self.journal(Event::CompensationStarted { node, within, failure });
            }
            Todo::Compensated { node } => self.journal(Event::Compensated { node }),
            Todo::Unwind { node: _, failure } => self.journal(Event::RunFailing { failure }),
            // Nothing is done about it but that the run is set aside.
            Todo::Halt { .. } => {}
            Todo::Wait { node: _, until } => self.wait(until).await?,
            Todo::Await { node } => {
                self.log.flush(Durability::Lazy).await?;
                self.next_event(&node).await?;
            }
            Todo::Subscribe { node } => self.subscribe(node).await?,
            Todo::Listen { node } => self.listen(node).await?,
            Todo::Ask { node } => self.ask(node).await?,
            Todo::Remind { node, number } => {
                if let Some((reminded, commit)) =
                    emit::reminder(self.plan, self.log, &node, number).map_err(Stop::Failed)?
                {
                    self.log.stage_with(reminded, commit).await?;
                }
            }
            Todo::Emit { node, input } => {
                let levels = self.levels(&node);
                match emit::event(self.compute, self.plan, self.log, &node, &input, &levels).await {
                    Ok((emitted, commit)) => self.log.stage_with(emitted, commit).await?,
                    Err(failure) => self.fail(node, failure),
                }
            }
            Todo::Merge { node, done, settled } => self.merge(node, &done, settled).await?,
            Todo::Begin { node, input } => self.begin(node, &input).await?,
            Todo::Join { node } => self.join(node).await?,
            Todo::Start { node } => {
                let (planned, _) = self.plan.node(&node).map_err(Stop::Failed)?;
                let until = self.log.now().after(planned.timeout.unwrap_or_default());
                self.journal(Event::NodeStarted { node, until });
            }
            Todo::Decide { node, question } => {
                let (compute, plan, log, coordinator) = (self.compute, self.plan, self.log, self.coordinator);
                let (authority, schemas) = (&self.ports.authority, self.ports.schemas.as_ref());
                let bounded = self.bounded;
                let conversation = self.conversation.as_ref();
                let decider = Decider { compute, plan, log, coordinator, conversation, authority, schemas, bounded };
                let answer = decider.answer(&node, question).await;
                self.stage(node, answer, |node, decided| Event::NodeDecided { node, decided });
            }
            Todo::Record { node, decided } => self.journal(Event::NodeDecided { node, decided }),
            Todo::Cancel { node } => self.cancel(&node).await,
            Todo::TimeOut { node } => {
                self.cancel(&node).await;
                let (planned, _) = self.plan.node(&node).map_err(Stop::Failed)?;
                let after = planned.timeout.unwrap_or_default().as_millis();
                self.journal(Event::NodeTimedOut { node, after: u64::try_from(after).unwrap_or(u64::MAX) });
            }
            Todo::Fail { node, failure, again } => {
                let (planned, _) = self.plan.node(&node).map_err(Stop::Failed)?;
                let failures = self.log.read(|history| history.node(&node).map_or(0, |node| node.failures));
                let retry_at = again.then(|| self.due(&node, failures + 1, failures + 1, &planned.retry));
                self.journal(Event::NodeFailed { node, failure, retry_at });
            }
            Todo::End { node, output: Output::Of(of) } => self.journal(Event::NodeGave { node, of }),
            Todo::End { node, output: Output::Given(Input::Output(of)) } => self.journal(Event::NodeGave { node, of }),
            Todo::End { node, output: Output::Given(input) } => {
                let given = input::resolve(self.compute, self.plan, self.log, &input).await;
                self.stage(node, given, |node, output| Event::NodeEnded { node, output });
            }
            Todo::End { node, output: Output::List(gave) } => {
                let output = aggregate::list(self.compute, self.log, gave).await;
                self.stage(node, output, |node, output| Event::NodeEnded { node, output });
            }
            Todo::End { node, output: Output::Merge(gave) } => {
                let output = aggregate::merged(self.compute, self.plan, self.log, &node, gave).await;
                self.stage(node, output, |node, output| Event::NodeEnded { node, output });
            }
            Todo::End { node, output: Output::Voted { by } } => {
                let output = aggregate::voted(self.log, &node, by.as_ref());
                self.stage(node, output, |node, output| Event::NodeEnded { node, output });
            }
            Todo::End { node, output: Output::Object(gave) } => {
                let output = aggregate::object(self.compute, self.log, gave).await;
                self.stage(node, output, |node, output| Event::NodeEnded { node, output });
            }
        }
        Ok(())
    }

    /// The branches with a context of their own that a node stands in and that have not come together, from the outside in.
    fn levels(&self, node: &StepPath) -> Vec<Level> {
        self.log.read(|history| history.forked().in_force(self.plan.levels(node)))
    }

    /// Brings branches together; what they did is true with the entry that says so. Where they conflict about keys that somebody is to
    /// settle, the journal says that these are put to them.
    async fn merge(&self, node: StepPath, done: &[u32], settled: Vec<Settled>) -> Result<(), Stop> {
        let (planned, _) = self.plan.node(&node).map_err(Stop::Failed)?;
        let Some(context) = planned.context() else {
            return Err(Stop::Failed(Failure::new(Code::Internal, format!("the branches of {node} have no context"))));
        };
        let said = settled
            .into_iter()
            .map(|Settled { by, number, came }| ((by, number), came.and_then(|of| input::output(self.log, &of))));
        let joining = Joining {
            log: self.log,
            node: &node,
            done,
            levels: self.levels(&node),
            policies: &context.merge,
            said: &said.collect(),
            called: &|number| planned.called(number),
        };
        match self.ports.crossing.context.join(joining).await? {
            Ok(Joined::Together(merged, commit)) => self.log.stage_with(merged, commit).await?,
            Ok(Joined::Conflict(conflicted, failure)) => {
                let failed = Event::NodeFailed { failure: failure.in_step(&node), node, retry_at: None };
                self.count(&failed);
                self.log.stage_with(failed, Commit { before: vec![conflicted], ..Commit::default() }).await?;
            }
            Ok(Joined::Raised(events)) => self.log.stage_if(|_| Ok::<_, Stop>(events))?,
            Err(failure) => self.fail(node, failure),
        }
        Ok(())
    }

    /// Journals what came of something about a node, or that the node failed by it.
    fn stage<T>(&self, node: StepPath, came: Result<T, Failure>, event: impl FnOnce(StepPath, T) -> Event) {
        match came {
            Ok(came) => self.journal(event(node, came)),
            Err(failure) => self.fail(node, failure),
        }
    }

    /// Journals that what is open at a node and below it is ended, once no guest of it does anything any more.
    async fn cancel(&self, node: &StepPath) {
        self.guests.left(node).await;
        self.children.end(node);
        let cancelled: Vec<Event> = self.log.read(|history| {
            let attempt = |(path, step): (&StepPath, &Step)| {
                let attempt = step.last().map_or(0, |last| last.number);
                Event::StepCancelled { step: path.clone(), attempt }
            };
            let ended = |(node, run): (&StepPath, RunId)| Event::ChildEnded {
                node: node.clone(),
                run,
                result: Err(not_needed()),
            };
            let attempts = history.open_within(node).map(attempt);
            let waits = history.waiting_within(node).map(|node| Event::WaitCancelled { node: node.clone() });
            attempts.chain(waits).chain(history.own_children(node).map(ended)).collect()
        });
        cancelled.into_iter().for_each(|event| self.journal(event));
    }

    /// Puts a node's question to people. It is on disk before anybody sees it: an answer is never one to a question that was not asked.
    async fn ask(&self, node: StepPath) -> Result<(), Stop> {
        match ask::question(self.compute, self.plan, self.log, &node).await {
            Ok((token, question)) => {
                let asked = Event::Asked { node, token, question: Box::new(question) };
                self.log.append(vec![asked], Durability::Barrier).await?;
            }
            Err(failure) => self.fail(node, failure),
        }
        Ok(())
    }

    /// Journals that a node's own work failed for good, and that it waits for nothing any more.
    pub(crate) fn fail(&self, node: StepPath, failure: Failure) {
        if self.log.read(|history| history.node(&node).is_some_and(ltmc_journal::node::Node::is_waiting)) {
            self.log.stage(Event::WaitCancelled { node: node.clone() });
        }
        self.journal(Event::NodeFailed { failure: failure.in_step(&node), node, retry_at: None });
    }

    /// Begins the run of a node that starts another workflow.
    async fn begin(&self, node: StepPath, input: &Input) -> Result<(), Stop> {
        let (planned, _) = self.plan.node(&node).map_err(Stop::Failed)?;
        let document = self.log.read(|history| history.node(&node).and_then(|node| node.planned.clone()));
        let Some(sub) = Sub::of(planned, document) else {
            return Err(Stop::Failed(Failure::new(Code::Internal, format!("{node} starts no workflow"))));
        };
        let is_apart = Level::has_session(&self.levels(&node));
        let begun = match input::resolve(self.compute, self.plan, self.log, input).await {
            Ok(input) => self.children.start(&node, &sub, input, is_apart).await?,
            Err(failure) => Err(failure),
        };
        let (needs, planned) = (self.needs(&node, input), sub.planned.is_some());
        self.stage(node, begun, |node, run| Event::ChildStarted { node, run, needs, planned });
        Ok(())
    }

    /// Waits until the run that a node began is over.
    async fn join(&self, node: StepPath) -> Result<(), Stop> {
        // It does nothing but wait: a host that dies meanwhile did not die of it.
        self.bounded.store(true, Ordering::Relaxed);
        self.log.flush(Durability::Lazy).await?;
        let run = self.log.read(|history| history.node(&node)?.child.as_ref().map(|child| child.run));
        let Some(run) = run else {
            return Err(Stop::Failed(Failure::new(Code::Internal, format!("{node} began no run"))));
        };
        let result = self.children.joined(run).await?;
        self.journal(Event::ChildEnded { node, run, result });
        Ok(())
    }

    /// What is wrong with a node's output; none: it is good.
    async fn rejection(&self, at: &StepPath) -> Result<Option<Failure>, Failure> {
        let (node, _) = self.plan.node(at)?;
        let found = match &node.validate {
            Some(Validate::Schema { schema, .. }) => {
                let output = input::output(self.log, at)?;
                self.bounded.store(true, Ordering::Relaxed);
                self.ports.schemas.judge(self.log.tenant(), &schema.to_string(), &output).await?
            }
            Some(Validate::Agent { .. }) => judge::of_payload(&input::output(self.log, &at.child(node.validator()))?)?,
            None => return Err(Failure::new(Code::Internal, format!("the plan has nothing that judges {at}"))),
        };
        Ok(judge::rejection(&found).map(|failure| failure.in_step(at)))
    }

    async fn wait(&self, until: Timestamp) -> Result<(), Stop> {
        self.log.flush(Durability::Lazy).await?;
        let left = until.since(self.log.now()).max(Duration::from_millis(1));
        tokio::time::sleep(left).await;
        Ok(())
    }

    /// Makes a step's next attempt, or goes on with the one that is open. How it ends is in the log.
    async fn attempt(&self, step: &StepPath, assigned: Assigned, needs: Vec<StepPath>) -> Result<(), Stop> {
        let begun = Instant::now();
        let (Assigned { agent, work, input, retry }, preparer) = (assigned, self.preparer());
        if self.log.staged_for() > MAX_STAGED_TIME {
            self.log.flush(Durability::Lazy).await?;
        }
        let (mut attempt, mut is_open, is_of_before, effects) = self.log.read(|history| {
            let found = history.step(step);
            let is_open = found.is_some_and(|found| found.status == Status::Running);
            let is_of_before = is_open && found.is_some_and(|found| !found.transaction);
            let effects = found.map_or(0, |found| found.checkpoint.effects);
            (history.attempt(step), is_open, is_of_before, effects)
        });
        if is_open && preparer.sees_directories(&agent).await.map_err(Stop::Failed)? {
            // What it read of a directory is in no journal: it is another attempt that may read something else.
            let message = "it read a granted directory when the host stopped: it is made again";
            let failure = Failure::new(Code::Unavailable, message).retryable().in_step(step);
            let (retry_at, usage) = (Some(self.log.now()), Usage::default());
            self.journal(Event::StepFailed { step: step.clone(), attempt, failure, retry_at, usage });
            (attempt, is_open) = (attempt + 1, false);
        }
        if is_open && is_of_before {
            // Each of its effects is true by itself; what it does from here on is a transaction.
            self.journal(Event::Checkpoint { step: step.clone(), attempt, effects });
        }
        if !is_open {
            let version = preparer.version(&agent);
            let agent = Some(agent.name.clone());
            self.journal(Event::StepStarted { step: step.clone(), attempt, agent, version, needs, transaction: true });
        }
        let begun_at = self.begun_at(step).await?;
        let mut usage = Usage::default();
        let mut commit = Commit::default();
        let spent = self.beginnings.since(step, attempt);
        let prepared = preparer.job(step, begun_at.checkpoint.origin, &agent, work, input).await;
        let ended = match prepared.and_then(|(job, isolation)| Ok((in_time(job, spent)?, isolation))) {
            Err(failure) => Err(failure),
            Ok((job, isolation)) => {
                let (left, levels) = (begun_at.replay.len(), self.levels(step));
                let (log, step) = (self.log.clone(), step.clone());
                let attempt = Attempt {
                    holding: holding::of(self.plan, &log, &step),
                    log,
                    children: self.children.clone(),
                    conversation: self.conversation.clone(),
                    agent: job.agent.clone(),
                    component: job.component,
                    step,
                    number: attempt,
                    begun_at,
                    overtaken: self.overtaken,
                    levels,
                    isolation,
                };
                let gate = Arc::new(Resumed::new(Crossing::new(self.ports.crossing.clone(), attempt), left));
                self.bounded.store(true, Ordering::Relaxed);
                let mut run = self.guest(job, gate.clone());
                let show = async {
                    tokio::time::sleep(MAX_STAGED_TIME).await;
                    self.log.flush(Durability::Lazy).await
                };
                // Side by side to the end: the guest may be in the middle of an append that this one waits for.
                let (ended, used) = tokio::select! {
                    biased;
                    ended = &mut run => ended,
                    shown = show => {
                        shown?;
                        run.await
                    }
                };
                usage = used;
                let ended = gate.check(ended);
                // One that ends badly leaves nothing of what it did.
                if ended.is_ok() {
                    commit = gate.commit().await;
                }
                ended
            }
        };
        // What it began and did not wait for is not needed any more.
        self.children.end(step);
        let (step, outcome) = (step.clone(), ended.as_ref().map_or_else(|failure| failure.code.as_str(), |_| "ok"));
        metered::CALLS.of([outcome]).increment(1);
        metered::CALL_SECONDS.record(begun.elapsed());
        self.coordinator.note(self.log.tenant(), &agent.name, ended.as_ref().err().map(|f| f.code), begun.elapsed());
        match ended {
            Ok(outcome) => {
                let output = match outcome {
                    Outcome::Output(output) => output,
                    Outcome::Violations(found) => judge::to_payload(&found),
                };
                let completed = Event::StepCompleted { step, attempt, output, usage };
                self.count(&completed);
                self.log.stage_with(completed, commit).await?;
            }
            Err(failure) => {
                let failure = failure.in_step(&step);
                let retry_at = self.retry_at(&step, attempt, &failure, &retry);
                // What it says is its tenant's: that is in the journal, and here only for who looks closely.
                tracing::info!(%step, attempt, code = failure.code.as_str(), "an attempt failed");
                tracing::debug!(%step, attempt, message = %failure.message, "an attempt failed");
                self.journal(Event::StepFailed { step, attempt, failure, retry_at, usage });
            }
        }
        Ok(())
    }

    /// Runs a guest; on a task of its own where others may be at work beside it.
    fn guest(&self, job: Job, gate: Arc<Resumed>) -> BoxFuture<'static, (Result<Outcome, Failure>, Usage)> {
        let (runner, at_work) = (self.ports.runner.clone(), self.guests.begin(&job.step));
        let guest = async move {
            let _at_work = at_work;
            runner.run(job, gate).await
        };
        if !self.plan.is_side_by_side {
            return guest.boxed();
        }
        let account = Account::of(self.log.tenant());
        let task = AbortOnDropHandle::new(tokio::spawn(ltmc_processor::run(account, guest)));
        let broke = |e| (Err(Failure::new(Code::Internal, format!("a guest's task broke off: {e}"))), Usage::default());
        task.map(move |ended| ended.unwrap_or_else(broke)).boxed()
    }

    /// From where the attempt that is open goes on: its beginning, or the last checkpoint of its step, with the effects up to
    /// there. Those of an attempt of this process's own are read from the record, for nobody kept them.
    async fn begun_at(&self, step: &StepPath) -> Result<BegunAt, Stop> {
        let (mut begun_at, log) = (self.log.read_mut(|history| BegunAt::of(history, step)), self.log);
        if begun_at.replay.len() < begun_at.checkpoint.effects as usize {
            log.flush(Durability::Lazy).await?;
            let (read, began) = (self.ports.read.as_ref(), self.log.read(|history| history.began(step)));
            begun_at = take_up::begun_at(read, log.tenant(), log.run(), step, &begun_at, began).await?;
        }
        Ok(begun_at)
    }

    fn preparer(&self) -> Preparer<'_> {
        Preparer { ports: self.ports, log: self.log }
    }

    /// Whose outputs a step works on, or was decided by.
    fn needs(&self, at: &StepPath, input: &Input) -> Vec<StepPath> {
        self.log.read(|history| needs::of(self.plan, history, at, input))
    }

    /// When the next attempt is due; none: there is no other.
    fn retry_at(&self, step: &StepPath, attempt: u32, failure: &Failure, retry: &Retry) -> Option<Timestamp> {
        let tries = self.log.read(|history| history.step(step).map_or(1, |step| step.tries()));
        let is_busy = failure.code == Code::Busy && self.log.started().document.is_some();
        let (attempts, retry) = match is_busy {
            true => (retry.attempts.max(TRIES_WHEN_BUSY), Retry { backoff: Duration::from_secs(1), ..retry.clone() }),
            false => (retry.attempts, retry.clone()),
        };
        let is_worth_it = is_busy || retry.covers(failure);
        (tries < attempts && is_worth_it).then(|| self.due(step, attempt, tries, &retry))
    }

    /// When a step or another node is tried again, after so many tries.
    fn due(&self, node: &StepPath, attempt: u32, tries: u32, retry: &Retry) -> Timestamp {
        let seed = derived(&self.log.started().seed, "back-off", node, attempt);
        let mut eight = [0; 8];
        eight.copy_from_slice(&seed[..8]);
        // Full jitter: anything from nothing to the longest wait.
        let share = u64::from_le_bytes(eight) as f64 / u64::MAX as f64;
        self.log.now().after(retry.longest_wait(tries).mul_f64(share))
    }
}

/// What is journaled of a run that has failed for good: what it did is undone first, or is not where that fails too.
pub(crate) fn failed(history: &History, failure: Failure) -> Event {
    match (history.has_to_undo(), history.ending().cloned()) {
        (true, None) => Event::RunFailing { failure },
        (true, Some(_)) => Event::RunStuck { failure },
        (false, Some(Ending::Cancelling { by, reason })) => Event::RunCancelled { by, reason },
        (false, _) => Event::RunFailed { failure },
    }
}

/// What is journaled of a run of which nothing goes on without people; none: nothing of it waits for them.
fn set_aside(halts: Vec<Todo>) -> Option<Event> {
    let halt = |todo| match todo {
        Todo::Halt { failure, is_stuck, .. } => Some((failure, is_stuck)),
        _ => None,
    };
    let halts: Vec<(Failure, bool)> = halts.into_iter().filter_map(halt).collect();
    let (failure, is_stuck) = halts.iter().find(|(_, is_stuck)| *is_stuck).or(halts.first())?.clone();
    Some(match is_stuck {
        true => Event::RunStuck { failure },
        false => Event::RunPaused { by: None, failure: Some(failure) },
    })
}

/// What is under way, and of it what merely waits.
#[derive(Default)]
struct Open {
    /// Until when it waits; none: something is done.
    todos: BTreeMap<(StepPath, About), (Option<Timestamp>, u64, AbortHandle)>,
    /// How many there were.
    begun: u64,
}

impl Open {
    /// Ends what is not wanted any more. What is to be begun, each under a number.
    fn renew(&mut self, todos: Vec<Todo>) -> Vec<(Todo, u64, AbortRegistration)> {
        let wanted: BTreeMap<_, _> = todos.iter().map(|todo| (owned(todo.key()), todo.waits_until())).collect();
        self.todos.retain(|key, (until, _, abort)| {
            let is_wanted = wanted.get(key) == Some(until);
            if !is_wanted {
                abort.abort();
            }
            is_wanted
        });
        let mut fresh = Vec::new();
        for todo in todos {
            if let Entry::Vacant(place) = self.todos.entry(owned(todo.key())) {
                self.begun += 1;
                let (abort, registration) = AbortHandle::new_pair();
                place.insert((todo.waits_until(), self.begun, abort));
                fresh.push((todo, self.begun, registration));
            }
        }
        fresh
    }

    fn is_over(&mut self, key: &(StepPath, About), number: u64) {
        // Under the same key something else may have begun since it was ended.
        if self.todos.get(key).is_some_and(|(_, begun, _)| *begun == number) {
            self.todos.remove(key);
        }
    }

    /// Until when nothing is to be done, if all that is open waits.
    fn only_waits(&self) -> Option<Timestamp> {
        self.todos.values().map(|(until, ..)| *until).collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

fn owned((node, about): (&StepPath, About)) -> (StepPath, About) {
    (node.clone(), about)
}

/// What is left of a job's wall time after what was spent of it in vain.
fn in_time(job: Job, spent: Duration) -> Result<Job, Failure> {
    let wall = job.limits.wall;
    let left = wall.checked_sub(spent).filter(|left| !left.is_zero()).ok_or_else(|| {
        let message = format!("what it decided on was changed by others until its wall time of {wall:?} was used up");
        Failure::new(Code::LimitWall, message)
    })?;
    Ok(Job { limits: Limits { wall: left, ..job.limits }, ..job })
}

/// 32 bytes that are the same for the same attempt of the same run, and for nothing else.
pub(crate) fn derived(seed: &[u8; 32], purpose: &str, step: &StepPath, attempt: u32) -> [u8; 32] {
    derived_for(seed, &format!("{purpose}\n{step}\n{attempt}"))
}

/// 32 bytes that follow from a run's seed and what they are for.
pub(crate) fn derived_for(seed: &[u8; 32], what: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed);
    hash.update(what);
    hash.finalize().into()
}
