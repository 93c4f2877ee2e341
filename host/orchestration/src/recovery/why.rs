//! Why a run stands where it does.

use std::sync::Arc;

use ltmc_journal::why::Next;
use ltmc_journal::{History, Why};
use ltmc_model::agent::AgentRef;
use ltmc_model::caller::Caller;
use ltmc_model::capability::{Any, Capability};
use ltmc_model::session::Stage;
use ltmc_model::{RunId, TenantId};
use ltmc_policy::{Action, InForce};
use ltmc_ports::Durability;
use ltmc_tenancy::Error;

use crate::runs::Runs;

/// How many agents are looked at.
const AGENTS: usize = 500;

impl Runs {
    /// Why a run stands where it does, what it waits for, and what can be done next.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn why(&self, caller: &Caller, run: RunId) -> Result<Why, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        self.settle(&caller.tenant, run, Durability::Barrier).await?;
        let row = self.seen(caller, run).await?;
        let outline = self.outline(&caller.tenant, run).await?;
        let mut why = Why::new(&row, &outline.history);
        let stage = self.stage(&row).await?;
        if stage == Some(Stage::Over) {
            // It is said again, or restarted as a run of its own.
            why.next.retain(|next| !next.command.starts_with("ltmc runs resume"));
        }
        if stage == Some(Stage::Queued) && !row.state.is_over() {
            let turn = row.turn.unwrap_or_default();
            let cancel = Next {
                command: format!("ltmc session cancel {} {turn}", row.session),
                does: "ends it before it begins; those behind it go on".to_owned(),
            };
            // Whatever else can be done to a run that waits is refused of a turn that does.
            why.next = vec![cancel];
            why.summary = format!(
                "It waits for its turn, number {turn}, in session {}: another one is at work there",
                row.session
            );
        }
        self.look_who_can(&caller.tenant, &outline.history, &mut why).await?;
        Ok(why)
    }

    /// Names what may be waited for in vain: an agent that is not there any more, a topic that no agent may publish to.
    async fn look_who_can(&self, tenant: &TenantId, history: &History, why: &mut Why) -> Result<(), Error> {
        let authority = &self.inner.ports.authority;
        let mut in_force = None;
        for waits in &mut why.waits {
            if let Some(Ok(agent)) = waits.called.agent.as_ref().map(|agent| agent.parse::<AgentRef>()) {
                let pinned = history.started().and_then(|started| started.agents.get(&agent.name).copied());
                let pinned = AgentRef { digest: pinned.or(agent.digest), name: agent.name };
                if authority.agent(tenant, &pinned).await?.is_none() {
                    waits.in_vain = Some(format!("agent `{}` is not there any more: push it again", pinned.name));
                }
            }
            let node = history.node(&waits.called.step);
            let Some(listens) = node.filter(|node| node.is_waiting()).and_then(|node| node.listens.as_ref()) else {
                continue;
            };
            let found = match in_force.take() {
                Some(found) => found,
                None => self.all_in_force(tenant).await?,
            };
            let publishes = [Capability::MessagePublish(Any::One(listens.topic.clone()))];
            if found.iter().all(|one| !one.missing(&publishes).is_empty()) {
                waits.in_vain = Some(format!(
                    "no agent may publish to `{}`, of those that were looked at ({}): only people, or a workflow with `emit`",
                    listens.topic,
                    found.len()
                ));
            }
            in_force = Some(found);
        }
        Ok(())
    }

    /// What is in force for the tenant's agents, each in its newest version.
    async fn all_in_force(&self, tenant: &TenantId) -> Result<Vec<Arc<InForce>>, Error> {
        let authority = &self.inner.ports.authority;
        let mut all = Vec::new();
        for agent in authority.agents(tenant).await?.iter().take(AGENTS) {
            if let Some(agent) = authority.agent(tenant, agent).await? {
                all.push(authority.in_force(tenant, &agent.name, &agent.digest).await?);
            }
        }
        Ok(all)
    }
}
