//! Shared context for clients: the same calls that guests make, asked for by a key.
//!
//! Invariants: a client's change is an act in its tenant's ledger and is on disk before it is answered. What a call means is
//! decided where it is decided for guests; only who may is another question.

use std::sync::Arc;
use std::time::Duration;

use ltmc_journal::runlog::Commit;
use ltmc_model::call::{Call, HostCall, messages};
use ltmc_model::caller::Caller;
use ltmc_model::delta::Delta;
use ltmc_model::effect::{Mismatch, Refusal, Reply};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Change;
use ltmc_model::message::{Channel, DeadLetter, Events, MAX_MAILBOX, Taker, Topic};
use ltmc_model::{AgentName, Digest, Position, Revision, RunId, SessionId, StepPath};
use ltmc_policy::Action;
use ltmc_ports::log::Interest;
use ltmc_ports::metered::Family;
use ltmc_ports::{Changes, Clock, Expect, Kind, ReadMail, ReadSessions, WriteJournal};
use ltmc_tenancy::{Authority, Error, Read};
use metrics::{Counter, counter};

use crate::context::{Asked, Context, Decided, Whose, Within};
use crate::locks;
use crate::subscription::{Subscription, Subscriptions, Watermark};
use crate::transaction::{MAX_BYTES, Transaction};

/// How often a change is decided anew because others were faster.
pub(crate) const TRIES: u32 = 16;
/// Operations of one transaction.
pub const MAX_CALLS: usize = 100;
/// Bytes of what the ledger says that a transaction is about.
const MAX_ABOUT: usize = 2_000;
/// How long a client's change waits for the record.
const PATIENCE: Duration = Duration::from_secs(30);

static CALLS: Family<Counter, 1> = Family::new(|[call]| counter!("ltmc_client_calls_total", "call" => call));

/// Shared context, for clients.
pub struct Clients {
    ports: Ports,
}

/// What clients need.
pub struct Ports {
    /// What calls come to.
    pub context: Arc<Context>,
    /// Who may, and the ledger.
    pub authority: Arc<Authority>,
    /// Draws revisions.
    pub journal: Arc<dyn WriteJournal>,
    /// Dead letters.
    pub mail: Arc<dyn ReadMail>,
    /// Whose memory is written no more.
    pub sessions: Arc<dyn ReadSessions>,
    /// What clients follow.
    pub subscriptions: Arc<Subscriptions>,
    /// The host's clock.
    pub clock: Arc<dyn Clock>,
}

/// Whose memory a client means, where its scope has an owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// The session of the scope `session`.
    pub session: Option<SessionId>,
    /// The agent of the scope `agent`.
    pub agent: Option<AgentName>,
}

impl Clients {
    /// Over these ports.
    pub fn new(ports: Ports) -> Self {
        Self { ports }
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Does what a call says. The inner error is the same value that a guest would be given.
    ///
    /// # Errors
    /// Where the caller may not, or the record fails.
    pub async fn call<C: HostCall>(
        &self,
        caller: &Caller,
        owner: &Owner,
        call: C,
    ) -> Result<Result<C::Reply, Refusal>, Error> {
        match self.any_call(caller, owner, call.into()).await? {
            Ok(reply) => C::Reply::try_from(reply).map(Ok).map_err(|Mismatch { wanted }| Error::Internal {
                message: format!("`{}` was answered with something that is not its `{wanted}`", C::NAME),
            }),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// The tenant's audit tells who reads its shared context.
    pub(crate) fn note(&self, caller: &Caller) {
        self.ports.authority.note_read(&caller.tenant, &caller.key, Read::Context);
    }

    async fn any_call(&self, caller: &Caller, owner: &Owner, call: Call) -> Result<Result<Reply, Refusal>, Error> {
        let action = if call.changes() { Action::WriteContext } else { Action::ReadContext };
        self.ports.authority.authorize(caller, action).await?;
        if action == Action::ReadContext {
            self.note(caller);
        }
        let change = Change::Context { call: call.name().to_owned(), about: call.about(), request: call.digest() };
        CALLS.of([call.name()]).increment(1);
        let unfinished = self.unfinished(caller, owner, &call).await?;
        for tries in 0..TRIES {
            let whose = Whose { patience: locks::patience(tries), ..whose(caller, owner) };
            let (reply, mut commit) = match self.decide(whose, call.clone()).await? {
                Decided::Answer(answer) => return Ok(answer),
                Decided::Change(reply, commit) | Decided::Lease(reply, commit) => (reply, commit),
                // A client did nothing that others are to see first.
                Decided::Checkpoint => break,
            };
            commit.changes.expects.extend(unfinished.clone());
            if self.came_true(caller, &change, commit).await? {
                return Ok(Ok(reply));
            }
        }
        Err(contended())
    }

    /// That the session whose memory a call changes is not over; none: it changes none.
    async fn unfinished(&self, caller: &Caller, owner: &Owner, call: &Call) -> Result<Option<Expect>, Error> {
        let Some(id) = owner.session.as_ref().filter(|_| matches!(call, Call::Memory(_)) && call.changes()) else {
            return Ok(None);
        };
        let found = self.ports.sessions.session(&caller.tenant, id).await?;
        match found.filter(|session| session.standing.is_over()) {
            Some(over) => {
                let message = format!("session {id} is {}: its memory is only read", over.standing.as_str());
                Err(Error::Conflict { code: "session-over", message })
            }
            None => Ok(Some(Expect::Unfinished { session: id.clone() })),
        }
    }

    /// Does what all of these calls say, in order, or nothing: each sees what those before it did, nobody else sees any of it
    /// before all of it is true. The inner error: which call was refused, and why.
    ///
    /// # Errors
    /// Where the caller may not, there are too many calls or one that changes nothing, or the record fails.
    pub async fn transact(
        &self,
        caller: &Caller,
        calls: Vec<(Owner, Call)>,
    ) -> Result<Result<Vec<Reply>, (usize, Refusal)>, Error> {
        self.ports.authority.authorize(caller, Action::WriteContext).await?;
        if !(1..=MAX_CALLS).contains(&calls.len()) {
            let message = format!("a transaction has 1 to {MAX_CALLS} operations, not {}", calls.len());
            return Err(Error::invalid("invalid", "operations", message));
        }
        if let Some((_, call)) = calls.iter().find(|(_, call)| !call.changes()) {
            let message = format!("`{}` changes nothing, and so is no part of a transaction", call.name());
            return Err(Error::invalid("invalid", "operations", message));
        }
        let about: Vec<String> = calls.iter().map(|(_, call)| format!("{} {}", call.name(), call.about())).collect();
        let digests: Vec<u8> = calls.iter().flat_map(|(_, call)| call.digest().0).collect();
        let mut about = about.join(", ");
        about.truncate(about.floor_char_boundary(MAX_ABOUT));
        let change = Change::Context { call: "transaction".into(), about, request: Digest::of(&digests) };
        calls.iter().for_each(|(_, call)| CALLS.of([call.name()]).increment(1));
        let mut unfinished = Vec::new();
        for (owner, call) in &calls {
            if let Some(one) = self.unfinished(caller, owner, call).await?.filter(|one| !unfinished.contains(one)) {
                unfinished.push(one);
            }
        }
        let begun = tokio::time::Instant::now();
        for tries in (0..TRIES).take_while(|_| begun.elapsed() < PATIENCE) {
            let (replies, mut commit) = match self.decide_all(caller, &calls, locks::patience(tries)).await? {
                Ok(decided) => decided,
                Err(refused) => return Ok(Err(refused)),
            };
            commit.changes.expects.extend(unfinished.clone());
            if self.came_true(caller, &change, commit).await? {
                return Ok(Ok(replies));
            }
        }
        Err(contended())
    }

    async fn decide_all(
        &self,
        caller: &Caller,
        calls: &[(Owner, Call)],
        patience: Duration,
    ) -> Result<Result<(Vec<Reply>, Commit), (usize, Refusal)>, Error> {
        // It takes no messages.
        let nobody = Taker { run: RunId::ledger(), step: StepPath::root(), attempt: 0, part: 0 };
        let mut transaction = Transaction::new(nobody, false, self.ports.context.overlays.share(&caller.tenant));
        let mut replies = Vec::with_capacity(calls.len());
        for (number, (owner, call)) in calls.iter().enumerate() {
            // Each may take a large value apart and put it together: others have a turn between two.
            tokio::task::yield_now().await;
            let within = Some(Within { log: None, transaction: &transaction });
            let whose = Whose { patience, within, ..whose(caller, owner) };
            match self.decide(whose, call.clone()).await? {
                Decided::Answer(Ok(reply)) => replies.push(reply),
                Decided::Answer(Err(refusal)) => return Ok(Err((number, refusal))),
                Decided::Change(reply, commit) => {
                    transaction.add(commit).map_err(no_room)?;
                    replies.push(reply);
                }
                Decided::Lease(..) | Decided::Checkpoint => {
                    let message = format!("`{}` waits or takes, and so is no part of a transaction", call.name());
                    return Err(Error::invalid("invalid", "operations", message));
                }
            }
        }
        Ok(Ok((replies, transaction.take())))
    }

    async fn decide(&self, whose: Whose<'_>, call: Call) -> Result<Decided, Error> {
        let tenant = whose.tenant;
        let revision = || self.ports.journal.next_revision(tenant);
        let asked = Asked { whose, now: self.ports.clock.now(), revision: &revision };
        Ok(self.ports.context.decide(asked, call).await?)
    }

    /// Has what was decided made true; false: others were faster, and it is to be decided anew.
    pub(crate) async fn came_true(&self, caller: &Caller, change: &Change, commit: Commit) -> Result<bool, Error> {
        match self.act(caller, change.clone(), commit).await {
            Ok(()) => Ok(true),
            Err(Error::Store(error)) if error.kind == Kind::Stale => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has a change made true, also where the client goes away meanwhile.
    async fn act(&self, caller: &Caller, change: Change, commit: Commit) -> Result<(), Error> {
        let (authority, tenant, key) = (self.ports.authority.clone(), caller.tenant.clone(), caller.key.clone());
        let work = self.ports.authority.tasks().own(&caller.tenant, async move {
            // Kept until it is known what became of it.
            let Commit { changes, locks: _locks, holds: _holds, before: _ } = commit;
            Ok(authority.act_with(&tenant, Some(&key), change, changes).await?)
        });
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(done) => done,
            Err(_) => {
                let message = "the record does not answer".to_owned();
                Err(Error::Busy { message, retry_after: Duration::from_secs(5) })
            }
        }
    }

    /// Follows what is of interest after `after`; none: from now on. The inner error: the cursor is too old.
    ///
    /// # Errors
    /// Where the caller may not, or the record fails.
    pub async fn subscribe(
        &self,
        caller: &Caller,
        interest: Interest,
        after: Option<Position>,
    ) -> Result<Result<Subscription, Refusal>, Error> {
        self.ports.authority.authorize(caller, Action::ReadContext).await?;
        self.note(caller);
        match self.ports.subscriptions.subscribe(&caller.tenant, interest, Watermark::Durable, after).await {
            Ok(subscription) => Ok(Ok(subscription)),
            Err(lost) => Ok(Err(lost.refusal()?)),
        }
    }

    /// Events of a topic after `after` (none: from the oldest kept), at most `limit`. What is answered is on disk.
    ///
    /// # Errors
    /// Where the caller may not, or the record fails.
    pub async fn events(
        &self,
        caller: &Caller,
        topic: &Topic,
        after: Option<Position>,
        limit: u32,
    ) -> Result<Result<Events, Refusal>, Error> {
        let log = self.ports.subscriptions.log();
        let after = match after {
            Some(after) => after,
            None => log.trimmed(&caller.tenant).await?,
        };
        let call = messages::Read { topic: topic.clone(), after: Some(after), limit, wait_ms: 0 };
        let answer = self.call(caller, &Owner::default(), call).await?;
        if let Ok(found) = &answer {
            let _ = log.ends().wait_for(|ends| ends.durable >= found.next).await;
        }
        Ok(answer)
    }

    /// Dead letters, oldest first.
    ///
    /// # Errors
    /// Where the caller may not, or the record fails.
    pub async fn dead_letters(
        &self,
        caller: &Caller,
        agent: Option<&AgentName>,
        after: Option<Revision>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, Error> {
        self.ports.authority.authorize(caller, Action::ReadContext).await?;
        self.note(caller);
        Ok(self.ports.mail.dead_letters(&caller.tenant, agent, after, limit).await?)
    }

    /// Sends a dead letter again, to the end of its mailbox.
    ///
    /// # Errors
    /// Where there is no such dead letter, or the mailbox is full.
    pub async fn revive(&self, caller: &Caller, id: Revision) -> Result<(), Error> {
        let owner = Owner::default();
        let change = about_letter("messages.revive", id);
        for _ in 0..TRIES {
            let agent = self.letter(caller, id).await?;
            let Some(room) = self.ports.context.messages.room(whose(caller, &owner), &agent).await? else {
                let message = format!("the mailbox of `{agent}` holds {MAX_MAILBOX} messages, which is its bound");
                return Err(Error::Conflict { code: "quota-exceeded", message });
            };
            let delta = Delta::Revived { agent: agent.clone(), message: id };
            if self.came_true(caller, &change, of_letter(agent, id, delta, room)).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Throws a dead letter away.
    ///
    /// # Errors
    /// Where there is no such dead letter.
    pub async fn discard(&self, caller: &Caller, id: Revision) -> Result<(), Error> {
        let change = about_letter("messages.discard", id);
        for _ in 0..TRIES {
            let agent = self.letter(caller, id).await?;
            let delta = Delta::Processed { agent: agent.clone(), message: id };
            if self.came_true(caller, &change, of_letter(agent, id, delta, None)).await? {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// In whose mailbox a dead letter is.
    async fn letter(&self, caller: &Caller, id: Revision) -> Result<AgentName, Error> {
        self.ports.authority.authorize(caller, Action::WriteContext).await?;
        let found = self.ports.mail.dead_letter(&caller.tenant, id).await?;
        match found.map(|letter| letter.message.channel) {
            Some(Channel::Mailbox(agent)) => Ok(agent),
            _ => Err(Error::not_found(format!("dead letter `{id}`"))),
        }
    }
}

/// Why a transaction cannot have more in it.
fn no_room(failure: Failure) -> Error {
    match failure.code {
        Code::Busy => Error::Busy { message: failure.message, retry_after: Duration::from_secs(1) },
        _ => {
            let message = format!("a transaction changes at most {MAX_BYTES} bytes");
            Error::invalid("invalid", "operations", message)
        }
    }
}

fn about_letter(call: &str, id: Revision) -> Change {
    let about = id.to_string();
    let request = Digest::of(about.as_bytes());
    Change::Context { call: call.to_owned(), about, request }
}

/// What becomes of a dead letter, as long as it is one.
fn of_letter(agent: AgentName, id: Revision, delta: Delta, room: Option<Expect>) -> Commit {
    let expects = [Expect::DeadLetter { agent, message: id }].into_iter().chain(room).collect();
    let changes = Changes { deltas: vec![delta], expects };
    Commit { changes, ..Commit::default() }
}

pub(crate) fn contended() -> Error {
    let message = format!("others changed the same thing {TRIES} times before this could: ask again");
    Error::Conflict { code: "conflict", message }
}

pub(crate) fn whose<'a>(caller: &'a Caller, owner: &'a Owner) -> Whose<'a> {
    Whose {
        tenant: &caller.tenant,
        session: owner.session.as_ref(),
        agent: owner.agent.as_ref(),
        within: None,
        client: Some(&caller.key),
        cause: caller.cause.as_deref(),
        patience: locks::patience(0),
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}
