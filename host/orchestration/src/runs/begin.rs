//! How runs begin: called, started, or a turn of a session.
//!
//! Invariant: a run has its place among those alive before anything of it is written, and from then on is on a task of the host's: its
//! client may go away at any moment. Of two requests with the same idempotency key, or by the same tick, one only does it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ltmc_journal::RunLog;
use ltmc_model::caller::{Caller, Role};
use ltmc_model::journal::{Event, Follows, RunStarted, Semantics};
use ltmc_model::message::Trail;
use ltmc_model::run::{Target, is_traceparent};
use ltmc_model::schedule::Scheduled;
use ltmc_model::session::Place as Turn;
use ltmc_model::trigger::Arrived;
use ltmc_model::{AgentName, Digest, Payload, Position, RunId, SessionId, Timestamp};
use ltmc_policy::Action;
use ltmc_ports::journal::IdempotencyKey;
use ltmc_ports::schedules::ScheduledStart;
use ltmc_ports::triggers::TriggeredStart;
use ltmc_ports::{Durability, Kind, StoreError};
use ltmc_tenancy::Error;

use super::enter::Entered;
use super::ready::Made;
use super::tied::Tied;
use super::{CallRequest, IDEMPOTENCY, Runs, StartRequest, Started, Triggering, TurnRequest};
use crate::plan::{self, Plan};

/// What a run is begun with.
struct Begin {
    target: Target,
    agents: BTreeMap<AgentName, Digest>,
    document: Option<(Arc<str>, Digest)>,
    plan: plan::Shared,
    input: Payload,
    session: Option<SessionId>,
    /// Whether it ends with its client.
    tied: bool,
    idempotency: Option<(String, Digest)>,
    traceparent: Option<String>,
    /// The schedule that starts it.
    scheduled: Option<ScheduledStart>,
    /// The event that starts it, whether that came before, and what the run follows from.
    triggered: Option<(TriggeredStart, bool, Trail)>,
    /// Which turn of its session it is.
    turn: Option<Turn>,
    /// From where on it may wait for events.
    position: Option<Position>,
}

impl Runs {
    /// Calls an agent: a run of one step.
    ///
    /// # Errors
    /// Where the agent is not there, the host is busy, or the idempotency key was used for another request.
    pub async fn call(&self, caller: &Caller, request: CallRequest) -> Result<Started, Error> {
        let inner = &self.inner;
        inner.ports.authority.authorize(caller, Action::Run).await?;
        let found = inner.ports.authority.agent(&caller.tenant, &request.agent).await?;
        let agent = found.ok_or_else(|| Error::not_found(format!("agent `{}`", request.agent)))?;
        let plan = Plan::call(&request.agent).map_err(|f| Error::Internal { message: f.to_string() })?;
        let begin = Begin {
            target: Target::Agent(request.agent),
            agents: BTreeMap::from([(agent.name.clone(), agent.digest)]),
            document: None,
            plan: Arc::new(plan),
            input: request.input,
            session: request.session,
            tied: request.cancel_on_disconnect && request.idempotency.is_none(),
            idempotency: request.idempotency.map(|key| (key, request.request_digest)),
            traceparent: request.traceparent,
            scheduled: None,
            triggered: None,
            turn: None,
            position: None,
        };
        self.begin(caller, begin).await
    }

    /// Starts a run of a workflow.
    ///
    /// # Errors
    /// Where the workflow or an agent of it is not there, the host is busy, or the idempotency key was used for another
    /// request.
    pub async fn start(&self, caller: &Caller, request: StartRequest) -> Result<Started, Error> {
        let (ready, agents) = self.ready_for(caller, &request.workflow).await?;
        let begin = Begin {
            target: Target::Workflow(request.workflow),
            agents,
            document: Some((ready.json.clone(), ready.digest)),
            plan: ready.plan.clone(),
            input: request.input,
            session: request.session,
            tied: false,
            idempotency: request.idempotency.map(|key| (key, request.request_digest)),
            traceparent: request.traceparent,
            scheduled: None,
            triggered: None,
            turn: None,
            position: self.position(&ready),
        };
        self.begin(caller, begin).await
    }

    /// Starts a run of a workflow by a schedule of its document, or finds the one that was with this idempotency key. It is recorded when
    /// this returns, unless the record does not say.
    ///
    /// # Errors
    /// As [`Self::start`]; a conflict of the record's where the schedule does not allow it any more.
    pub(crate) async fn start_scheduled(
        &self,
        caller: &Caller,
        start: ScheduledStart,
        idempotency: Option<(String, Digest)>,
    ) -> Result<Started, Error> {
        let (ready, agents) = self.ready_for(caller, &start.id.workflow).await?;
        let schedule = ready
            .schedules
            .get((start.id.number as usize).saturating_sub(1))
            .filter(|found| found.digest == start.digest);
        let input = schedule.ok_or_else(|| Error::not_found(format!("schedule `{}`", start.id)))?.input.clone();
        let position = self.position(&ready);
        let begin = Begin {
            target: Target::Workflow(start.id.workflow.clone()),
            agents,
            document: Some((ready.json.clone(), ready.digest)),
            plan: ready.plan.clone(),
            input,
            session: None,
            tied: false,
            idempotency,
            traceparent: None,
            scheduled: Some(start),
            triggered: None,
            turn: None,
            position,
        };
        self.begin(caller, begin).await
    }

    /// Starts a run by an event that a subscription took in. It is recorded when this returns, unless the record does not say.
    ///
    /// # Errors
    /// As [`Self::start`] and [`Self::call`]; a conflict of the record's where the subscription does not allow it any more.
    pub(crate) async fn start_triggered(
        &self,
        caller: &Caller,
        target: &Target,
        start: TriggeredStart,
        triggering: Triggering,
    ) -> Result<Started, Error> {
        let Triggering { mut input, trail, traceparent, is_replay } = triggering;
        let Made { agents, document, plan, position } = self.made(caller, target, false).await?;
        if is_replay {
            input["replay"] = true.into();
        }
        let begin = Begin {
            target: target.clone(),
            agents,
            document,
            plan,
            input: Payload::json(&input),
            session: None,
            tied: false,
            idempotency: None,
            traceparent: traceparent.filter(|text| is_traceparent(text.as_bytes())),
            scheduled: None,
            triggered: trail.map(|trail| (start, is_replay, trail)),
            turn: None,
            position,
        };
        self.begin(caller, begin).await
    }

    /// Begins a turn of a session, or has it wait. It is recorded when this returns, unless the record does not say.
    ///
    /// # Errors
    /// As [`Self::start`] and [`Self::call`]; a conflict of the record's where the session has another place for it by now, or none.
    pub(crate) async fn take_turn(
        &self,
        caller: &Caller,
        with: &Target,
        is_apart: bool,
        turn: TurnRequest,
    ) -> Result<Started, Error> {
        let Made { agents, document, plan, position } = self.made(caller, with, is_apart).await?;
        let begin = Begin {
            target: with.clone(),
            agents,
            document,
            plan,
            input: turn.input,
            session: Some(turn.session),
            tied: false,
            idempotency: turn.idempotency.map(|key| (key, turn.request_digest)),
            traceparent: turn.traceparent,
            scheduled: None,
            triggered: None,
            turn: Some(turn.place),
            position,
        };
        self.begin(caller, begin).await
    }

    async fn begin(&self, caller: &Caller, begin: Begin) -> Result<Started, Error> {
        let inner = &self.inner;
        if inner.registry.is_stopping() {
            return Err(Error::Busy { message: "the host is stopping".into(), retry_after: Duration::from_secs(5) });
        }
        let now = inner.ports.clock.now();
        let idempotency = begin.idempotency.map(|(key, request)| (format!("{}/{key}", caller.key), request));
        if let Some((key, request)) = &idempotency
            && let Some(found) = inner.ports.read.idempotent(&caller.tenant, key, now).await?
        {
            return self.attach(caller, found, request);
        }
        let (run, seed) = inner.drawn(now);
        let session = match begin.session {
            Some(session) if begin.turn.is_some() => session,
            Some(session) => self.own_session(caller, session).await?,
            None => run.to_string().parse().map_err(|e| Error::Internal { message: format!("{e}") })?,
        };
        let (document, document_digest) = begin.document.unzip();
        let started = RunStarted {
            target: begin.target,
            agents: begin.agents,
            document,
            document_digest,
            input: begin.input,
            session,
            by: caller.key.clone(),
            seed,
            traceparent: begin.traceparent,
            position: begin.position,
            forked: None,
            parent: None,
            scheduled: begin.scheduled.as_ref().map(|start| Scheduled {
                number: start.id.number,
                tick: start.tick,
                asked_for: start.due.is_none(),
            }),
            follows: match &begin.triggered {
                Some((start, replay, trail)) => {
                    let arrived = Arrived { subscription: start.id.clone(), position: start.position, replay: *replay };
                    Some(Box::new(Follows { trail: trail.clone(), arrived: Some(arrived) }))
                }
                None => Follows::passed_on(caller.cause.as_ref().and_then(|cause| cause.trail.clone())),
            },
            turn: begin.turn,
            semantics: Semantics::CURRENT,
        };
        let kept = idempotency.as_ref().map(|(key, request)| IdempotencyKey {
            key: key.clone(),
            request: *request,
            run,
            expires_at: now.after(IDEMPOTENCY),
        });
        let is_to_be_first =
            kept.is_some() || begin.scheduled.is_some() || begin.triggered.is_some() || begin.turn.is_some();
        let log =
            RunLog::fresh(inner.log_ports(), caller.tenant.clone(), run, started, kept).scheduled(begin.scheduled);
        let log = log.triggered(begin.triggered.map(|(start, ..)| start));
        if begin.turn.is_some_and(|turn| turn.waits) {
            return self.begin_later(caller, log, idempotency).await;
        }
        let entered = self.enter_as(log, begin.plan).await?;
        let live = entered.place.live().clone();
        if !is_to_be_first {
            // Nothing is to be written first: the run itself is what survives its client.
            let tied = match begin.tied {
                true => Some(Tied::new(live.clone(), entered.driven(inner))),
                false => {
                    entered.set_out(inner);
                    None
                }
            };
            return Ok(Started { run, attached: false, live: Some(live), tied });
        }
        self.begin_recorded(caller, entered, idempotency).await
    }

    /// Sets out with a run once its beginning is in the record, so that of two requests with the same key, or by the same tick, one only
    /// does it.
    async fn begin_recorded(
        &self,
        caller: &Caller,
        entered: Entered,
        idempotency: Option<(String, Digest)>,
    ) -> Result<Started, Error> {
        let (runs, by, live) = (self.clone(), caller.clone(), entered.place.live().clone());
        let work = async move {
            // In doubt, the run's task looks into the record: it goes on with what is there, or says that there is nothing.
            if let Err(error) = live.log().flush(Durability::Lazy).await
                && error.kind != Kind::Unavailable
            {
                drop(entered);
                return runs.begun_by_another(&by, idempotency, error).await;
            }
            entered.set_out(&runs.inner);
            Ok(Started::begun(live.run, live))
        };
        self.inner.ports.authority.tasks().own(&caller.tenant, work).await
    }

    /// Records a turn that waits for others: a row, and nothing in memory.
    async fn begin_later(
        &self,
        caller: &Caller,
        log: RunLog,
        idempotency: Option<(String, Digest)>,
    ) -> Result<Started, Error> {
        let (runs, by) = (self.clone(), caller.clone());
        let work = async move {
            // The end of the turn before makes it due.
            log.stage(Event::RunSuspended { until: Timestamp::NEVER, heard: None });
            match log.flush(Durability::Barrier).await {
                Ok(()) => Ok(Started { run: log.run(), attached: false, live: None, tied: None }),
                Err(error) => runs.begun_by_another(&by, idempotency, error).await,
            }
        };
        self.inner.ports.authority.tasks().own(&caller.tenant, work).await
    }

    /// The run that another request with the same idempotency key began, where that is why this one could not be.
    async fn begun_by_another(
        &self,
        caller: &Caller,
        idempotency: Option<(String, Digest)>,
        error: StoreError,
    ) -> Result<Started, Error> {
        let Some((key, request)) = idempotency.filter(|_| error.kind == Kind::Conflict) else {
            return Err(error.into());
        };
        let now = self.inner.ports.clock.now();
        match self.inner.ports.read.idempotent(&caller.tenant, &key, now).await? {
            Some(found) => self.attach(caller, found, &request),
            None => Err(error.into()),
        }
    }

    pub(crate) fn attach(&self, caller: &Caller, found: IdempotencyKey, request: &Digest) -> Result<Started, Error> {
        if found.request != *request {
            let message = format!(
                "the idempotency key was used within 24 hours for another request, which started run {}: use a new key",
                found.run
            );
            return Err(Error::Conflict { code: "idempotency-key-reused", message });
        }
        let live = self.live(&caller.tenant, found.run);
        Ok(Started { run: found.run, attached: true, live, tied: None })
    }

    /// The run that an earlier request with this idempotency key began; none: there was no such request.
    ///
    /// # Errors
    /// Where that was another request.
    pub(crate) async fn said_before(
        &self,
        caller: &Caller,
        key: Option<&String>,
        request: &Digest,
    ) -> Result<Option<Started>, Error> {
        let Some(key) = key else { return Ok(None) };
        let (key, now) = (format!("{}/{key}", caller.key), self.inner.ports.clock.now());
        let found = self.inner.ports.read.idempotent(&caller.tenant, &key, now).await?;
        found.map(|found| self.attach(caller, found, request)).transpose()
    }

    /// The session that a caller means by a name. Keys of the role `caller` have each their own: what one keeps in a session
    /// another is not to read by its agents. That of a run of its own it may go on with by the run's id.
    async fn own_session(&self, caller: &Caller, session: SessionId) -> Result<SessionId, Error> {
        if let Ok(run) = session.as_str().parse::<RunId>() {
            let row = self.inner.ports.read.run(&caller.tenant, run).await?;
            if row.is_some_and(|row| row.by == caller.key) {
                return Ok(session);
            }
        }
        let session = named_by(caller, session)?;
        if self.inner.ports.sessions.session(&caller.tenant, &session).await?.is_some() {
            let message = format!(
                "session {session} was opened, and one turn at a time works in it: say it there (`ltmc session say {session}`, or POST \
                 /v1/sessions/{session}/turns)"
            );
            return Err(Error::Conflict { code: "conflict", message });
        }
        Ok(session)
    }
}

/// A session by the name that a caller has for it; with its key before it, where it is one of its own alone.
pub(super) fn named_by(caller: &Caller, session: SessionId) -> Result<SessionId, Error> {
    let own = format!("{}:", caller.key);
    if caller.role != Role::Caller || session.as_str().starts_with(&own) {
        return Ok(session);
    }
    format!("{own}{session}").parse().map_err(|_| {
        let most = 128 - own.len();
        Error::invalid(
            "bad-header",
            "Ltmc-Session",
            format!("the name of a session of this key has at most {most} bytes"),
        )
    })
}

/// Why a run could not be begun, for the tenant's people.
pub(crate) fn why_not_begun(error: &Error) -> String {
    match error {
        Error::Store(error) => match error.kind {
            Kind::OverQuota => "the tenant has all that it may have on disk".to_owned(),
            Kind::Full => "the host's disk is full".to_owned(),
            _ => "the record does not answer".to_owned(),
        },
        Error::Internal { .. } => "a fault of the host's own, which its log has".to_owned(),
        error => error.to_string(),
    }
}
