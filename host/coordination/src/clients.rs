//! Shared context for clients: the same calls that guests make, asked for by a key.
//!
//! Invariants: a client's change is an act in its tenant's ledger and is on disk before it is answered. What a call means is
//! decided where it is decided for guests; only who may is another question.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::call::{Call, HostCall, messages};
use ltmc_model::caller::Caller;
use ltmc_model::delta::Delta;
use ltmc_model::effect::{Mismatch, Refusal, Reply};
use ltmc_model::journal::Change;
use ltmc_model::memory::Drawer;
use ltmc_model::message::{DeadLetter, Events, MAX_MAILBOX, Topic};
use ltmc_model::{AgentName, Position, Revision, SessionId, TenantId};
use ltmc_policy::Action;
use ltmc_ports::{Clock, ReadMail, WriteJournal};

use crate::context::{Asked, Context, Decided, Whose};
use crate::feed::{Feeds, Watcher};
use crate::{Authority, Error};

/// How long a client's change waits for the record.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// The change feed.
    pub feeds: Arc<Feeds>,
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

    async fn any_call(&self, caller: &Caller, owner: &Owner, call: Call) -> Result<Result<Reply, Refusal>, Error> {
        let action = if call.changes() { Action::WriteContext } else { Action::ReadContext };
        self.ports.authority.authorize(caller, action).await?;
        let (name, about, request) = (call.name(), call.about(), call.digest());
        let whose = whose(caller, owner);
        let asked = Asked { whose, now: self.ports.clock.now(), revision: &|| self.ports.journal.next_revision() };
        let decided = self.ports.context.decide(asked, call).await?;
        let answer = match decided {
            Decided::Answer(answer) => answer,
            Decided::Change { reply, deltas, lock, .. } => {
                let change = Change::Context { call: name.to_owned(), about, request };
                // Finished also where the client goes away: the lock is kept until it is known what became of it.
                let (authority, tenant, key) =
                    (self.ports.authority.clone(), caller.tenant.clone(), caller.key.clone());
                let work = tokio::spawn(async move {
                    let done = authority.act_with(&tenant, Some(&key), change, deltas).await;
                    drop(lock);
                    done
                });
                match tokio::time::timeout(PATIENCE, work).await {
                    Ok(Ok(done)) => done?,
                    Ok(Err(broken)) => return Err(Error::Internal { message: broken.to_string() }),
                    Err(_) => {
                        let message = "the record does not answer".to_owned();
                        return Err(Error::Busy { message, retry_after: Duration::from_secs(5) });
                    }
                }
                Ok(reply)
            }
        };
        metrics::counter!("ltmc_client_calls_total", "call" => name).increment(1);
        Ok(answer)
    }

    /// Watches a drawer's keys that begin with `prefix`. The inner error: the cursor is too old, go on from this place.
    ///
    /// # Errors
    /// Where the caller may not, or the record fails.
    pub async fn watch(
        &self,
        caller: &Caller,
        drawer: &Drawer,
        prefix: &str,
        after: Option<Position>,
    ) -> Result<Result<Watcher, Position>, Error> {
        self.ports.authority.authorize(caller, Action::ReadContext).await?;
        Ok(self.ports.feeds.watch(&caller.tenant, drawer, prefix, after).await?)
    }

    /// Events of a topic after `after` (none: from the oldest kept), at most `limit`; waits up to `wait` for the first. What is
    /// answered is on disk.
    ///
    /// # Errors
    /// Where the caller may not, or the record fails.
    pub async fn events(
        &self,
        caller: &Caller,
        topic: &Topic,
        after: Option<Position>,
        limit: u32,
        wait: Duration,
    ) -> Result<Result<Events, Refusal>, Error> {
        let after = match after {
            Some(after) => after,
            None => self.ports.feeds.trimmed().await?,
        };
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let call = messages::Read { topic: topic.clone(), after: Some(after), limit, wait_ms };
        let answer = self.call(caller, &Owner::default(), call).await?;
        if let Ok(found) = &answer {
            self.ports.feeds.on_disk(found.next).await;
        }
        Ok(answer)
    }

    /// Where the log ends now: what comes after is new.
    pub fn now(&self) -> Position {
        self.ports.feeds.durable()
    }

    /// The feeds that watchers go on with.
    pub fn feeds(&self) -> &Arc<Feeds> {
        &self.ports.feeds
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
        Ok(self.ports.mail.dead_letters(&caller.tenant, agent, after, limit).await?)
    }

    /// Sends a dead letter again, to the end of its mailbox.
    ///
    /// # Errors
    /// Where there is no such dead letter, or the mailbox is full.
    pub async fn revive(&self, caller: &Caller, id: Revision) -> Result<(), Error> {
        let (agent, delta) = self.letter(caller, id, |agent, message| Delta::Revived { agent, message }).await?;
        if !self.ports.context.messages.has_room(&caller.tenant, &agent).await? {
            let message = format!("the mailbox of `{agent}` holds {MAX_MAILBOX} messages, which is its bound");
            return Err(Error::Conflict { code: "quota-exceeded", message });
        }
        self.act(&caller.tenant, caller, "messages.revive", id, delta).await
    }

    /// Throws a dead letter away.
    ///
    /// # Errors
    /// Where there is no such dead letter.
    pub async fn discard(&self, caller: &Caller, id: Revision) -> Result<(), Error> {
        let (_, delta) = self.letter(caller, id, |agent, message| Delta::Processed { agent, message }).await?;
        self.act(&caller.tenant, caller, "messages.discard", id, delta).await
    }

    async fn letter(
        &self,
        caller: &Caller,
        id: Revision,
        delta: impl Fn(AgentName, Revision) -> Delta,
    ) -> Result<(AgentName, Delta), Error> {
        self.ports.authority.authorize(caller, Action::WriteContext).await?;
        let found = self.ports.mail.dead_letter(&caller.tenant, id).await?;
        match found.map(|letter| letter.message.channel) {
            Some(ltmc_model::message::Channel::Mailbox(agent)) => Ok((agent.clone(), delta(agent, id))),
            _ => Err(Error::not_found(format!("dead letter `{id}`"))),
        }
    }

    async fn act(
        &self,
        tenant: &TenantId,
        caller: &Caller,
        call: &str,
        id: Revision,
        delta: Delta,
    ) -> Result<(), Error> {
        let about = id.to_string();
        let request = ltmc_model::Digest::of(about.as_bytes());
        let change = Change::Context { call: call.to_owned(), about, request };
        Ok(self.ports.authority.act_with(tenant, Some(&caller.key), change, vec![delta]).await?)
    }
}

fn whose<'a>(caller: &'a Caller, owner: &'a Owner) -> Whose<'a> {
    Whose {
        tenant: &caller.tenant,
        session: owner.session.as_ref(),
        agent: owner.agent.as_ref(),
        run: None,
        client: Some(&caller.key),
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}
