//! Repair: every database that follows the record, compared with it and put right.

use std::sync::Arc;

use ltmc_model::TenantId;
use ltmc_model::caller::Caller;
use ltmc_model::delta::Topic;
use ltmc_policy::Action;
use ltmc_tenancy::{Authority, Error, Read};
use serde::Serialize;

use crate::Follower;
use crate::follower::{Difference, Status};

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
    /// The tenant whose shared context was compared.
    pub tenant: TenantId,
    /// What was compared.
    pub topic: Topic,
    /// How the database and the record differed.
    #[serde(flatten)]
    pub found: Difference,
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
        self.failed.is_empty() && self.reports.iter().all(|report| report.found.count() == 0)
    }
}

/// Compares every database with the record; with `mend`, puts it right.
pub async fn repair(followers: &[Arc<Follower>], mend: bool, progress: &mut (dyn FnMut(&Report) + Send)) -> Outcome {
    let mut outcome = Outcome::default();
    for follower in followers {
        let mut reports = Vec::new();
        let mut note = |tenant: &TenantId, topic: Topic, found: &Difference| {
            let (database, tenant, found) = (follower.name().to_owned(), tenant.clone(), found.clone());
            let report = Report { database, tenant, topic, found };
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
        let (authority, by) = (self.authority.clone(), caller.clone());
        let followers = self.followers.clone();
        let work = async move {
            authority.note_read(&by.tenant, &by.key, Read::Databases);
            Ok(repair(&followers, mend, &mut |report| tracing::info!(?report, mend, "compared")).await)
        };
        self.authority.perform(caller, Action::Repair, work).await
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
