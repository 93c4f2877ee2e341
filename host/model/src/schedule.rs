//! Schedules: at which times a workflow is started by itself.
//!
//! Invariants: what is a [`Timing`] comes at some time. When it comes is a function of it and of a moment alone, by the rules of time
//! zones that this version was built with.
//!
//! - [`cron`]: the expression; [`zone`]: whose clock it is by; here: what they come to together, also where the clock is changed

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Digest, Timestamp, WorkflowName};

mod cron;
mod zone;

pub use cron::Cron;
pub use zone::Zone;

/// How many schedules a document may have.
pub const MAX_OF_A_DOCUMENT: usize = 16;
/// How many schedules a tenant may have, in all its workflows.
pub const MAX_OF_A_TENANT: u32 = 1_000;

/// When a schedule comes, and what becomes of a tick that cannot be started at its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Timing {
    cron: Cron,
    zone: Zone,
    overlap: Overlap,
    catch_up: Duration,
    until: Option<Timestamp>,
}

/// What becomes of a tick while the run of the one before is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// It is passed over.
    #[default]
    Skip,
    /// It waits for that run's end; where several wait the newest is started, and the others are passed over.
    Queue,
    /// It is started beside it.
    Parallel,
}

/// Which tick of which schedule a run was started by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scheduled {
    /// The schedule's number in its document, from 1 on.
    pub number: u32,
    /// When it came; of a run that somebody asked for beside the schedule, when that was.
    pub tick: Timestamp,
    /// Whether somebody asked for it beside the schedule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked_for: bool,
}

/// A schedule of a document that is put, as the record keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Planned {
    /// Of the schedule with its input: one that is the same in the next document goes on as it is.
    pub digest: Digest,
    /// When it comes.
    pub timing: Timing,
    /// When it comes first.
    pub next: Timestamp,
}

/// Which schedule of a tenant's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleId {
    /// The workflow whose document has it.
    pub workflow: WorkflowName,
    /// Its number in the document, from 1 on.
    pub number: u32,
}

/// What became of the ticks that were due at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// Passed over, for the run before was under way.
    pub skipped: u32,
    /// Missed: nobody was there in time, or it could not be started.
    pub missed: u32,
}

/// The newest that is to be told of ticks that were not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trouble {
    /// The scheduled time that was not started at once.
    pub tick: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, for people.
    pub why: String,
}

/// What becomes of a tick that is not started at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It may still be started.
    Waits,
    /// It was passed over.
    Skipped,
    /// It was not started in time.
    Missed,
}

impl Timing {
    /// How long after its time a tick is still started where nothing is said.
    pub const CATCH_UP: Duration = Duration::from_secs(60 * 60);
    /// The least of it: nobody looks at the very moment.
    pub const LEAST_CATCH_UP: Duration = Duration::from_secs(60);
    /// The most of it.
    pub const MOST_CATCH_UP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// Of these.
    pub fn new(cron: Cron, zone: Zone, overlap: Overlap, catch_up: Duration) -> Self {
        Self { cron, zone, overlap, catch_up, until: None }
    }

    /// The same, with no tick after a moment.
    #[must_use]
    pub fn ending(self, until: Option<Timestamp>) -> Self {
        Self { until, ..self }
    }

    /// After when it comes no more; none: it goes on for ever.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// The expression.
    pub fn cron(&self) -> &Cron {
        &self.cron
    }

    /// Whose clock it is by.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// What becomes of a tick while the run of the one before is under way.
    pub fn overlap(&self) -> Overlap {
        self.overlap
    }

    /// How long after its time a tick is still started.
    pub fn catch_up(&self) -> Duration {
        self.catch_up
    }

    /// The first tick after a moment; none: there is no other.
    ///
    /// Of a schedule that names hours each time of the clock is one tick, whatever is done to the clock: one that it skips comes
    /// the moment after, one that it shows twice comes the first time. One that comes in every hour goes with the clock: what is
    /// skipped does not come, what is shown twice comes twice.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.next_ever(after).filter(|at| self.until.is_none_or(|until| *at <= until))
    }

    fn next_ever(&self, after: Timestamp) -> Option<Timestamp> {
        if !self.cron.names_hours() {
            return self.cron.next_instant(&self.zone, after);
        }
        let mut civil = self.zone.civil(after)?;
        loop {
            civil = self.cron.next_civil(civil)?;
            // Where the clock is put back it shows times anew that have been.
            let at = self.zone.first(civil)?;
            if at > after {
                return Some(at);
            }
        }
    }

    /// The ticks after a moment, in order.
    pub fn ticks(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        std::iter::successors(self.next(after), |tick| self.next(*tick))
    }
}

/// How a timing is written down.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Form {
    schedule: String,
    zone: String,
    overlap: Overlap,
    catch_up: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

impl From<Timing> for Form {
    fn from(timing: Timing) -> Self {
        Self {
            schedule: timing.cron.as_str().to_owned(),
            zone: timing.zone.as_str().to_owned(),
            overlap: timing.overlap,
            catch_up: humantime::format_duration(timing.catch_up).to_string(),
            until: timing.until.map(|until| until.to_string()),
        }
    }
}

impl TryFrom<Form> for Timing {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        let Form { schedule, zone, overlap, catch_up, until } = form;
        let until = until.map(|until| until.parse()).transpose()?;
        let catch_up = humantime::parse_duration(&catch_up).map_err(|e| format!("`catch-up`: {e}"))?;
        Ok(Self::new(schedule.parse()?, zone.parse()?, overlap, catch_up).ending(until))
    }
}

impl Overlap {
    /// All of them, by their words.
    pub const WORDS: [(&'static str, Self); 3] =
        [("skip", Self::Skip), ("queue", Self::Queue), ("parallel", Self::Parallel)];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
            Self::Parallel => "parallel",
        }
    }
}

impl Outcome {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
        }
    }
}

impl std::fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.workflow, self.number)
    }
}

impl std::str::FromStr for ScheduleId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = text.split_once('/').and_then(|(workflow, number)| {
            Some(Self { workflow: workflow.parse().ok()?, number: number.parse().ok()? })
        });
        read.ok_or_else(|| format!("`{}` is no schedule: WORKFLOW/NUMBER", text.chars().take(80).collect::<String>()))
    }
}

impl Trouble {
    /// The longest reason that is kept, in characters.
    const MAX_WHY: usize = 300;

    /// Of a tick; what is too long of the reason is cut off.
    pub fn new(tick: Timestamp, outcome: Outcome, why: &str) -> Self {
        Self { tick, outcome, why: why.chars().take(Self::MAX_WHY).collect() }
    }
}

#[cfg(test)]
mod tests;
