//! The host's side of the interface `ltmc:agent/attempt`.

use ltmc_model::call::attempt::Checkpoint;

use super::{Answered, wit};
use crate::guest::Guest;

impl wit::attempt::Host for Guest {
    async fn checkpoint(&mut self) -> Answered<()> {
        self.cross(Checkpoint).await
    }
}
