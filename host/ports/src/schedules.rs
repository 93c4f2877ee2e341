//! The ports of schedules: which there are, when they come, and what became of their ticks.
//!
//! Invariants: schedules follow their workflow's document in the act that puts or deletes it. A tick is dealt with once: who deals with
//! it says which tick it took for the first one that is open, and the record refuses whoever comes second. That a run is started and
//! that its tick is dealt with is one commit.

use async_trait::async_trait;
use ltmc_model::schedule::{Passed, Planned, ScheduleId, Timing, Trouble};
use ltmc_model::{Digest, KeyId, RunId, TenantId, Timestamp, WorkflowName};

use crate::StoreError;

/// A schedule as the record keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSchedule {
    /// The tenant that it belongs to.
    pub tenant: TenantId,
    /// The schedule, by its workflow and number.
    pub id: ScheduleId,
    /// Of all that its document says of it.
    pub digest: Digest,
    /// When it comes.
    pub timing: Timing,
    /// In the name of which key it starts runs; none: the host's own, which starts none.
    pub by: Option<KeyId>,
    /// The first tick that has not been dealt with.
    pub next: Timestamp,
    /// Since when it starts nothing, and why.
    pub paused: Option<Paused>,
    /// The run that it started last.
    pub last: Option<LastStart>,
    /// How many runs it has started.
    pub started: u64,
    /// How many of its ticks were passed over, for the run before was under way.
    pub skipped: u64,
    /// How many were missed.
    pub missed: u64,
    /// What is to be told of a tick that was not started at once.
    pub trouble: Option<Trouble>,
}

/// That a schedule starts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// When it was paused.
    pub at: Timestamp,
    /// Who did it; none: the host.
    pub by: Option<KeyId>,
    /// Why the host did.
    pub why: Option<String>,
}

/// The run that a schedule started last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastStart {
    /// The id of the run.
    pub run: RunId,
    /// The scheduled time that the run was started for.
    pub tick: Timestamp,
}

/// What becomes of the ticks of a schedule that are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticked {
    /// The first tick that was open, as it was decided on.
    pub due: Timestamp,
    /// The first that is open from now on; the same: it waits.
    pub next: Timestamp,
    /// How many of those between come to nothing.
    pub passed: Passed,
    /// What is to be told of it.
    pub trouble: Option<Trouble>,
}

/// By what a schedule starts a run: with the run's first entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledStart {
    /// The schedule, by its workflow and number.
    pub id: ScheduleId,
    /// What it is: another one that has the number by now starts nothing.
    pub digest: Digest,
    /// The scheduled time that the run is started for.
    pub tick: Timestamp,
    /// What becomes of the ticks that are due; none: somebody asked for the run beside them, also where it is paused.
    pub due: Option<Ticked>,
    /// Whether the run that it started last has to be over.
    pub is_alone: bool,
}

/// Where a schedule stands among its tenant's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Coming {
    /// When it comes.
    pub next: Timestamp,
    /// The schedule, by its workflow and number; it orders those that come at the same time.
    pub id: ScheduleId,
}

impl StoredSchedule {
    /// One of a document that is put by `by`, as it goes on from what there was of the same: also its pause, unless that was the
    /// host's, for which the new name in which it starts runs may be a remedy.
    #[must_use]
    pub fn planned(
        tenant: &TenantId,
        id: ScheduleId,
        planned: &Planned,
        by: Option<&KeyId>,
        before: Option<&Self>,
    ) -> Self {
        let new = Self {
            tenant: tenant.clone(),
            id,
            digest: planned.digest,
            timing: planned.timing.clone(),
            by: by.cloned(),
            next: planned.next,
            paused: None,
            last: None,
            started: 0,
            skipped: 0,
            missed: 0,
            trouble: None,
        };
        let Some(before) = before else { return new };
        let was_set_aside = before.paused.as_ref().is_some_and(|paused| paused.by.is_none());
        let next = if was_set_aside { new.next } else { before.next };
        let paused = before.paused.clone().filter(|_| !was_set_aside);
        Self { id: new.id, by: new.by, next, paused, ..before.clone() }
    }

    /// Where it stands.
    pub fn place(&self) -> Coming {
        Coming { next: self.next, id: self.id.clone() }
    }

    /// Whether a start by it can be recorded, as far as its row goes.
    pub fn allows(&self, start: &ScheduledStart) -> bool {
        let is_open = |ticked: &Ticked| self.paused.is_none() && self.next == ticked.due;
        self.digest == start.digest && start.due.as_ref().is_none_or(is_open)
    }

    /// What it is once due ticks are dealt with.
    pub fn tick(&mut self, ticked: &Ticked) {
        self.next = ticked.next;
        self.skipped += u64::from(ticked.passed.skipped);
        self.missed += u64::from(ticked.passed.missed);
        self.trouble.clone_from(&ticked.trouble);
    }

    /// What it is once it has started a run.
    pub fn start(&mut self, run: RunId, start: &ScheduledStart) {
        self.last = Some(LastStart { run, tick: start.tick });
        self.started += 1;
        if let Some(ticked) = &start.due {
            self.tick(ticked);
        }
    }
}

/// For whoever deals with ticks.
#[async_trait]
pub trait WriteSchedules: Send + Sync {
    /// Deals with due ticks that start nothing, or says why one waits. Whether it did: not where the schedule is another by now, is paused,
    /// or its ticks were dealt with. On return it outlives this process; the machine only with what is brought to disk after it.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer, or refuses the change.
    async fn tick(
        &self,
        tenant: &TenantId,
        id: &ScheduleId,
        digest: Digest,
        ticked: Ticked,
    ) -> Result<bool, StoreError>;
}

/// For those who read schedules.
#[async_trait]
pub trait ReadSchedules: Send + Sync {
    /// A schedule.
    async fn schedule(&self, tenant: &TenantId, id: &ScheduleId) -> Result<Option<StoredSchedule>, StoreError>;

    /// A tenant's schedules, of one workflow or of all, by workflow and number, after `after`, at most `limit`.
    async fn schedules(
        &self,
        tenant: &TenantId,
        of: Option<&WorkflowName>,
        after: Option<&ScheduleId>,
        limit: u32,
    ) -> Result<Vec<StoredSchedule>, StoreError>;

    /// Tenants after `after` that have schedules that are not paused, by name, each with when the first of them comes. What it costs does
    /// not grow with how many schedules they have.
    async fn coming(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<(TenantId, Timestamp)>, StoreError>;

    /// A tenant's schedules that are not paused, those first that come first, after `after`.
    async fn due(
        &self,
        tenant: &TenantId,
        after: Option<&Coming>,
        limit: u32,
    ) -> Result<Vec<StoredSchedule>, StoreError>;
}
