//! The host's side of the interface `ltmc:agent/state`.

use ltmc_model::Revision;
use ltmc_model::call::state as call;
use ltmc_model::state::Told;

use super::{Answered, wit};
use crate::guest::Guest;
use wit::state::{Current, Refusal};

impl wit::state::Host for Guest {
    async fn get(&mut self) -> Answered<Result<Current, Refusal>> {
        Ok(self.cross(call::Get).await?.map(told))
    }

    async fn transition(
        &mut self,
        event: String,
        patch: String,
        expected: Option<u64>,
    ) -> Answered<Result<Current, Refusal>> {
        let call = call::Transition { event, patch, expected: expected.map(Revision) };
        Ok(self.cross(call).await?.map(told))
    }
}

fn told(told: Told) -> Result<Current, Refusal> {
    match told {
        Ok(now) => Ok(Current { state: now.state, data: now.data, revision: now.revision.0, version: now.version }),
        Err(refused) => Err(Refusal { rule: refused.rule, message: refused.message }),
    }
}
