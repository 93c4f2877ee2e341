//! Time and randomness: the only way to either, so that a run replays the same.

use ltmc_model::Timestamp;

/// The host's clock.
pub trait Clock: Send + Sync {
    /// Now, to the millisecond.
    fn now(&self) -> Timestamp;
}

/// The host's source of randomness, fit for secrets.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}
