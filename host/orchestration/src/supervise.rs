//! A run's life in this process: driven, cancelled, parked; taken up again from the record where its thread was lost.
//!
//! Invariants: whoever waits for a run is always answered, also when its task breaks. What this host could not finish stays in
//! the record as it is, for the next start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ltmc_crossing::broken;
use ltmc_journal::undoing::Ending;
use ltmc_journal::{History, RunLog};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Event;
use ltmc_model::run::State;
use ltmc_model::{Epoch, KeyId, Payload, RunId, StepPath, TenantId};
use ltmc_ports::{Durability, Kind, StoreError};
use ltmc_tenancy::pins::Pin;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::children::{self, Children};
use crate::conversation::Conversation;
use crate::engine::{self, Beginnings, Driven, Engine};
use crate::guests::Guests;
use crate::lineage;
use crate::metered;
use crate::plan::{self, Plan};
use crate::registry::Place;
use crate::runs::Inner;
use crate::take_up;

/// How often a run begins again at its last checkpoint because others were faster, before it fails.
const MAX_CONFLICTS: u32 = 64;
/// The longest pause before that, as a power of two of milliseconds.
const MAX_PAUSE: u32 = 5;
/// How long between two tries to take a run up again.
const PATIENCE: Duration = Duration::from_secs(1);

/// A run that is alive in this process.
pub(crate) struct Live {
    pub(crate) tenant: TenantId,
    pub(crate) run: RunId,
    pub(crate) by: KeyId,
    log: RwLock<Arc<RunLog>>,
    end: watch::Sender<Option<End>>,
    asked: watch::Sender<Asked>,
    /// Set once it is on disk that it is cancelled, and that what it did is undone first.
    unwinds: CancellationToken,
    /// Told when others brought something into its log.
    pub(crate) news: Notify,
    pub(crate) weight: u64,
    /// What its guests began and did not wait for yet.
    pub(crate) children: children::Open,
    /// Whether it came to where what it does is bounded apart from the host: its guest, or who judges its output.
    bounded: AtomicBool,
}

/// How a run ended, as far as this process goes.
#[derive(Debug, Clone)]
pub(crate) struct End {
    /// For those who wait.
    pub(crate) result: Result<Payload, Failure>,
    /// Where it stands; none: it goes on later.
    pub(crate) state: Option<State>,
    /// Whether nobody goes on with it before the next start.
    pub(crate) is_left: bool,
    /// Whether it goes on by itself, here or elsewhere: who waits for it looks again.
    pub(crate) goes_on: bool,
}

impl End {
    /// It is over.
    fn over(state: State, result: Result<Payload, Failure>) -> Self {
        Self { result, state: Some(state), is_left: false, goes_on: false }
    }

    /// It is suspended: whoever waits for its end waits on.
    fn suspended() -> Self {
        let failure = Failure::new(Code::Unavailable, "the run waits, and goes on by itself").retryable();
        Self { result: Err(failure), state: Some(State::Waiting), is_left: false, goes_on: true }
    }

    /// Whether it goes on by itself.
    pub(crate) fn is_suspended(&self) -> bool {
        self.state == Some(State::Waiting)
    }

    /// It is not over, and waits for the next start.
    fn left(failure: Failure) -> Self {
        Self { result: Err(failure), state: None, is_left: true, goes_on: false }
    }

    /// It is nothing of this host's: another has it, or nobody ever had it.
    fn none_of_ours(failure: Failure) -> Self {
        Self { result: Err(failure), state: None, is_left: false, goes_on: false }
    }

    /// Its task ended without one.
    pub(crate) fn broke_off() -> Self {
        Self::left(Failure::new(Code::Internal, "the run's task broke off"))
    }

    /// Its place was taken, and then it could not be written that it goes on: it is as the record has it.
    pub(crate) fn not_begun() -> Self {
        let failure = Failure::new(Code::Unavailable, "the run could not be begun").retryable();
        Self { goes_on: true, ..Self::none_of_ours(failure) }
    }
}

/// Why a run is to stop.
#[derive(Debug, Clone)]
pub(crate) enum Why {
    /// Somebody ended it.
    Cancelled { by: Option<KeyId>, reason: String },
    /// Somebody paused it.
    Paused { by: KeyId },
    /// The host stops: the next one goes on with it.
    Parked,
}

/// Everything that a run was asked to stop for: of each kind the first counts.
#[derive(Debug, Default)]
struct Asked {
    cancelled: Option<Why>,
    paused: Option<Why>,
    parked: Option<Why>,
}

impl Asked {
    /// For what it stops now. One that is being cancelled has what it did undone: it stops for nobody who cancels it.
    fn why(&self, is_cancelling: bool) -> Option<&Why> {
        self.cancelled.as_ref().filter(|_| !is_cancelling).or(self.parked.as_ref()).or(self.paused.as_ref())
    }
}

impl Live {
    pub(crate) fn new(log: Arc<RunLog>, weight: u64) -> Arc<Self> {
        Arc::new(Self {
            tenant: log.tenant().clone(),
            run: log.run(),
            by: log.started().by.clone(),
            log: RwLock::new(log),
            end: watch::Sender::new(None),
            asked: watch::Sender::default(),
            unwinds: CancellationToken::new(),
            news: Notify::new(),
            weight,
            children: children::Open::default(),
            bounded: AtomicBool::new(false),
        })
    }

    /// Its log, as of now: another after it was taken up again.
    pub(crate) fn log(&self) -> Arc<RunLog> {
        self.log.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has it stop; the first who ends it is the one that is recorded.
    pub(crate) fn stop(&self, why: Why) {
        if matches!(why, Why::Cancelled { .. }) {
            // Whoever was told that it goes on later can be told more by now.
            self.end.send_if_modified(|end| end.take_if(|end| end.state.is_none()).is_some());
        }
        self.asked.send_modify(|asked| {
            let place = match &why {
                Why::Cancelled { .. } => &mut asked.cancelled,
                Why::Paused { .. } => &mut asked.paused,
                Why::Parked => &mut asked.parked,
            };
            place.get_or_insert(why);
        });
    }

    /// Comes when it is to stop, with why.
    async fn stopped(&self, is_cancelling: bool) -> Why {
        let mut asked = self.asked.subscribe();
        let why = asked.wait_for(|asked| asked.why(is_cancelling).is_some()).await;
        why.ok().and_then(|asked| asked.why(is_cancelling).cloned()).unwrap_or(Why::Parked)
    }

    /// Comes when it is cancelled, or parked: whoever pauses it waits until the record answers.
    async fn ended_for_good(&self, is_cancelling: bool) -> Why {
        let for_good =
            |asked: &Asked| asked.why(is_cancelling).filter(|why| !matches!(why, Why::Paused { .. })).cloned();
        let mut asked = self.asked.subscribe();
        let why = asked.wait_for(|asked| for_good(asked).is_some()).await;
        why.ok().and_then(|asked| for_good(&asked)).unwrap_or(Why::Parked)
    }

    /// Comes when it is on disk that it is cancelled, and that what it did is undone first.
    pub(crate) async fn unwinds(&self) {
        self.unwinds.cancelled().await;
    }

    /// Whether it came to where what it does is bounded apart from the host.
    pub(crate) fn is_bounded(&self) -> bool {
        self.bounded.load(Ordering::Relaxed)
    }

    /// Waits until it ended.
    pub(crate) async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        ended.unwrap_or_else(End::broke_off)
    }

    /// Tells those who wait how it ended.
    pub(crate) fn tell(&self, end: End) {
        self.end.send_replace(Some(end));
    }

    /// Whether those who wait were told an end.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }
}

/// What a run is made of when it is taken up from the record.
pub(crate) enum Found {
    /// It can go on.
    Log(Arc<RunLog>),
    /// It is over.
    Over(State, Result<Payload, Failure>),
    /// Another host has it.
    Taken,
    /// It is not there.
    Nothing,
}

/// Which run may be taken over.
#[derive(Debug)]
pub(crate) enum Whose<'a> {
    /// One that is not over, whoever has it: at a host's start, or when a suspended one goes on. What is written next claims it.
    Anyones,
    /// One that this host has, to go on with it. The highest epoch that is this host's own: of a claim that was not
    /// answered it is not known whether it is in the record, and it counts. And how its thread was lost.
    Own(&'a mut Epoch, Kind),
    /// One that is over, to be resumed. What is written next claims it.
    Nobodys,
    /// The same, and something of it is changed first.
    ToBeChanged,
}

/// Drives a run until it is over, parked, or beyond help. `pins` keep its components.
pub(crate) async fn live(inner: Arc<Inner>, place: Place, plan: Option<plan::Shared>, pins: Vec<Pin>) {
    let place = place.driven();
    let live = place.live().clone();
    let span = tracing::info_span!("run", tenant = %live.tenant, run = %live.run);
    let end = drive(&inner, &live, plan).instrument(span).await;
    let is_suspended = end.is_suspended();
    let state = if is_suspended { "suspended" } else { end.state.map_or("parked", State::as_str) };
    metered::RUNS.of([state]).increment(1);
    let is_over = end.state.is_some_and(State::is_over);
    // Of one that waits for people what it began goes on.
    if end.state.is_some_and(State::is_final) {
        children::end_all(&inner, &live).await;
    }
    place.end(end);
    if is_suspended || is_over && makes_others_due(&live) {
        inner.sleepers.notify_one();
    }
    // Not of one whose beginning the record does not have: its event is looked at when the record answers again.
    if is_over && live.log().started().follows.as_ref().is_some_and(|follows| follows.arrived.is_some()) {
        inner.triggered.notify_one();
    }
    drop(pins);
}

/// Whether its end makes others due that are suspended: the run that began it, or the next turn of its session.
fn makes_others_due(live: &Live) -> bool {
    let log = live.log();
    log.started().parent.is_some() || log.started().turn.is_some()
}

async fn drive(inner: &Arc<Inner>, live: &Arc<Live>, mut plan: Option<plan::Shared>) -> End {
    let (mut contention, mut beginnings, mut refused) = (Contention::default(), Beginnings::default(), None);
    loop {
        let log = live.log();
        let went = match (refused.take(), contention.is_too_much()) {
            (Some(failure), _) => fail(&log, failure).await,
            (None, false) => go(inner, live, &log, &mut plan, contention.times, &beginnings).await,
            (None, true) => give_up(&log).await,
        };
        let error = match went {
            Ok(Some(end)) => return end,
            // What it did is undone now.
            Ok(None) => {
                contention = Contention::default();
                continue;
            }
            Err(error) => error,
        };
        if error.kind == Kind::Stale {
            metered::CONFLICTS.increment(1);
            tracing::debug!("what a run decided on was changed by others; it begins again at its last checkpoint");
            contention.met(&log).await;
        } else if matches!(error.kind, Kind::OverQuota | Kind::Displaced) {
            // What it did is more than the tenant may have, or comes too late; that it ends with that is neither.
            refused = Some(broken(&error));
        } else {
            // How long the record does not answer is not the attempt's time.
            beginnings = Beginnings::default();
            tracing::warn!(%error, source = ?error.source, "a run lost its thread; it is taken up again from the record");
        }
        match again(inner, live, log.epoch(), &error).await {
            Ok(log) => {
                *live.log.write().unwrap_or_else(PoisonError::into_inner) = log;
                // Whoever waited was told to ask again; who asks now waits for the real end.
                live.end.send_if_modified(|end| end.take().is_some());
            }
            Err(end) => return end,
        }
    }
}

/// How often, one time after the other, what a run had decided on was changed by others before it became true. Of those who
/// contend at least one comes through each time.
#[derive(Debug, Default)]
struct Contention {
    times: u32,
    /// How far the run had come then.
    progress: u64,
}

impl Contention {
    /// Remembers one, and waits a little, longer each time, so that not all begin again at once.
    async fn met(&mut self, log: &RunLog) {
        let progress = log.read(History::progress);
        if progress > self.progress {
            *self = Self { times: 0, progress };
        }
        self.times += 1;
        let bytes = log.run().0.into_bytes();
        let random = u64::from(bytes[15] ^ bytes[14].rotate_left(self.times)) + 1;
        let longest = 1_u64 << self.times.min(MAX_PAUSE);
        tokio::time::sleep(Duration::from_micros(random * longest * 1_000 / 256)).await;
    }

    fn is_too_much(&self) -> bool {
        self.times > MAX_CONFLICTS
    }
}

async fn give_up(log: &RunLog) -> Result<Option<End>, StoreError> {
    let message = format!(
        "what it decided on was changed by others {MAX_CONFLICTS} times before it could become true: fewer who change the same \
         things at once, or checkpoints closer together, would help"
    );
    fail(log, Failure::new(Code::Conflict, message).retryable()).await
}

/// None: what it did is to be undone.
async fn fail(log: &RunLog, failure: Failure) -> Result<Option<End>, StoreError> {
    let event = log.read(|history| engine::failed(history, failure));
    let goes_on = matches!(event, Event::RunFailing { .. });
    log.append(vec![event], Durability::Barrier).await?;
    Ok((!goes_on).then(|| over(log)))
}

/// What is journaled of a run that somebody ends: what it did is undone first.
pub(crate) fn cancelled(history: &History, by: Option<KeyId>, reason: String) -> Event {
    match history.has_to_undo() {
        true => Event::RunCancelling { by, reason },
        false => Event::RunCancelled { by, reason },
    }
}

/// Whether it is cancelled, and what it did is being undone.
pub(crate) fn is_cancelling(history: &History) -> bool {
    matches!(history.ending(), Some(Ending::Cancelling { .. }))
}

/// How a run ended, as its log has it.
fn over(log: &RunLog) -> End {
    log.read(|history| {
        let none = || Err(Failure::new(Code::Internal, "a run that is over has no result"));
        End::over(history.state(), history.result().unwrap_or_else(none))
    })
}

/// Goes on with a log until the run is over or is stopped. None: it is to be gone on with, for what it did is to be undone.
async fn go(
    inner: &Arc<Inner>,
    live: &Arc<Live>,
    log: &Arc<RunLog>,
    plan: &mut Option<plan::Shared>,
    overtaken: u32,
    beginnings: &Beginnings,
) -> Result<Option<End>, StoreError> {
    log.check().await?;
    let is_cancelling = log.read(is_cancelling);
    if is_cancelling && log.is_on_disk().await {
        live.unwinds.cancel();
    }
    let ready = match plan {
        Some(plan) => Ok(plan.clone()),
        None => Plan::pinned(log.started()).map(Arc::new),
    };
    match ready {
        Err(failure) => return fail(log, failure).await,
        Ok(ready) => {
            let plan = plan.insert(ready).clone();
            let (ports, compute) = (&inner.ports, &inner.compute);
            let (bounded, news, guests) = (&live.bounded, &live.news, &Guests::default());
            let children = &Children::new(inner, live, log);
            let conversation = &Conversation::new(inner, log);
            let engine = Engine {
                ports,
                plan: &plan,
                compute,
                log,
                coordinator: &inner.coordinator,
                overtaken,
                beginnings,
                guests,
                bounded,
                news,
                children,
                conversation,
            };
            let driven = tokio::select! {
                biased;
                driven = engine.drive() => Ok(driven),
                why = live.stopped(is_cancelling) => Err(why),
            };
            // Where all that it did apart is true, and it has only to end, it is too late to end it otherwise.
            let driven = match driven {
                Err(Why::Cancelled { .. }) if plan.has_come_true(log) => Ok(engine.drive().await),
                driven => driven,
            };
            // What is ended half-way does nothing any more once this is over.
            guests.all_left().await;
            match driven {
                Ok(driven) => match driven? {
                    Driven::Over => {}
                    Driven::Suspended => return Ok(Some(End::suspended())),
                },
                // The last append may have been on its way when the run was stopped: then it is over.
                Err(_) if log.read(|history| history.state().is_over()) => log.flush(Durability::Barrier).await?,
                Err(Why::Cancelled { by, reason }) => {
                    let event = log.read(|history| cancelled(history, by, reason));
                    let goes_on = matches!(event, Event::RunCancelling { .. });
                    log.append(vec![event], Durability::Barrier).await?;
                    if goes_on {
                        children.end(&StepPath::root());
                        return Ok(None);
                    }
                }
                Err(Why::Paused { by }) => {
                    let event = Event::RunPaused { by: Some(by), failure: None };
                    log.append(vec![event], Durability::Barrier).await?;
                }
                Err(Why::Parked) => {
                    log.flush(Durability::Barrier).await?;
                    return Ok(Some(parked("the host stops; the run goes on when it is started again")));
                }
            }
        }
    }
    Ok(Some(over(log)))
}

fn parked(why: &str) -> End {
    End::left(Failure::new(Code::Unavailable, why).retryable())
}

/// Takes the run up again, as soon as the record answers, unless another host has it by now. The error: how it ends
/// instead. `own`: the epoch under which this host had it.
async fn again(inner: &Inner, live: &Live, mut own: Epoch, lost: &StoreError) -> Result<Arc<RunLog>, End> {
    let is_cancelling = live.unwinds.is_cancelled();
    loop {
        match take_over(inner, &live.tenant, live.run, Whose::Own(&mut own, lost.kind)).await {
            Ok(Found::Log(log)) => return Ok(log),
            // Two hosts that took a run from each other again and again would never get on with it.
            Ok(Found::Taken) => {
                tracing::info!("another host has taken the run");
                return Err(End::none_of_ours(broken(&StoreError::new(Kind::Fenced, "run.take-over"))));
            }
            Ok(Found::Over(state, result)) => return Err(End::over(state, result)),
            Ok(Found::Nothing) if lost.kind == Kind::Stale => return Ok(Arc::new(live.log().anew())),
            // Nothing of it was ever recorded, so nothing of it happened.
            Ok(Found::Nothing) => return Err(End::none_of_ours(broken(lost))),
            Err(error) if error.kind == Kind::Corrupt => return Err(End::left(broken(&error))),
            Err(error) => {
                tracing::warn!(%error, "a run cannot be taken up again yet");
                // Nobody is kept waiting for a record that does not answer.
                let end = match error.kind {
                    Kind::Full => End::left(broken(&error)),
                    _ => parked("the record does not answer; the run goes on when it does"),
                };
                live.tell(end.clone());
                tokio::select! {
                    () = tokio::time::sleep(PATIENCE) => {}
                    why = live.ended_for_good(is_cancelling) => return match why {
                        Why::Cancelled { by, reason } => {
                            end_lost(inner, live, &mut own, by, reason).await.unwrap_or(Err(end))
                        }
                        Why::Paused { .. } | Why::Parked => Err(end),
                    },
                }
            }
        }
    }
}

/// Ends a run whose thread is lost, as somebody asked: that it ends may be written where what it does may not. A log: what it did
/// is to be undone. None: it goes on later.
async fn end_lost(
    inner: &Inner,
    live: &Live,
    own: &mut Epoch,
    by: Option<KeyId>,
    reason: String,
) -> Option<Result<Arc<RunLog>, End>> {
    // Claimed with its end, for nothing else may be written.
    let found = take_over(inner, &live.tenant, live.run, Whose::Own(own, Kind::Stale)).await.ok()?;
    let log = match found {
        Found::Log(log) => log,
        Found::Over(state, result) => return Some(Err(End::over(state, result))),
        Found::Taken | Found::Nothing => return None,
    };
    let event = log.read(|history| cancelled(history, by, reason));
    let goes_on = matches!(event, Event::RunCancelling { .. });
    log.append(vec![event], Durability::Barrier).await.ok()?;
    Some(if goes_on { Ok(log) } else { Err(over(&log)) })
}

/// Takes a run over from the record: reads it, and stages a higher epoch. One that is this host's own is claimed at once; any
/// other once its log is written, for which a place is to be taken first.
pub(crate) async fn take_over(
    inner: &Inner,
    tenant: &TenantId,
    run: RunId,
    whose: Whose<'_>,
) -> Result<Found, StoreError> {
    let read = &inner.ports.read;
    let Some(row) = read.run(tenant, run).await? else { return Ok(Found::Nothing) };
    let history = match whose {
        Whose::ToBeChanged => take_up::to_be_changed(read.as_ref(), tenant, run, lineage::TO_THE_END).await?,
        _ => take_up::history(read.as_ref(), tenant, run, lineage::TO_THE_END).await?,
    };
    let to_be_resumed = matches!(whose, Whose::Nobodys | Whose::ToBeChanged);
    if let (Some(result), false) = (history.result(), to_be_resumed) {
        return Ok(Found::Over(history.state(), result));
    }
    let claim_now = match whose {
        Whose::Own(own, _) if row.epoch > *own => return Ok(Found::Taken),
        Whose::Own(own, lost) => {
            *own = (*own).max(row.epoch.next());
            // Nobody else has it, and the record answers: it is claimed with what is written next.
            !matches!(lost, Kind::Stale | Kind::OverQuota | Kind::Displaced)
        }
        Whose::Anyones | Whose::Nobodys | Whose::ToBeChanged => false,
    };
    let corrupt = || StoreError::new(Kind::Corrupt, "run.take-over").because("the run's journal lacks its beginning");
    let log = RunLog::claim(inner.log_ports(), row, history).ok_or_else(corrupt)?;
    if claim_now {
        log.flush(Durability::Barrier).await?;
    }
    Ok(Found::Log(Arc::new(log)))
}
