//! What calls on an agent's own state come to: by the declaration of the version that asks, and with the migration that this needs first.
//!
//! Invariants: a migration is a run of its own, a child of the step that asks, which a crash does not begin twice. What came of it is true
//! before the call is answered: the migrated state, or that the old one is set aside.

use std::sync::Arc;

use ltmc_context::Decided;
use ltmc_context::state::{Migrated, Migration, Stated, declared};
use ltmc_model::agent::AgentRef;
use ltmc_model::call::state::StateCall;
use ltmc_model::capability::Any;
use ltmc_model::effect::Refusal;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::state::Declared;
use ltmc_model::{Capability, Digest, Payload};
use ltmc_policy::Verdict;
use ltmc_ports::children::Wanted;

use crate::{Crossing, Turn, broken, unanswered, unavailable};

impl Crossing {
    /// What a call on the agent's own state comes to that is allowed.
    pub(crate) async fn stated(&self, turn: &mut Turn, call: &StateCall, request: Digest) -> Result<Decided, Failure> {
        let declared = match self.declared(turn).await {
            Ok(declared) => declared,
            Err(refusal) => return Ok(Decided::Answer(Err(refusal))),
        };
        let revision = || self.log.next_revision();
        loop {
            let stated = self.shared.context.state(self.asked(turn, &revision), &declared, call).await;
            let migration = match stated {
                Ok(Stated::Decided(decided)) => return Ok(*decided),
                Ok(Stated::Migrate(migration)) => *migration,
                Err(error) => return unanswered(&error),
            };
            let output = match self.migration(turn, &migration, request).await? {
                Ok(output) => output,
                Err(refusal) => return Ok(Decided::Answer(Err(refusal))),
            };
            let asked = self.asked(turn, &revision);
            match self.shared.context.migrated(asked, &declared, migration, output).await {
                Ok(Ok(Migrated::Done(Decided::Change(_, commit)))) => {
                    turn.transaction.add(commit)?;
                    self.checkpoint(turn).await?;
                }
                Ok(Ok(Migrated::Done(decided) | Migrated::Quarantined(decided))) => return Ok(decided),
                Ok(Err(refusal)) => return Ok(Decided::Answer(Err(refusal))),
                Err(error) => return unanswered(&error),
            }
        }
    }

    /// What the version that asks declares.
    async fn declared(&self, turn: &mut Turn) -> Result<Arc<Declared>, Refusal> {
        if let Some(known) = &turn.declared {
            return Ok(known.clone());
        }
        let agent = AgentRef { name: self.agent.clone(), digest: Some(self.component) };
        let found = declared(&self.shared.authority, self.log.tenant(), &agent).await.map_err(|e| unavailable(&e))?;
        let found = Arc::new(found.map_err(Refusal::Invalid)?);
        turn.declared = Some(found.clone());
        Ok(found)
    }

    /// Has the agent of a migration do it: what it gave, or why it gave nothing.
    async fn migration(
        &self,
        turn: &mut Turn,
        migration: &Migration,
        request: Digest,
    ) -> Result<Result<Result<Payload, String>, Refusal>, Failure> {
        if !turn.transaction.levels().is_empty() {
            let why = "its state is of an older version, and is not migrated in a branch with a context of its own: what the migration \
                       does would be true at once";
            return Ok(Err(Refusal::Invalid(why.into())));
        }
        let agent = migration.agent.clone();
        let in_force = self.shared.authority.in_force(self.log.tenant(), &self.agent, &self.component).await;
        let in_force = in_force.map_err(|e| broken(&e))?;
        if let Verdict::Denied(missing) | Verdict::Withheld(missing) =
            in_force.decide(&[Capability::Call(Any::One(agent.clone()))])
        {
            return Ok(Err(Refusal::Denied(missing)));
        }
        let run = match self.begun(turn, Wanted::Agent(agent), migration.input.clone(), request, false).await? {
            Ok(run) => run,
            Err(refusal) => return Ok(Err(refusal)),
        };
        match self.ended(run).await?.result {
            Ok(output) => Ok(Ok(Ok(output))),
            Err(failure) if is_no_answer(&failure) => {
                let message = format!("the migration of its state came to nothing yet: {failure}");
                Ok(Err(Refusal::Unavailable { message, retry_after_ms: 1_000 }))
            }
            Err(failure) => Ok(Ok(Err(failure.to_string()))),
        }
    }
}

/// Whether a failure says nothing of the migration itself: the host had no room for it, somebody ended it, or its run waits for people.
fn is_no_answer(failure: &Failure) -> bool {
    match failure.code {
        Code::AgentError => failure.retryable,
        code => matches!(
            code,
            Code::Busy
                | Code::Unavailable
                | Code::StorageFull
                | Code::DiskQuotaExceeded
                | Code::QuotaExceeded
                | Code::Internal
                | Code::Cancelled
                | Code::Fenced
                | Code::Paused
                | Code::Stuck
                | Code::Quarantined
        ),
    }
}
