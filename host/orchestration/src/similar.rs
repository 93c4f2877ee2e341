//! Workflows that were run and are like something.

use ltmc_model::caller::Caller;
use ltmc_model::recall::MAX_QUERY;
use ltmc_policy::Action;
use ltmc_tenancy::Error;

use crate::experience::Similar;
use crate::runs::{Runs, may_see};

/// How many are told at most.
const MOST: u32 = 50;

impl Runs {
    /// Workflows of which runs are over and that are like a text, the nearest first; for a key of the role `caller` of its own runs.
    ///
    /// # Errors
    /// Where the text is blank or too long; the record's and the index's.
    pub async fn similar(&self, caller: &Caller, text: &str, limit: u32) -> Result<Vec<Similar>, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        if text.trim().is_empty() || text.len() > MAX_QUERY {
            let message = format!("`text` has 1 to {MAX_QUERY} bytes, not {}, and is not blank", text.len());
            return Err(Error::invalid("bad-query", "text", message));
        }
        if !(1..=MOST).contains(&limit) {
            return Err(Error::invalid("bad-query", "limit", format!("`limit` is 1 to {MOST}, not {limit}")));
        }
        match &self.inner.experience {
            Some(experience) => {
                let found = experience.similar(&caller.tenant, text, |by| may_see(caller, by), limit as usize).await;
                Ok(found?)
            }
            None => Ok(Vec::new()),
        }
    }
}
