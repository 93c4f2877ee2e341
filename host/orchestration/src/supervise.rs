//! A run's life in this process: driven, cancelled, parked; taken up again from the record where its thread was lost.
//!
//! Invariants: whoever waits for a run is always answered, also when its task breaks. What this host could not finish stays in
//! the record as it is, for the next start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ltmc_crossing::broken;
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

use crate::engine::{Beginnings, Driven, Engine};
use crate::guests::Guests;
use crate::lineage;
use crate::metered;
use crate::plan::{self, Plan};
use crate::registry::Place;
use crate::runs::Inner;

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
    stop: CancellationToken,
    /// Told when others brought something into its log.
    pub(crate) news: Notify,
    why: Mutex<Option<Why>>,
    pub(crate) weight: u64,
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
    /// The host stops: the next one goes on with it.
    Parked,
}

impl Live {
    pub(crate) fn new(log: Arc<RunLog>, weight: u64) -> Arc<Self> {
        Arc::new(Self {
            tenant: log.tenant().clone(),
            run: log.run(),
            by: log.started().by.clone(),
            log: RwLock::new(log),
            end: watch::Sender::new(None),
            stop: CancellationToken::new(),
            news: Notify::new(),
            why: Mutex::default(),
            weight,
            bounded: AtomicBool::new(false),
        })
    }

    /// Its log, as of now: another after it was taken up again.
    pub(crate) fn log(&self) -> Arc<RunLog> {
        self.log.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it; the first who does so is the one that is recorded.
    pub(crate) fn stop(&self, why: Why) {
        if matches!(why, Why::Cancelled { .. }) {
            // Whoever was told that it goes on later can be told more by now.
            self.end.send_if_modified(|end| end.take_if(|end| end.state.is_none()).is_some());
        }
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.stop.cancel();
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
    place.end(end);
    if is_suspended {
        inner.sleepers.notify_one();
    }
    drop(pins);
}

async fn drive(inner: &Arc<Inner>, live: &Live, mut plan: Option<plan::Shared>) -> End {
    let (mut contention, mut beginnings, mut refused) = (Contention::default(), Beginnings::default(), None);
    loop {
        let log = live.log();
        let went = match (refused.take(), contention.is_too_much()) {
            (Some(failure), _) => fail(&log, failure).await,
            (None, false) => go(inner, live, &log, &mut plan, contention.times, &beginnings).await,
            (None, true) => give_up(&log).await,
        };
        let error = match went {
            Ok(end) => return end,
            Err(error) => error,
        };
        if error.kind == Kind::Stale {
            metered::CONFLICTS.increment(1);
            tracing::debug!("what a run decided on was changed by others; it begins again at its last checkpoint");
            contention.met(&log).await;
        } else if error.kind == Kind::OverQuota {
            // What it did is more than the tenant may have; that it ends with that is not.
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

async fn give_up(log: &RunLog) -> Result<End, StoreError> {
    let message = format!(
        "what it decided on was changed by others {MAX_CONFLICTS} times before it could become true: fewer who change the same \
         things at once, or checkpoints closer together, would help"
    );
    fail(log, Failure::new(Code::Conflict, message).retryable()).await
}

async fn fail(log: &RunLog, failure: Failure) -> Result<End, StoreError> {
    log.append(vec![Event::RunFailed { failure: failure.clone() }], Durability::Barrier).await?;
    Ok(End::over(State::Failed, Err(failure)))
}

/// Goes on with a log until the run is over or is stopped.
async fn go(
    inner: &Inner,
    live: &Live,
    log: &Arc<RunLog>,
    plan: &mut Option<plan::Shared>,
    overtaken: u32,
    beginnings: &Beginnings,
) -> Result<End, StoreError> {
    log.check().await?;
    let ready = match plan {
        Some(plan) => Ok(plan.clone()),
        None => Plan::pinned(log.started()).map(Arc::new),
    };
    match ready {
        Err(failure) => log.append(vec![Event::RunFailed { failure }], Durability::Barrier).await?,
        Ok(ready) => {
            let plan = plan.insert(ready).clone();
            let (ports, compute, judges) = (&inner.ports, &inner.compute, &inner.judges);
            let (bounded, news, guests) = (&live.bounded, &live.news, &Guests::default());
            let engine = Engine {
                ports,
                plan: &plan,
                compute,
                judges,
                log,
                coordinator: &inner.coordinator,
                overtaken,
                beginnings,
                guests,
                bounded,
                news,
            };
            let driven = tokio::select! {
                biased;
                driven = engine.drive() => Some(driven),
                () = live.stop.cancelled() => None,
            };
            // What is ended half-way does nothing any more once this is over.
            guests.left(&StepPath::root()).await;
            let stopped = match driven.transpose()? {
                Some(Driven::Over) => None,
                Some(Driven::Suspended) => return Ok(End::suspended()),
                None => {
                    let why = live.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    Some(why.unwrap_or(Why::Parked))
                }
            };
            match stopped {
                // The last append may have been on its way when the run was stopped: then it is over.
                Some(_) if log.read(|history| history.state().is_over()) => log.flush(Durability::Barrier).await?,
                Some(Why::Cancelled { by, reason }) => {
                    let event = Event::RunCancelled { by, reason };
                    log.append(vec![event], Durability::Barrier).await?;
                }
                Some(Why::Parked) => {
                    log.flush(Durability::Barrier).await?;
                    return Ok(parked("the host stops; the run goes on when it is started again"));
                }
                None => {}
            }
        }
    }
    Ok(log.read(|history| {
        let none = || Err(Failure::new(Code::Internal, "a run that is over has no result"));
        End::over(history.state(), history.result().unwrap_or_else(none))
    }))
}

fn parked(why: &str) -> End {
    End::left(Failure::new(Code::Unavailable, why).retryable())
}

/// Takes the run up again, as soon as the record answers, unless another host has it by now. The error: how it ends
/// instead. `own`: the epoch under which this host had it.
async fn again(inner: &Inner, live: &Live, mut own: Epoch, lost: &StoreError) -> Result<Arc<RunLog>, End> {
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
                    () = live.stop.cancelled() => return Err(cancelled(inner, live, &mut own).await.unwrap_or(end)),
                }
            }
        }
    }
}

/// Ends a run whose thread is lost, where somebody asked for that: that it ends may be written where what it does may not. None:
/// it goes on later.
async fn cancelled(inner: &Inner, live: &Live, own: &mut Epoch) -> Option<End> {
    let why = live.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(Why::Cancelled { by, reason }) = why else { return None };
    // Claimed with its end, for nothing else may be written.
    let found = take_over(inner, &live.tenant, live.run, Whose::Own(own, Kind::Stale)).await.ok()?;
    let log = match found {
        Found::Log(log) => log,
        Found::Over(state, result) => return Some(End::over(state, result)),
        Found::Taken | Found::Nothing => return None,
    };
    log.append(vec![Event::RunCancelled { by, reason }], Durability::Barrier).await.ok()?;
    log.read(|history| history.result().map(|result| End::over(history.state(), result)))
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
    let history = lineage::fold(read.as_ref(), tenant, run, lineage::TO_THE_END, History::for_replay()).await?;
    let to_be_resumed = matches!(whose, Whose::Nobodys);
    if let (Some(result), false) = (history.result(), to_be_resumed) {
        return Ok(Found::Over(history.state(), result));
    }
    let claim_now = match whose {
        Whose::Own(own, _) if row.epoch > *own => return Ok(Found::Taken),
        Whose::Own(own, lost) => {
            *own = (*own).max(row.epoch.next());
            // Nobody else has it, and the record answers: it is claimed with what is written next.
            !matches!(lost, Kind::Stale | Kind::OverQuota)
        }
        Whose::Anyones | Whose::Nobodys => false,
    };
    let corrupt = || StoreError::new(Kind::Corrupt, "run.take-over").because("the run's journal lacks its beginning");
    let log = RunLog::claim(inner.log_ports(), row, history).ok_or_else(corrupt)?;
    if claim_now {
        log.flush(Durability::Barrier).await?;
    }
    Ok(Found::Log(Arc::new(log)))
}
