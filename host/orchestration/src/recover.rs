//! Runs of before go on when a host starts.
//!
//! Invariants: each is looked at once. One for which there is no room waits until there is: meanwhile nothing is read of its tenant,
//! and then what was not taken up yet and nothing else, tenants in turns. What cannot be taken up is left as it is.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use ltmc_model::run::Run;
use ltmc_model::{RunId, TenantId};
use ltmc_ports::{Kind, StoreError};
use ltmc_tenancy::Error;

use crate::rescued::{RECOVERED, TRIED, by_host};
use crate::runs::Runs;
use crate::suspects::may_pass;

/// Runs read at once.
const PAGE: u32 = 100;
/// How long until it is looked again whether there is room.
const AGAIN: Duration = Duration::from_secs(1);

/// What a start took up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Runs that go on.
    pub resumed: usize,
    /// Runs that could not be taken up, and stay as they are.
    pub left: usize,
    /// Runs that the host was taking up when it died: they go on one after the other.
    pub suspects: usize,
    /// Runs that were set aside, for the host died of them.
    pub quarantined: usize,
}

/// What is not taken up yet.
#[derive(Default)]
struct Rest {
    /// From which run on, of each tenant that had no room.
    from: BTreeMap<TenantId, RunId>,
    /// These are left as they are.
    left: HashSet<(TenantId, RunId)>,
}

impl Rest {
    /// A run, and what comes after it, is looked at again.
    fn waits(&mut self, tenant: &TenantId, run: RunId) {
        let from = self.from.entry(tenant.clone()).or_insert(run);
        *from = run.min(*from);
    }
}

impl Runs {
    /// Takes up every run that was under way when the host ended; those that cannot be are left as they are. One for which there
    /// is no room waits until there is. Suspects go on by themselves, after all others and one after the other.
    ///
    /// # Errors
    /// Where the record does not say which these are.
    pub async fn recover(&self) -> Result<Recovered, StoreError> {
        let (mut recovered, mut rest) = (Recovered::default(), Rest::default());
        let turn = self.inner.suspects.turn.lock().await;
        self.recover_all(&mut recovered, &mut rest).await?;
        drop(turn);
        while !rest.from.is_empty() && !self.inner.registry.is_stopping() {
            tokio::time::sleep(AGAIN).await;
            self.recover_rest(&mut recovered, &mut rest).await?;
        }
        Ok(recovered)
    }

    /// All that have room, the oldest first.
    async fn recover_all(&self, recovered: &mut Recovered, rest: &mut Rest) -> Result<(), StoreError> {
        let mut after = None;
        while !self.inner.registry.is_stopping() {
            let page = self.inner.ports.read.unfinished(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some((last.tenant.clone(), last.id));
            self.recover_these(page, recovered, rest).await?;
        }
        Ok(())
    }

    /// What waits of those tenants that have room by now.
    async fn recover_rest(&self, recovered: &mut Recovered, rest: &mut Rest) -> Result<(), StoreError> {
        let mut turns: VecDeque<(TenantId, RunId)> = std::mem::take(&mut rest.from).into_iter().collect();
        while let Some((tenant, from)) = turns.pop_front()
            && !self.inner.registry.is_stopping()
        {
            // Nothing is read of one that has none.
            if !self.inner.registry.has_room(&tenant) {
                rest.waits(&tenant, from);
                continue;
            }
            let page = self.inner.ports.read.unfinished_of(&tenant, from, PAGE).await?;
            let next = page.last().filter(|_| page.len() == PAGE as usize).map(|last| last.id);
            self.recover_these(page, recovered, rest).await?;
            if let Some(next) = next.filter(|_| !rest.from.contains_key(&tenant)) {
                turns.push_back((tenant, next));
            }
        }
        Ok(())
    }

    /// Those of a page that are nobody's yet.
    async fn recover_these(
        &self,
        page: Vec<Run>,
        recovered: &mut Recovered,
        rest: &mut Rest,
    ) -> Result<(), StoreError> {
        let registry = &self.inner.registry;
        let mut room = Vec::new();
        for row in page {
            if registry.get(&row.tenant, row.id).is_some() || rest.left.contains(&(row.tenant.clone(), row.id)) {
                continue;
            }
            match registry.has_room(&row.tenant) {
                true => room.push(row),
                false => rest.waits(&row.tenant, row.id),
            }
        }
        let sifted = self.sift(room).await?;
        recovered.suspects += sifted.suspects;
        recovered.quarantined += sifted.quarantined;
        for row in sifted.now {
            self.recover_one(row, recovered, rest).await;
        }
        Ok(())
    }

    async fn recover_one(&self, row: Run, recovered: &mut Recovered, rest: &mut Rest) {
        let (registry, tenant, run) = (&self.inner.registry, row.tenant, row.id);
        if registry.is_stopping() || !registry.has_room(&tenant) {
            rest.waits(&tenant, run);
            return self.not_taken_up(&tenant, run).await;
        }
        let Some(taken) = self.claim(&tenant, run).await else { return };
        by_host(TRIED);
        if taken.is_ok() {
            by_host(RECOVERED);
        }
        match taken {
            Ok(()) => recovered.resumed += 1,
            // Its task is on its way all the same, and takes it up as soon as the record answers.
            Err(_) if registry.get(&tenant, run).is_some() => recovered.resumed += 1,
            Err(error) => {
                self.not_taken_up(&tenant, run).await;
                let passes = match &error {
                    Error::Busy { .. } => true,
                    Error::Store(error) => may_pass(error.kind),
                    _ => false,
                };
                if passes {
                    return rest.waits(&tenant, run);
                }
                tracing::error!(%tenant, %run, %error, "a run could not be taken up again; it stays as it is");
                recovered.left += 1;
                // Another host that was faster goes on with it.
                if !matches!(&error, Error::Store(error) if error.kind == Kind::Fenced) {
                    registry.leave_behind(&tenant, run);
                }
                rest.left.insert((tenant, run));
            }
        }
    }
}
