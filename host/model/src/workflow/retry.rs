//! How often something is tried, how long is waited between, and what comes where it is not tried again.

use std::time::Duration;

use crate::failure::{Code, Failure};

/// How often a step is tried, and how long it waits between: exponential back-off with full jitter.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Tries in all, 1 to [`Retry::MAX_ATTEMPTS`].
    pub attempts: u32,
    /// The longest wait after the first try.
    pub backoff: Duration,
    /// What each further wait is multiplied by, 1 to [`Retry::MAX_FACTOR`].
    pub factor: f64,
    /// No wait is longer.
    pub max: Duration,
    /// After which failures it is tried again; empty: after those that may pass.
    pub on: Vec<Code>,
    /// What comes where it is not tried again.
    pub then: Then,
}

impl Retry {
    /// Most tries of a step.
    pub const MAX_ATTEMPTS: u32 = 100;

    /// The largest factor.
    pub const MAX_FACTOR: f64 = 10.0;

    /// The longest wait that can be asked for.
    pub const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

    /// One try.
    pub fn none() -> Self {
        Self { attempts: 1, ..Self::default() }
    }

    /// The longest wait after try number `tries`, from 1 on; the jitter draws from nothing up to this.
    pub fn longest_wait(&self, tries: u32) -> Duration {
        let exponent = i32::try_from(tries.saturating_sub(1)).unwrap_or(i32::MAX);
        let wait = self.backoff.as_secs_f64() * self.factor.powi(exponent);
        // Not a number and infinity come out as the longest.
        if wait < self.max.as_secs_f64() { Duration::from_secs_f64(wait) } else { self.max }
    }

    /// Whether another try makes sense after a failure.
    pub fn covers(&self, failure: &Failure) -> bool {
        if self.on.is_empty() { failure.may_pass() } else { self.on.contains(&failure.code) }
    }
}

/// What `retry: {}` means.
impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Duration::from_millis(200),
            factor: 2.0,
            max: Duration::from_secs(30),
            on: Vec::new(),
            then: Then::Fail,
        }
    }
}

/// What comes where something has failed and is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Then {
    /// It fails.
    #[default]
    Fail,
    /// The run waits for people, who put right what is wrong.
    Pause,
}
