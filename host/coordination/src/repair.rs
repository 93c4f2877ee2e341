//! Repair: every database that follows the record, compared with it and put right.

use std::sync::Arc;

use ltmc_model::TenantId;
use ltmc_model::caller::Caller;
use ltmc_model::delta::Topic;
use ltmc_policy::Action;
use serde::Serialize;

use crate::following::{Difference, Status};
use crate::{Authority, Error, Follower};

/// Keys that a report names; the rest is counted.
const NAMED: usize = 20;

/// The use case.
#[derive(Debug)]
pub struct Repairs {
    authority: Arc<Authority>,
    followers: Vec<Arc<Follower>>,
}

/// What one comparison found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The database.
    pub database: String,
    /// Whose.
    pub tenant: TenantId,
    /// What was compared.
    pub topic: Topic,
    /// Items of the record that were looked at.
    pub compared: u64,
    /// How many were missing in the database.
    pub missing: usize,
    /// How many were of another version.
    pub different: usize,
    /// How many the record does not have.
    pub extra: usize,
    /// Some of their keys.
    pub some: Vec<String>,
}

/// What became of a repair.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Outcome {
    /// Every comparison.
    pub reports: Vec<Report>,
    /// Databases that could not be compared, and why.
    pub failed: Vec<(String, String)>,
}

impl Outcome {
    /// Whether every database answered and held what the record holds.
    pub fn is_equal(&self) -> bool {
        self.failed.is_empty()
            && self.reports.iter().all(|report| report.missing + report.different + report.extra == 0)
    }
}

impl Report {
    fn of(database: &str, tenant: &TenantId, topic: Topic, found: &Difference) -> Self {
        let keys = found.missing.iter().chain(&found.different).chain(&found.extra);
        Self {
            database: database.to_owned(),
            tenant: tenant.clone(),
            topic,
            compared: found.compared,
            missing: found.missing.len(),
            different: found.different.len(),
            extra: found.extra.len(),
            some: keys.take(NAMED).cloned().collect(),
        }
    }
}

/// Compares every database with the record; with `mend`, puts it right.
pub async fn repair(followers: &[Arc<Follower>], mend: bool, progress: &mut (dyn FnMut(&Report) + Send)) -> Outcome {
    let mut outcome = Outcome::default();
    for follower in followers {
        let mut reports = Vec::new();
        let mut note = |tenant: &TenantId, topic: Topic, found: &Difference| {
            let report = Report::of(follower.name(), tenant, topic, found);
            progress(&report);
            reports.push(report);
        };
        let done = follower.repair(mend, &mut note).await;
        outcome.reports.extend(reports);
        if let Err(error) = done {
            outcome.failed.push((follower.name().to_owned(), error.reason()));
        }
    }
    outcome
}

impl Repairs {
    /// Of these databases.
    pub fn new(authority: Arc<Authority>, followers: Vec<Arc<Follower>>) -> Self {
        Self { authority, followers }
    }

    /// See [`repair`].
    ///
    /// # Errors
    /// Where the caller may not.
    pub async fn repair(&self, caller: &Caller, mend: bool) -> Result<Outcome, Error> {
        self.authority.authorize(caller, Action::Repair).await?;
        Ok(repair(&self.followers, mend, &mut |report| tracing::info!(?report, mend, "compared")).await)
    }

    /// How each database follows.
    ///
    /// # Errors
    /// Where the caller may not.
    pub async fn statuses(&self, caller: &Caller) -> Result<Vec<Status>, Error> {
        self.authority.authorize(caller, Action::Repair).await?;
        Ok(self.followers.iter().map(|follower| follower.status()).collect())
    }
}
