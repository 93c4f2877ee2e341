//! Subscriptions that start runs: put, looked at, paused, continued, deleted; and what becomes of their dead letters.
//!
//! Invariants: a use case asks policy first. A subscription starts runs in the name of a key: of the one that put it, or of the one that
//! continued it last. What that key may not do any more is not done: the subscription is set aside, and says why.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ltmc_model::agent::AgentRef;
use ltmc_model::caller::Caller;
use ltmc_model::journal::Change;
use ltmc_model::manifest::Manifest;
use ltmc_model::trigger::{MAX_CASCADE, MAX_OF_A_TENANT, Planted, Trigger, TriggerId, Verdict};
use ltmc_model::workflow::{self, Document};
use ltmc_model::{KeyId, Position, TenantId, Timestamp, WorkflowName};
use ltmc_policy::Action;
use ltmc_ports::triggers::{Arrival, ArrivalFilter, StoredTrigger};
use ltmc_ports::{Bus, Changes, Expect, Kind, ReadCascades, ReadTriggers, StoreError, WriteTriggers};
use ltmc_tenancy::{Authority, Error};
use tokio::sync::Notify;

use crate::runs::Runs;

/// Events that are counted where it is said how far a subscription is behind.
pub const MAX_LAG: u32 = 10_000;

/// The use cases, and what deals with events ([`Triggers::listen`]).
pub struct Triggers {
    pub(crate) read: Arc<dyn ReadTriggers>,
    pub(crate) write: Arc<dyn WriteTriggers>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) cascades: Arc<dyn ReadCascades>,
    pub(crate) runs: Runs,
    /// Told when there may be something to do that no event tells of.
    pub(crate) changed: Notify,
    /// So many events may follow from one.
    pub(crate) cascade: u32,
    /// Whether anybody's watches memory, as it was when it was looked last.
    pub(crate) watches_memory: AtomicBool,
}

/// What they need.
pub struct Ports {
    /// To look them up.
    pub read: Arc<dyn ReadTriggers>,
    /// To deal with events.
    pub write: Arc<dyn WriteTriggers>,
    /// Topics, as the record has them.
    pub bus: Arc<dyn Bus>,
    /// What follows from events.
    pub cascades: Arc<dyn ReadCascades>,
    /// What they start, and what else that needs.
    pub runs: Runs,
}

impl Triggers {
    /// Over these ports.
    pub fn new(ports: Ports) -> Self {
        let Ports { read, write, bus, cascades, runs } = ports;
        Self {
            read,
            write,
            bus,
            cascades,
            runs,
            changed: Notify::new(),
            cascade: MAX_CASCADE,
            watches_memory: AtomicBool::new(false),
        }
    }

    /// The same, where so many events may follow from one.
    #[must_use]
    pub fn with_cascade(self, most: u32) -> Self {
        Self { cascade: most, ..self }
    }

    /// A tenant's subscriptions by name, after `after`.
    ///
    /// # Errors
    /// Where the caller's role does not allow it, or the record does not answer.
    pub async fn list(
        &self,
        caller: &Caller,
        after: Option<&TriggerId>,
        limit: u32,
    ) -> Result<Vec<StoredTrigger>, Error> {
        self.authority().authorize(caller, Action::ReadDefinitions).await?;
        Ok(self.read.triggers(&caller.tenant, after, limit).await?)
    }

    /// One, with how many events of its topic it has not looked at; of many, [`MAX_LAG`].
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn get(&self, caller: &Caller, id: &TriggerId) -> Result<(StoredTrigger, u32), Error> {
        self.authority().authorize(caller, Action::ReadDefinitions).await?;
        let row = self.one(&caller.tenant, id).await?;
        Ok((row, self.read.lag(&caller.tenant, id, MAX_LAG).await?))
    }

    /// A tenant's events that were taken in and are not dealt with; of one subscription or of all.
    ///
    /// # Errors
    /// Where the caller's role does not allow it, or the record does not answer.
    pub async fn arrivals(&self, caller: &Caller, filter: &ArrivalFilter) -> Result<Vec<Arrival>, Error> {
        self.authority().authorize(caller, Action::ReadContext).await?;
        Ok(self.read.arrivals(&caller.tenant, filter).await?)
    }

    /// A new one, or another in the place of one of the same name, which goes on from where that is. `after`: from which place of the log on a new
    /// one begins; none: from now on. Whether it is new.
    ///
    /// # Errors
    /// Where what it starts is not there, it stands in a workflow's document, there are too many, or the place is not there yet.
    pub async fn put(
        self: &Arc<Self>,
        caller: &Caller,
        id: TriggerId,
        trigger: Trigger,
        after: Option<Position>,
    ) -> Result<bool, Error> {
        let (triggers, by) = (self.clone(), caller.clone());
        let work = async move { triggers.store(&by, id, trigger, after).await };
        self.authority().perform(caller, Action::PutWorkflow, work).await
    }

    async fn store(
        &self,
        by: &Caller,
        id: TriggerId,
        trigger: Trigger,
        after: Option<Position>,
    ) -> Result<bool, Error> {
        in_no_document(&id)?;
        in_no_manifest(&id)?;
        self.plant(by, id, trigger, after).await
    }

    /// Lets an agent be woken by what its manifest asks for, and by nothing that it asked for before and does not now, in the caller's name. Their names.
    ///
    /// # Errors
    /// Where the agent is not there, or asks for nothing; those of [`Self::put`].
    pub async fn accept(self: &Arc<Self>, caller: &Caller, agent: &AgentRef) -> Result<Vec<TriggerId>, Error> {
        let (triggers, by, agent) = (self.clone(), caller.clone(), agent.clone());
        let work = async move {
            let found = triggers.authority().agent(&by.tenant, &agent).await?;
            let found = found.ok_or_else(|| Error::not_found(format!("agent `{agent}`")))?;
            let asked = found.manifest.woken_by(&found.name);
            let asked = asked.map_err(|why| Error::Internal { message: format!("agent `{agent}`: {why}") })?;
            let mut names = Vec::new();
            for (number, trigger) in (1..).zip(asked) {
                let id = TriggerId::of_agent(&found.name, number);
                triggers.plant(&by, id.clone(), trigger, None).await?;
                names.push(id);
            }
            for number in names.len() + 1..=Manifest::MAX_SUBSCRIPTIONS {
                let id = TriggerId::of_agent(&found.name, number);
                if triggers.read.trigger(&by.tenant, &id).await?.is_some() {
                    let change = Change::SubscriptionDeleted { id };
                    triggers.authority().act(&by.tenant, Some(&by.key), change).await?;
                }
            }
            Ok(names)
        };
        self.authority().perform(caller, Action::PutWorkflow, work).await
    }

    async fn plant(
        &self,
        by: &Caller,
        id: TriggerId,
        trigger: Trigger,
        after: Option<Position>,
    ) -> Result<bool, Error> {
        // What whoever reads no topics may not do, no run does for them.
        self.authority().authorize(by, Action::ReadContext).await?;
        self.runs.is_there(by, &trigger.start, false).await?;
        let is_new = self.read.trigger(&by.tenant, &id).await?.is_none();
        let after = self.not_in_the_future(after)?;
        let change = Change::SubscriptionPut { id: id.clone(), planted: Box::new(Planted { trigger, after }) };
        let more = u32::from(is_new);
        let expects = vec![Expect::Subscriptions { of: None, more }];
        let changes = Changes { deltas: Vec::new(), expects };
        let done = self.authority().act_with(&by.tenant, Some(&by.key), change, changes).await;
        done.map_err(|error| match error.kind {
            Kind::Stale => Self::too_many(error),
            _ => error.into(),
        })?;
        self.changed();
        Ok(is_new)
    }

    /// Deletes one, with the events that wait and its dead letters. Runs under way go on.
    ///
    /// # Errors
    /// Where it is not there, or stands in a workflow's document.
    pub async fn delete(self: &Arc<Self>, caller: &Caller, id: &TriggerId) -> Result<(), Error> {
        let (triggers, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            triggers.one(&by.tenant, &id).await?;
            in_no_document(&id)?;
            let change = Change::SubscriptionDeleted { id };
            Ok(triggers.authority().act(&by.tenant, Some(&by.key), change).await?)
        };
        self.authority().perform(caller, Action::PutWorkflow, work).await
    }

    /// Lets one start nothing until it is continued. Runs under way go on; events stay in their topic, as long as that keeps them.
    ///
    /// # Errors
    /// Where it is not there, or paused already.
    pub async fn pause(self: &Arc<Self>, caller: &Caller, id: &TriggerId) -> Result<(), Error> {
        let change = Change::SubscriptionPaused { id: id.clone(), why: None };
        self.change(caller, id, false, change).await
    }

    /// Lets one that is paused, or was set aside, start runs again, from where it is, in the caller's name.
    ///
    /// # Errors
    /// Where it is not there, or not paused.
    pub async fn go_on(self: &Arc<Self>, caller: &Caller, id: &TriggerId) -> Result<(), Error> {
        self.change(caller, id, true, Change::SubscriptionContinued { id: id.clone() }).await
    }

    /// Lets one look through its topic anew, from a place on. What it has seen starts nothing again, unless that is forced; what is started so is
    /// marked.
    ///
    /// # Errors
    /// Where it is not there, or the place is not there yet.
    pub async fn replay(
        self: &Arc<Self>,
        caller: &Caller,
        id: &TriggerId,
        after: Position,
        force: bool,
    ) -> Result<(), Error> {
        let (triggers, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            triggers.one(&by.tenant, &id).await?;
            let after = triggers.not_in_the_future(Some(after))?;
            let change = Change::SubscriptionReplayed { id, after, force };
            triggers.authority().act(&by.tenant, Some(&by.key), change).await?;
            triggers.changed();
            Ok(())
        };
        self.authority().perform(caller, Action::PutWorkflow, work).await
    }

    /// Says what becomes of a dead letter.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn settle(
        self: &Arc<Self>,
        caller: &Caller,
        id: &TriggerId,
        position: Position,
        verdict: Verdict,
    ) -> Result<(), Error> {
        let (triggers, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            triggers.one(&by.tenant, &id).await?;
            let expects = vec![Expect::DeadEvent { id: id.clone(), position }];
            let missing = format!("dead letter {} of subscription `{id}`", position.0);
            let change = Change::DeadEventSettled { id, position, verdict };
            let changes = Changes { deltas: Vec::new(), expects };
            let done = triggers.authority().act_with(&by.tenant, Some(&by.key), change, changes).await;
            done.map_err(|error| match error.kind {
                Kind::Stale => Error::not_found(missing),
                _ => error.into(),
            })?;
            triggers.changed();
            Ok(())
        };
        self.authority().perform(caller, Action::WriteContext, work).await
    }

    /// What a document has, from now on.
    pub(crate) fn planted(&self, document: &Document) -> Vec<Planted> {
        let after = self.now_in_the_log();
        document.triggers.iter().map(|heard| Planted { trigger: heard.trigger.clone(), after }).collect()
    }

    /// What must be so for a document with these to be put.
    pub(crate) fn fit(of: &WorkflowName, planted: &[Planted]) -> Vec<Expect> {
        // bound: subscriptions
        let more = u32::try_from(planted.len()).unwrap_or(u32::MAX);
        if more == 0 { Vec::new() } else { vec![Expect::Subscriptions { of: Some(of.clone()), more }] }
    }

    /// What is said where they do not.
    pub(crate) fn too_many(error: StoreError) -> Error {
        match error.kind {
            Kind::Stale => {
                let message = format!(
                    "the tenant would have more than {MAX_OF_A_TENANT} subscriptions with this: delete some, or put several into one"
                );
                Error::Conflict { code: "too-many-subscriptions", message }
            }
            _ => error.into(),
        }
    }

    /// Whether all of a workflow's start runs in this key's name, or are paused by somebody.
    pub(crate) async fn are_in_name_of(
        &self,
        tenant: &TenantId,
        document: &Document,
        key: &KeyId,
    ) -> Result<bool, StoreError> {
        for number in 1..=document.triggers.len() {
            let found = self.read.trigger(tenant, &TriggerId::of_workflow(&document.name, number)).await?;
            let is_right = |row: &StoredTrigger| {
                row.by.as_ref() == Some(key) && row.paused.as_ref().is_none_or(|paused| paused.by.is_some())
            };
            if !found.as_ref().is_some_and(is_right) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Says that there may be something to do.
    pub(crate) fn changed(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.runs.inner.ports.clock.now()
    }

    pub(crate) fn authority(&self) -> &Arc<Authority> {
        &self.runs.inner.ports.authority
    }

    fn now_in_the_log(&self) -> Position {
        self.runs.inner.ports.subscriptions.log().ends().borrow().visible
    }

    /// A place of the log from which a subscription can go on; of none it is now. From one that is not there yet it would start nothing, and say nothing.
    fn not_in_the_future(&self, after: Option<Position>) -> Result<Position, Error> {
        let now = self.now_in_the_log();
        match after {
            Some(after) if after > now => {
                let message = format!("place {} is not there yet: the newest is {}", after.0, now.0);
                Err(Error::invalid("invalid", "after", message))
            }
            after => Ok(after.unwrap_or(now)),
        }
    }

    async fn one(&self, tenant: &TenantId, id: &TriggerId) -> Result<StoredTrigger, Error> {
        if let Some(found) = self.read.trigger(tenant, id).await? {
            return Ok(found);
        }
        let there = self.read.triggers(tenant, None, MAX_OF_A_TENANT).await?;
        let meant = workflow::nearest(id.as_str(), there.iter().map(|row| row.id.as_str()));
        let meant = meant.map_or_else(String::new, |meant| format!(": did you mean `{meant}`?"));
        Err(Error::not_found(format!("subscription `{id}`{meant}")))
    }

    /// Changes one that is paused or is not.
    async fn change(
        self: &Arc<Self>,
        caller: &Caller,
        id: &TriggerId,
        is_paused: bool,
        change: Change,
    ) -> Result<(), Error> {
        let (triggers, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            triggers.one(&by.tenant, &id).await?;
            let expects = vec![Expect::Subscription { id: id.clone(), is_paused: Some(is_paused) }];
            let changes = Changes { deltas: Vec::new(), expects };
            let done = triggers.authority().act_with(&by.tenant, Some(&by.key), change, changes).await;
            let how = if is_paused { "not paused" } else { "paused already" };
            done.map_err(|error| match error.kind {
                Kind::Stale => Error::Conflict { code: "conflict", message: format!("subscription `{id}` is {how}") },
                _ => error.into(),
            })?;
            triggers.changed();
            Ok(())
        };
        self.authority().perform(caller, Action::PutWorkflow, work).await
    }
}

/// One of a workflow's document is changed there.
fn in_no_document(id: &TriggerId) -> Result<(), Error> {
    if !id.is_of_workflow() {
        return Ok(());
    }
    let message = format!("subscription `{id}` stands under `on` of its workflow's document: change it there");
    Err(Error::Conflict { code: "conflict", message })
}

/// One that an agent's manifest asks for is as that says.
fn in_no_manifest(id: &TriggerId) -> Result<(), Error> {
    if !id.is_of_manifest() {
        return Ok(());
    }
    let message =
        format!("subscription `{id}` stands in its agent's manifest: accept what that asks for, or delete it");
    Err(Error::Conflict { code: "conflict", message })
}

impl std::fmt::Debug for Triggers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Triggers").finish_non_exhaustive()
    }
}
