//! Timers of agents' states in memory: what the states say, looked through.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ltmc_model::memory::Drawer;
use ltmc_model::state::{Kept, Timer};
use ltmc_model::{TenantId, Timestamp};

use super::MemoryRecord;
use crate::{ReadStates, StoreError};

impl MemoryRecord {
    fn timers(&self) -> Vec<(TenantId, Timer)> {
        self.context(|context| {
            let timer = |(tenant, drawer, key): &(TenantId, Drawer, String), value: &[u8]| {
                let Drawer::State(agent) = drawer else { return None };
                let at = Kept::from_bytes(value).ok()?.due?;
                Some((tenant.clone(), Timer { at, agent: agent.clone(), key: key.clone() }))
            };
            context.memory.iter().filter_map(|(place, item)| timer(place, &item.value)).collect()
        })
    }
}

#[async_trait]
impl ReadStates for MemoryRecord {
    async fn coming_states(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, Timestamp)>, StoreError> {
        let mut first: BTreeMap<TenantId, Timestamp> = BTreeMap::new();
        for (tenant, timer) in self.timers().into_iter().filter(|(tenant, _)| after.is_none_or(|after| tenant > after))
        {
            first.entry(tenant).and_modify(|at| *at = timer.at.min(*at)).or_insert(timer.at);
        }
        Ok(first.into_iter().take(limit as usize).collect())
    }

    async fn due_states(
        &self,
        tenant: &TenantId,
        now: Timestamp,
        after: Option<&Timer>,
        limit: u32,
    ) -> Result<Vec<Timer>, StoreError> {
        let theirs = self.timers().into_iter().filter(|(of, _)| of == tenant).map(|(_, timer)| timer);
        let mut due: Vec<Timer> =
            theirs.filter(|timer| timer.at <= now && after.is_none_or(|after| timer > after)).collect();
        due.sort();
        due.truncate(limit as usize);
        Ok(due)
    }
}
