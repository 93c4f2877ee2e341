//! Schedules: looked at, paused, continued; and a run of one at once.
//!
//! Invariants: a use case asks policy first. A schedule starts runs in the name of a key: of the one that put its document, or of the one that
//! continued it last. What that key may not do any more is not done: the schedule is set aside, and says why.

use std::sync::Arc;

use ltmc_model::caller::Caller;
use ltmc_model::journal::Change;
use ltmc_model::schedule::{MAX_OF_A_TENANT, Planned, ScheduleId};
use ltmc_model::workflow::Document;
use ltmc_model::{Digest, KeyId, TenantId, Timestamp, WorkflowName};
use ltmc_policy::Action;
use ltmc_ports::schedules::{ScheduledStart, StoredSchedule};
use ltmc_ports::{Changes, Expect, Kind, ReadSchedules, StoreError, WriteSchedules};
use ltmc_tenancy::{Authority, Error};
use tokio::sync::Notify;

use crate::due;
use crate::runs::{Runs, Started};

/// The use cases, and what deals with ticks ([`Schedules::tick`]).
pub struct Schedules {
    pub(crate) read: Arc<dyn ReadSchedules>,
    pub(crate) write: Arc<dyn WriteSchedules>,
    pub(crate) runs: Runs,
    /// Told when there may be something sooner than was thought.
    pub(crate) changed: Notify,
}

/// What they need.
pub struct Ports {
    /// To look them up.
    pub read: Arc<dyn ReadSchedules>,
    /// To deal with ticks.
    pub write: Arc<dyn WriteSchedules>,
    /// What they start, and what else that needs.
    pub runs: Runs,
}

impl Schedules {
    /// Over these ports.
    pub fn new(ports: Ports) -> Self {
        let Ports { read, write, runs } = ports;
        Self { read, write, runs, changed: Notify::new() }
    }

    /// A tenant's schedules, of one workflow or of all, by workflow and number, after `after`.
    ///
    /// # Errors
    /// Where the caller's role does not allow it, or the record does not answer.
    pub async fn list(
        &self,
        caller: &Caller,
        of: Option<&WorkflowName>,
        after: Option<&ScheduleId>,
        limit: u32,
    ) -> Result<Vec<StoredSchedule>, Error> {
        self.authority().authorize(caller, Action::ReadDefinitions).await?;
        Ok(self.read.schedules(&caller.tenant, of, after, limit).await?)
    }

    /// Lets one start nothing until it is continued. Runs under way go on; ticks that come meanwhile are not counted.
    ///
    /// # Errors
    /// Where it is not there, or paused already.
    pub async fn pause(self: &Arc<Self>, caller: &Caller, id: &ScheduleId) -> Result<(), Error> {
        let (schedules, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            let row = schedules.one(&by.tenant, &id).await?;
            let (workflow, number) = (id.workflow.clone(), id.number);
            let change = Change::SchedulePaused { workflow, number, digest: row.digest, why: None };
            schedules.change(&by, &row, false, change).await
        };
        self.authority().perform(caller, Action::PutWorkflow, work).await
    }

    /// Lets one that is paused, or was set aside, start runs again: from its next tick on, in the caller's name.
    ///
    /// # Errors
    /// Where it is not there, or not paused.
    pub async fn go_on(self: &Arc<Self>, caller: &Caller, id: &ScheduleId) -> Result<(), Error> {
        let (schedules, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            let row = schedules.one(&by.tenant, &id).await?;
            let (workflow, number) = (id.workflow.clone(), id.number);
            let next = due::after(&row.timing, schedules.now());
            let change = Change::ScheduleContinued { workflow, number, digest: row.digest, next };
            schedules.change(&by, &row, true, change).await?;
            schedules.changed();
            Ok(())
        };
        self.authority().perform(caller, Action::PutWorkflow, work).await
    }

    /// Starts a run of one at once, beside its ticks, in the caller's name; also where it is paused, and whatever is under way. With a
    /// client's idempotency key that was used for it before: that run.
    ///
    /// # Errors
    /// Where it is not there; as a workflow's run.
    pub async fn run_now(
        self: &Arc<Self>,
        caller: &Caller,
        id: &ScheduleId,
        idempotency: Option<String>,
    ) -> Result<Started, Error> {
        let (schedules, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            let row = schedules.one(&by.tenant, &id).await?;
            let (digest, tick) = (row.digest, schedules.now());
            let start = ScheduledStart { id: id.clone(), digest, tick, due: None, is_alone: false };
            let asked = Digest::of(format!("run-now {id}").as_bytes());
            let key = idempotency.map(|key| (key, asked));
            schedules.runs.start_scheduled(&by, start, key).await.map_err(|error| changed_meanwhile(error, &id))
        };
        self.authority().perform(caller, Action::Run, work).await
    }

    /// What a document plans, from now on.
    pub(crate) fn planned(&self, document: &Document) -> Vec<Planned> {
        let now = self.now();
        let planned = document.schedules.iter().map(|schedule| Planned {
            digest: schedule.digest(),
            timing: schedule.timing.clone(),
            next: due::after(&schedule.timing, now),
        });
        planned.collect()
    }

    /// What must be so for a document with these to be put.
    pub(crate) fn fit(of: &WorkflowName, planned: &[Planned]) -> Changes {
        // bound: schedules
        let more = u32::try_from(planned.len()).unwrap_or(u32::MAX);
        let expects = if more == 0 { Vec::new() } else { vec![Expect::Schedules { of: of.clone(), more }] };
        Changes { deltas: Vec::new(), expects }
    }

    /// What is said where they do not.
    pub(crate) fn too_many(error: StoreError) -> Error {
        match error.kind {
            Kind::Stale => {
                let message = format!(
                    "the tenant's workflows would have more than {MAX_OF_A_TENANT} schedules with this one's: take some out of \
                     others, or put several into one"
                );
                Error::Conflict { code: "too-many-schedules", message }
            }
            _ => error.into(),
        }
    }

    /// Whether all of a workflow's schedules start runs in this key's name, or are paused by somebody.
    pub(crate) async fn are_in_name_of(
        &self,
        tenant: &TenantId,
        workflow: &WorkflowName,
        key: &KeyId,
    ) -> Result<bool, StoreError> {
        let rows = self.read.schedules(tenant, Some(workflow), None, MAX_OF_A_TENANT).await?;
        let is_right = |row: &StoredSchedule| {
            row.by.as_ref() == Some(key) && row.paused.as_ref().is_none_or(|paused| paused.by.is_some())
        };
        Ok(rows.iter().all(is_right))
    }

    /// Says that there may be something sooner than was thought.
    pub(crate) fn changed(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.runs.inner.ports.clock.now()
    }

    fn authority(&self) -> &Arc<Authority> {
        &self.runs.inner.ports.authority
    }

    async fn one(&self, tenant: &TenantId, id: &ScheduleId) -> Result<StoredSchedule, Error> {
        let found = self.read.schedule(tenant, id).await?;
        found.ok_or_else(|| Error::not_found(format!("schedule `{id}`")))
    }

    /// Changes one that is paused or is not, as it was read.
    async fn change(&self, by: &Caller, row: &StoredSchedule, is_paused: bool, change: Change) -> Result<(), Error> {
        let conflict = |message: String| Error::Conflict { code: "conflict", message };
        if row.paused.is_some() != is_paused {
            let how = if is_paused { "not paused" } else { "paused already" };
            return Err(conflict(format!("schedule `{}` is {how}", row.id)));
        }
        let expect = Expect::Schedule { id: row.id.clone(), digest: row.digest, is_paused };
        let changes = Changes { deltas: Vec::new(), expects: vec![expect] };
        let done = self.authority().act_with(&by.tenant, Some(&by.key), change, changes).await;
        done.map_err(|error| match error.kind {
            Kind::Stale => conflict(format!("schedule `{}` was changed just now: look at it again", row.id)),
            _ => error.into(),
        })
    }
}

/// A schedule that was replaced between two looks.
fn changed_meanwhile(error: Error, id: &ScheduleId) -> Error {
    match error {
        Error::Store(error) if error.kind == Kind::Conflict => Error::Conflict {
            code: "conflict",
            message: format!("schedule `{id}` was changed just now: look at it again"),
        },
        error => error,
    }
}

impl std::fmt::Debug for Schedules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schedules").finish_non_exhaustive()
    }
}
