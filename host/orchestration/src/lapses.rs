//! Agents' states that end by themselves: each is a timer of the record, and nothing in memory.
//!
//! Invariants: what is due is what the record says, so that a state ends after a restart, and on whichever host is there. It ends once: what is written is
//! decided on the state's revision, which the record checks. Tenants are served side by side, each in a round of its own, and have turns: of one that
//! has very many, or whose cannot be ended yet, nobody else's waits.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ltmc_context::state::declared;
use ltmc_model::TenantId;
use ltmc_model::agent::AgentRef;
use ltmc_model::state::Timer;
use ltmc_policy::Turns;
use ltmc_ports::{Kind, ReadStates, StoreError};

use crate::registry::Registry;
use crate::rounds::{self, AGAIN, Dealt, Due, LONGEST, PAGE, Round, Tells};
use crate::runs::Runs;

/// States that are ended at once.
const AT_ONCE: usize = 8;
/// The longest time between two looks: somebody may have set a timer that is due sooner. A state lasts at least as long.
const LOOKS: Duration = Duration::from_secs(1);
/// Of so many of a tenant's states that could not be ended yet: of twice as many its next round begins twice as long after.
const LEFT: usize = 64;

/// Ends states whose time is over ([`Lapses::attend`]).
pub struct Lapses {
    read: Arc<dyn ReadStates>,
    runs: Runs,
}

/// Nobody tells of timers that are set: it is looked for them.
struct Looks;

impl Tells for Looks {
    async fn told(&mut self) -> Option<HashSet<TenantId>> {
        tokio::time::sleep(LOOKS).await;
        Some(HashSet::new())
    }
}

impl Due for Lapses {
    const NAMED: &'static str = "agents' states that end";
    const OF_A_TENANT: usize = 4;
    const READ: u32 = 4;
    type Row = (TenantId, Timer);
    type Place = Timer;

    fn registry(&self) -> &Arc<Registry> {
        &self.runs.inner.registry
    }

    async fn coming(&self, after: Option<&TenantId>) -> Result<Vec<(TenantId, Duration)>, StoreError> {
        let (page, now) = (self.read.coming_states(after, PAGE).await?, self.runs.inner.ports.clock.now());
        Ok(page.into_iter().map(|(tenant, comes)| (tenant, comes.since(now))).collect())
    }

    async fn due(&self, tenant: &TenantId, after: Option<&Timer>) -> Result<Vec<Self::Row>, StoreError> {
        let now = self.runs.inner.ports.clock.now();
        let due = self.read.due_states(tenant, now, after, Self::READ).await?;
        Ok(due.into_iter().map(|timer| (tenant.clone(), timer)).collect())
    }

    fn place((_, timer): &Self::Row) -> Option<Timer> {
        Some(timer.clone())
    }

    async fn deal_with(&self, (tenant, timer): Self::Row) -> Dealt {
        if self.end(&tenant, &timer).await { Dealt::Done } else { Dealt::Waits }
    }

    fn rests(round: Round) -> Duration {
        match round.waits {
            0 => Duration::ZERO,
            left => AGAIN.saturating_mul(u32::try_from(left / LEFT + 1).unwrap_or(u32::MAX)).min(LONGEST),
        }
    }
}

impl Lapses {
    /// Over these ports.
    pub fn new(read: Arc<dyn ReadStates>, runs: Runs) -> Self {
        Self { read, runs }
    }

    /// Ends what is due, until the host stops.
    pub async fn attend(self: &Arc<Self>) {
        // bound: states
        let turns = Turns::new(AT_ONCE, Self::OF_A_TENANT);
        rounds::keep(self, turns, Looks).await;
    }

    /// Ends one; whether that is done.
    async fn end(&self, tenant: &TenantId, timer: &Timer) -> bool {
        match self.ended(tenant, timer).await {
            Ok(is_done) => is_done,
            // Somebody else was faster.
            Err(error) if error.kind == Kind::Stale => true,
            Err(error) => {
                tracing::warn!(%tenant, agent = %timer.agent, %error, "the state of an agent could not be ended yet");
                false
            }
        }
    }

    async fn ended(&self, tenant: &TenantId, timer: &Timer) -> Result<bool, StoreError> {
        let ports = &self.runs.inner.ports;
        let newest = AgentRef { name: timer.agent.clone(), digest: None };
        let declared = declared(&ports.authority, tenant, &newest).await?.ok();
        let in_force = match ports.authority.agent(tenant, &newest).await? {
            Some(agent) => Some(ports.authority.in_force(tenant, &agent.name, &agent.digest).await?),
            None => None,
        };
        let known = declared.as_ref().zip(in_force.as_deref());
        let revision = || ports.write.next_revision(tenant);
        let lapse = ports.crossing.context.lapse(tenant, timer, known, ports.clock.now(), &revision).await?;
        match lapse {
            Ok(None) => Ok(true),
            Ok(Some(lapse)) => ports.authority.act_with(tenant, None, lapse.change, lapse.changes).await.map(|()| true),
            // It is not known now what its schema says.
            Err(_) => Ok(false),
        }
    }
}

impl std::fmt::Debug for Lapses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lapses").finish_non_exhaustive()
    }
}
