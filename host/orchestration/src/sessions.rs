//! Sessions: opened, spoken to, looked at, closed. What is to be done about them as time goes by: `attend`.
//!
//! Invariants: a use case asks policy first. A message that is acknowledged is on disk, as its turn's run, also while it waits; the record says
//! which place it has, and refuses whoever comes second to it. Of a key of the role `caller` there are the sessions that it opened or takes part in,
//! and no others.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::caller::{Caller, Role};
use ltmc_model::failure::Failure;
use ltmc_model::hand_off::{Guards, HandedOff, Holder, Refused, check_reason};
use ltmc_model::journal::Change;
use ltmc_model::run::{State, Target};
use ltmc_model::session::{IfBusy, MAX_PARTICIPANTS, Part, Session, Settings, Stage, Standing, Turn};
use ltmc_model::workflow::{Document, Does, HandOff};
use ltmc_model::{AgentName, Digest, KeyId, Payload, RunId, SessionId, StepPath, TenantId, Timestamp};
use ltmc_policy::Action;
use ltmc_ports::sessions::SessionFilter;
use ltmc_ports::{Changes, Expect, Kind, ReadSessions, StoreError};
use ltmc_tenancy::{Authority, Error, Read};

use crate::rounds::{LONGEST, News};
use crate::runs::{Runs, Started, TurnRequest};
use crate::stop::Cancelled;

/// How often a message looks for its place anew, where others were faster.
const TRIES: u32 = 64;

/// The use cases, and what attends to sessions as time goes by ([`Sessions::attend`]).
pub struct Sessions {
    pub(crate) read: Arc<dyn ReadSessions>,
    pub(crate) runs: Runs,
    /// Told when something may be due sooner than was thought.
    pub(crate) news: News,
}

/// A message to a session.
#[derive(Debug, Clone)]
pub struct SayRequest {
    /// What is said.
    pub input: Payload,
    /// The client's idempotency key.
    pub idempotency: Option<String>,
    /// What makes two requests the same; looked at only with an idempotency key.
    pub request_digest: Digest,
    /// The client's W3C trace context.
    pub traceparent: Option<String>,
}

/// A message that became a turn.
#[derive(Debug)]
pub struct Said {
    /// Its number in the session.
    pub number: u32,
    /// Whether it waits for others.
    pub waits: bool,
    /// The run that makes the turn.
    pub started: Started,
}

/// A turn with what was said, and how it went.
#[derive(Debug, Clone)]
pub struct TurnView {
    /// The turn.
    pub turn: Turn,
    /// When it was said.
    pub at: Timestamp,
    /// What was said.
    pub input: Payload,
    /// Where its run stands.
    pub state: State,
    /// How it went; none: it is not over.
    pub result: Option<Result<Payload, Failure>>,
    /// How its conversation was handed on, in order.
    pub hand_offs: Vec<HandedOff>,
    /// The agent that had it first, where one agent did.
    pub first: Option<AgentName>,
}

/// What becomes of the turns of a session that is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// They come to their end.
    Drain,
    /// They are ended.
    Cancel,
}

impl Sessions {
    /// Over these ports.
    pub fn new(read: Arc<dyn ReadSessions>, runs: Runs) -> Self {
        Self { read, runs, news: News::default() }
    }

    /// Opens one. The same `request` of a key is the same session, once.
    ///
    /// # Errors
    /// Where who is to answer is not there, or a turn of it would be refused.
    pub async fn open(
        self: &Arc<Self>,
        caller: &Caller,
        settings: Settings,
        request: Option<Digest>,
    ) -> Result<Session, Error> {
        let (sessions, by) = (self.clone(), caller.clone());
        let work = async move {
            let id = sessions.named(&by, request.as_ref())?;
            if let Some(found) = sessions.read.session(&by.tenant, &id).await? {
                return Ok(found);
            }
            sessions.runs.is_there(&by, &settings.with, settings.if_busy == IfBusy::Rollback).await?;
            if let Some(summary) = &settings.summary {
                sessions.runs.is_there(&by, &Target::Agent(summary.clone()), false).await?;
            }
            for key in settings.participants.keys() {
                sessions.check_participant(&by, key).await?;
            }
            let change = Change::SessionOpened { id: id.clone(), settings: Box::new(settings), fork: None };
            let expects = vec![Expect::NoSession { session: id.clone() }];
            let changes = Changes { deltas: Vec::new(), expects };
            match sessions.authority().act_with(&by.tenant, Some(&by.key), change, changes).await {
                // The same request was faster.
                Err(error) if error.kind == Kind::Stale => return sessions.one(&by.tenant, &id).await,
                done => done?,
            }
            sessions.news.tell(&by.tenant);
            sessions.one(&by.tenant, &id).await
        };
        self.authority().perform(caller, Action::Run, work).await
    }

    /// Whether a key can take part: it is one of the tenant's, is good, and of the role `caller`, for which it makes a difference.
    async fn check_participant(&self, caller: &Caller, key: &KeyId) -> Result<(), Error> {
        let wrong =
            |why: &str| Error::invalid("invalid", "participants", format!("key `{key}` cannot take part: {why}"));
        let found = self.authority().key(key).await?.filter(|found| found.tenant == caller.tenant);
        let Some(found) = found else { return Err(wrong("there is no such key")) };
        if found.revoked_at.is_some() || found.expires_at.is_some_and(|at| at <= self.now()) {
            return Err(wrong("it was taken back, or has expired"));
        }
        match found.role {
            Role::Caller => Ok(()),
            _ => Err(wrong(
                "it is not of the role `caller`; keys of other roles take part as far as their role lets them",
            )),
        }
    }

    /// Has a key take part in one, or take part no more.
    ///
    /// # Errors
    /// Where it is not there, the caller may not change it, or the key cannot take part, or does not.
    pub async fn set_part(
        self: &Arc<Self>,
        caller: &Caller,
        id: &SessionId,
        key: KeyId,
        part: Option<Part>,
    ) -> Result<Session, Error> {
        let (sessions, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            let session = sessions.seen(&by, &id).await?;
            if by.role == Role::Caller && session.by != by.key {
                let why = "only who opened a session, and keys of the roles author and admin, say who takes part";
                return Err(Error::Denied { why: why.into() });
            }
            match part {
                Some(_) if key == session.by => {
                    let why = format!("key `{key}` opened it, and takes part by that");
                    return Err(Error::invalid("invalid", "key", why));
                }
                Some(_) => sessions.check_participant(&by, &key).await?,
                None if !session.settings.participants.contains_key(&key) => {
                    return Err(Error::not_found(format!("participant `{key}` of session `{id}`")));
                }
                None => {}
            }
            if !session.has_room_for(&key) {
                let why = format!("a session has at most {MAX_PARTICIPANTS} participants");
                return Err(Error::Conflict { code: "conflict", message: why });
            }
            let expects = part.map(|_| Expect::RoomInSession { session: id.clone(), key: key.clone() });
            let change = Change::SessionPart { session: id.clone(), key, part };
            let changes = Changes { deltas: Vec::new(), expects: expects.into_iter().collect() };
            let done = sessions.authority().act_with(&by.tenant, Some(&by.key), change, changes).await;
            done.map_err(|error| changed_meanwhile(error, &id))?;
            sessions.one(&by.tenant, &id).await
        };
        self.authority().perform(caller, Action::Run, work).await
    }

    /// Says something in one: a turn, which begins, or waits, or ends those before it, as the session's settings say.
    ///
    /// # Errors
    /// Where it is not there or takes no turns, is busy and refuses, or has as many waiting as it may; as a workflow's run.
    pub async fn say(self: &Arc<Self>, caller: &Caller, id: &SessionId, request: SayRequest) -> Result<Said, Error> {
        let (sessions, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move { sessions.take_turn(&by, &id, request).await };
        self.authority().perform(caller, Action::Run, work).await
    }

    /// Has a message become a turn, and done what follows from that: those that it interrupts are ended, and it is looked in time for
    /// one that takes too long.
    async fn take_turn(&self, caller: &Caller, id: &SessionId, request: SayRequest) -> Result<Said, Error> {
        for _ in 0..TRIES {
            let session = self.seen(caller, id).await?;
            if caller.role == Role::Caller && session.part_of(&caller.key) != Some(Part::Contributor) {
                return Err(Error::Denied { why: format!("in session {id} this key only reads") });
            }
            let key = request.idempotency.as_ref();
            let waiting = match session.is_idle() {
                true => 0,
                false => self.read.waiting_turns(&caller.tenant, id, &caller.key).await?,
            };
            let place = match session.next_place(self.now(), waiting) {
                Some(place) => place,
                // What was said before with this key is found again, whatever has become of the session.
                None => match self.runs.said_before(caller, key, &request.request_digest).await? {
                    Some(started) => return self.found_again(caller, &session, started).await,
                    None => return Err(self.refused(&session, waiting)),
                },
            };
            let turn = TurnRequest {
                session: id.clone(),
                place,
                input: request.input.clone(),
                idempotency: request.idempotency.clone(),
                request_digest: request.request_digest,
                traceparent: request.traceparent.clone(),
            };
            match self
                .runs
                .take_turn(caller, &session.settings.with, session.settings.if_busy == IfBusy::Rollback, turn)
                .await
            {
                Ok(started) if started.attached => return self.found_again(caller, &session, started).await,
                Ok(started) => {
                    if place.interrupts {
                        self.end_interrupted(&caller.tenant, id).await;
                    }
                    // It is looked again soon enough for turns that may take longer.
                    if place.interrupts || Duration::from_millis(session.settings.turn) < LONGEST {
                        self.news.tell(&caller.tenant);
                    }
                    return Ok(Said { number: place.number, waits: place.waits, started });
                }
                // Somebody else was faster: the session has another place for it, or none.
                Err(Error::Store(error)) if error.kind == Kind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        let message = format!("too many talk in session {id} at once");
        Err(Error::Busy { message, retry_after: Duration::from_secs(1) })
    }

    /// The turn that an earlier request with the same idempotency key took.
    async fn found_again(&self, caller: &Caller, session: &Session, started: Started) -> Result<Said, Error> {
        let row = self.runs.row(caller, started.run).await?;
        match row.turn.filter(|_| row.session == session.id) {
            Some(number) => Ok(Said { number, waits: row.wakes_at.is_some(), started }),
            None => {
                let message = "the idempotency key was used for what is no turn of this session: use a new key".into();
                Err(Error::Conflict { code: "idempotency-key-reused", message })
            }
        }
    }

    /// Why it takes no turn.
    pub(crate) fn refused(&self, session: &Session, waiting: u32) -> Error {
        let id = &session.id;
        let conflict = |message| Error::Conflict { code: "session-over", message };
        if session.standing != Standing::Open {
            return conflict(format!("session {id} is {}: open a new one", session.standing.as_str()));
        }
        if session.has_expired(self.now()) {
            return conflict(format!("session {id} has expired: open a new one"));
        }
        let busy = |message| Error::Busy { message, retry_after: Duration::from_secs(1) };
        match session.settings.if_busy {
            IfBusy::Reject => busy(format!("session {id} is busy with another turn, and refuses what comes meanwhile")),
            _ if waiting >= session.share() && session.share() < session.settings.queue => {
                busy(format!("in session {id} as many turns of this key wait as may: {waiting}"))
            }
            _ => busy(format!("in session {id} as many turns wait as may: {}", session.settings.queue)),
        }
    }

    /// Sessions, those first that were opened last; of a key of the role `caller` those that it opened or takes part in.
    ///
    /// # Errors
    /// Where the caller's role does not allow it, or the record does not answer.
    pub async fn list(&self, caller: &Caller, mut filter: SessionFilter) -> Result<Vec<Session>, Error> {
        self.authority().authorize(caller, Action::ReadRuns).await?;
        if caller.role == Role::Caller {
            filter.of = Some(caller.key.clone());
        }
        Ok(self.read.sessions(&caller.tenant, &filter).await?)
    }

    /// A session.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn get(&self, caller: &Caller, id: &SessionId) -> Result<Session, Error> {
        self.authority().authorize(caller, Action::ReadRuns).await?;
        self.seen(caller, id).await
    }

    /// What was said in one after turn `after`, and how it went, in order.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn history(
        &self,
        caller: &Caller,
        id: &SessionId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<TurnView>, Error> {
        self.authority().authorize(caller, Action::ReadRuns).await?;
        self.seen(caller, id).await?;
        let turns = self.read.turns(&caller.tenant, id, after, limit).await?;
        let mut views = Vec::with_capacity(turns.len());
        for turn in turns {
            views.push(self.view(&caller.tenant, turn).await?);
        }
        Ok(views)
    }

    /// What the memory of one held, as a JSON document, where it was archived.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn archive(&self, caller: &Caller, id: &SessionId) -> Result<Option<String>, Error> {
        self.authority().authorize(caller, Action::ReadRuns).await?;
        self.seen(caller, id).await?;
        Ok(self.read.archive(&caller.tenant, id).await?)
    }

    async fn view(&self, tenant: &TenantId, turn: Turn) -> Result<TurnView, Error> {
        let (row, started) = self.runs.begun(tenant, turn.run).await?;
        let (mut result, mut hand_offs) = (None, Vec::new());
        let mut first = match &row.target {
            Target::Agent(agent) => Some(agent.name.clone()),
            Target::Workflow(_) => None,
        };
        if turn.stage != Stage::Queued {
            let outline = self.runs.outline(tenant, turn.run).await?;
            if row.state.is_over() {
                result = self.runs.result_in(tenant, turn.run, &outline).await?;
            }
            if let Some(node) = outline.history.node(&StepPath::root()) {
                hand_offs = node.hand_offs.clone();
                first = first.or_else(|| begins_with(started.document.as_deref()?, node.holds.as_ref()?.number));
            }
        }
        let (at, input, state) = (row.created_at, started.input.clone(), row.state);
        Ok(TurnView { turn, at, input, state, result, hand_offs, first })
    }

    /// Ends a turn: one that waits, or the one at work; those behind it go on.
    ///
    /// # Errors
    /// Where it is not there, or over already.
    pub async fn cancel_turn(
        self: &Arc<Self>,
        caller: &Caller,
        id: &SessionId,
        number: u32,
    ) -> Result<Cancelled, Error> {
        self.authority().authorize(caller, Action::Run).await?;
        let session = self.seen(caller, id).await?;
        let missing = || Error::not_found(format!("turn {number} of session `{id}`"));
        let before = number.checked_sub(1).ok_or_else(missing)?;
        let turn = self.read.turns(&caller.tenant, id, before, 1).await?.into_iter().next();
        let turn = turn.filter(|turn| turn.number == number).ok_or_else(missing)?;
        if caller.role == Role::Caller && turn.by != caller.key && session.by != caller.key {
            return Err(Error::Denied { why: "only who said it, and who opened the session, may end a turn".into() });
        }
        self.runs.end(&caller.tenant, turn.run, Some(caller.key.clone()), "cancelled by a client").await
    }

    /// Hands its conversation to another agent, between two turns.
    ///
    /// # Errors
    /// Where it is not there, is over or busy, or its conversation does not go to that agent.
    pub async fn hand_over(
        self: &Arc<Self>,
        caller: &Caller,
        id: &SessionId,
        to: AgentName,
        reason: String,
    ) -> Result<Session, Error> {
        let (sessions, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            let session = sessions.between_turns(&by, &id, "hand its conversation on").await?;
            check_reason(&reason).map_err(|why| Error::invalid("invalid", "reason", why))?;
            let wrong = |why: String| Error::invalid("invalid", "to", why);
            let goes = sessions.runs.conversation(&by, &session.settings.with).await?.ok_or_else(|| {
                wrong(format!("the conversation of session {id} is not handed on: no workflow with a `hand-off` at its root answers"))
            })?;
            let names = goes.names();
            let holder = sessions.holds(&session, &goes);
            let among: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            let guards = Guards { among: &among, at_most: goes.at_most, per_pair: goes.per_pair };
            let from = holder.as_ref().map_or("", |holder| holder.as_str());
            guards.check(from, to.as_str(), &[]).map_err(|refused| match refused {
                Refused::Invalid(why) | Refused::Quota(why) => wrong(why),
            })?;
            let change = Change::SessionHandedOver { session: id.clone(), from: holder, to, reason };
            let expects = vec![Expect::Idle { session: id.clone(), epoch: session.epoch }];
            let changes = Changes { deltas: Vec::new(), expects };
            let done = sessions.authority().act_with(&by.tenant, Some(&by.key), change, changes).await;
            done.map_err(|error| changed_meanwhile(error, &id))?;
            sessions.one(&by.tenant, &id).await
        };
        self.authority().perform(caller, Action::Run, work).await
    }

    /// Who has the next turn of a conversation that goes so: whoever holds it, where that one may hold it still and was not idle for too long.
    fn holds(&self, session: &Session, goes: &HandOff) -> Option<AgentName> {
        let names = goes.names();
        let is_idle = |holder: &&Holder| {
            let since = session.last_at.max(holder.at);
            goes.idle.is_some_and(|longest| self.now().since(since) >= longest)
        };
        let held = session.holder.as_ref().filter(|holder| !is_idle(holder)).map(|holder| &holder.agent);
        let held = held.filter(|holder| names.contains(holder));
        held.or_else(|| names.get(goes.start).copied()).cloned()
    }

    /// Who holds a session's conversation, as its workflow's document is now: at work whoever it was handed to, otherwise who has the next turn. None: it is
    /// not one that is handed on.
    ///
    /// # Errors
    /// Where the record does not answer.
    pub async fn holder(&self, session: &Session) -> Result<Option<AgentName>, Error> {
        let held = session.holder.as_ref().map(|holder| holder.agent.clone());
        let Target::Workflow(workflow) = &session.settings.with else { return Ok(held) };
        // Of one that was never handed on it is whoever holds it first.
        if held.is_none() || session.active.is_some() || session.standing.is_over() {
            return Ok(held);
        }
        match self.runs.goes(&session.tenant, workflow).await {
            Ok(Some(goes)) => Ok(self.holds(session, &goes)),
            // What answered is not there any more, or is no conversation by now.
            Ok(None) => Ok(None),
            Err(Error::NotFound { .. }) => Ok(held),
            Err(error) => Err(error),
        }
    }

    /// Closes one: it takes no more turns. Those that it has come to their end, or are ended.
    ///
    /// # Errors
    /// Where it is not there, or over already.
    pub async fn close(self: &Arc<Self>, caller: &Caller, id: &SessionId, how: Closing) -> Result<Session, Error> {
        let (sessions, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            let session = sessions.seen(&by, &id).await?;
            if by.role == Role::Caller && session.by != by.key {
                return Err(Error::Denied {
                    why: "only who opened a session, and keys of the roles author and admin, may close it".into(),
                });
            }
            let now = how == Closing::Cancel;
            // One that closes may be closed at once after all.
            let may_be = session.standing == Standing::Open || now && session.standing == Standing::Closing;
            if !may_be {
                let message = format!("session {id} is {} already", session.standing.as_str());
                return Err(Error::Conflict { code: "session-over", message });
            }
            let change = Change::SessionClosed { id: id.clone(), expired: false, now, why: None };
            let expects = match session.standing {
                Standing::Open => vec![Expect::OpenSession { id: id.clone(), expires: None }],
                _ => Vec::new(),
            };
            let changes = Changes { deltas: Vec::new(), expects };
            let done = sessions.authority().act_with(&by.tenant, Some(&by.key), change, changes).await;
            done.map_err(|error| changed_meanwhile(error, &id))?;
            // What follows from it is due at once, or when its last turn is over.
            sessions.news.tell(&by.tenant);
            if now {
                sessions.end_turns(&by.tenant, &id, u32::MAX, Some(&by.key), "its session was closed").await;
            }
            sessions.one(&by.tenant, &id).await
        };
        self.authority().perform(caller, Action::Run, work).await
    }

    /// Ends what somebody interrupted: those that wait first, so that none of them begins.
    pub(crate) async fn end_interrupted(&self, tenant: &TenantId, id: &SessionId) {
        match self.interrupted_by(tenant, id).await {
            Ok(Some((before, why))) => self.end_turns(tenant, id, before, None, &why).await,
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, session = %id, "what was interrupted could not be ended yet; trying again");
            }
        }
    }

    /// The number that turns to be ended are before, and why: whose message ended them.
    async fn interrupted_by(&self, tenant: &TenantId, id: &SessionId) -> Result<Option<(u32, String)>, StoreError> {
        let Some(session) = self.read.session(tenant, id).await? else { return Ok(None) };
        let number = session.interrupted;
        let turn = self.read.turns(tenant, id, number.saturating_sub(1), 1).await?.into_iter().next();
        let why = match turn.filter(|turn| turn.number == number) {
            Some(turn) => format!("interrupted by turn {number} of its session, which key {} said", turn.by),
            None => "its session was closed".to_owned(),
        };
        Ok(Some((number, why)))
    }

    /// Ends the turns before number `before` that are not over: those that wait first. What does not end is attended to later.
    async fn end_turns(&self, tenant: &TenantId, id: &SessionId, before: u32, by: Option<&KeyId>, reason: &str) {
        let open = match self.open_turns(tenant, id, before).await {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(%error, session = %id, "the turns of a session could not be ended yet; trying again");
                return;
            }
        };
        for run in open {
            // What could not be undone is for people to give up.
            if by.is_none() && self.is_stuck(tenant, run).await {
                continue;
            }
            // One that is over by now, or is being ended, is what was wanted.
            if let Err(error @ (Error::Store(_) | Error::Internal { .. })) =
                self.runs.end(tenant, run, by.cloned(), reason).await
            {
                tracing::warn!(%error, session = %id, %run, "a turn could not be ended yet; trying again");
            }
        }
    }

    pub(crate) async fn is_stuck(&self, tenant: &TenantId, run: RunId) -> bool {
        let row = self.runs.inner.ports.read.run(tenant, run).await;
        row.is_ok_and(|row| row.is_some_and(|row| row.state == State::Stuck))
    }

    async fn open_turns(&self, tenant: &TenantId, id: &SessionId, before: u32) -> Result<Vec<RunId>, StoreError> {
        let Some(session) = self.read.session(tenant, id).await? else { return Ok(Vec::new()) };
        // Whoever waits came after the one at work, or after its key's last turn: all of them are among the last ones.
        let from = session.turns.saturating_sub(LOOKED_AT);
        let turns = self.read.turns(tenant, id, from, LOOKED_AT).await?;
        let queued = turns.iter().filter(|turn| turn.stage == Stage::Queued && turn.number < before);
        let active = session.active.filter(|active| active.number < before).map(|active| active.run);
        Ok(queued.map(|turn| turn.run).chain(active).collect())
    }

    pub(crate) async fn one(&self, tenant: &TenantId, id: &SessionId) -> Result<Session, Error> {
        let found = self.read.session(tenant, id).await?;
        found.ok_or_else(|| Error::not_found(format!("session `{id}`")))
    }

    /// A session for who may look at it: the audit tells who looks at another key's.
    pub(crate) async fn seen(&self, caller: &Caller, id: &SessionId) -> Result<Session, Error> {
        let session = self.one(&caller.tenant, id).await?;
        let part = session.part_of(&caller.key);
        if caller.role == Role::Caller && part.is_none() {
            return Err(Error::not_found(format!("session `{id}`")));
        }
        if part.is_none() {
            self.authority().note_read(&caller.tenant, &caller.key, Read::OthersRuns);
        }
        Ok(session)
    }

    /// What a new session is called: by the request of a key that is to have it once, otherwise by chance.
    pub(crate) fn named(&self, caller: &Caller, request: Option<&Digest>) -> Result<SessionId, Error> {
        let id = match request {
            Some(request) => Digest::of(format!("{}\n{request}", caller.key).as_bytes()).to_string(),
            None => self.runs.inner.drawn(self.now()).0.to_string(),
        };
        let id = id.rsplit(':').next().unwrap_or_default().to_owned();
        format!("ses-{id}").parse().map_err(|e| Error::Internal { message: format!("{e}") })
    }

    pub(crate) fn authority(&self) -> &Arc<Authority> {
        &self.runs.inner.ports.authority
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.runs.inner.ports.clock.now()
    }
}

/// The agent of this number among those of a document's conversation.
fn begins_with(document: &str, number: u32) -> Option<AgentName> {
    let document = Document::from_json(document).ok()?;
    let Does::HandOff(goes) = &document.flow.does else { return None };
    goes.names().into_iter().nth(number as usize).cloned()
}

/// How many of a session's last turns are looked at for those that wait: more than ever wait.
const LOOKED_AT: u32 = 4 * ltmc_model::session::MAX_QUEUE;

pub(crate) fn changed_meanwhile(error: StoreError, id: &SessionId) -> Error {
    match error.kind {
        Kind::Stale => Error::Conflict {
            code: "conflict",
            message: format!("session {id} was changed just now: look at it again"),
        },
        _ => error.into(),
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}
