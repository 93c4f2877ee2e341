//! An agent's own "this did not work".

use std::fmt;

/// What did not work, for programs (`code`) and for people (`message`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// Stable and machine-readable, such as `no-diff`: `[a-z0-9-]`, 1 to 64 bytes.
    pub code: String,
    /// What was wrong, where, and what would be right. At most 4 KiB arrive.
    pub message: String,
    /// Whether the same input may succeed later: a workflow retries only what says so.
    pub retryable: bool,
}

impl Failure {
    /// The code of an input that does not parse.
    pub const BAD_INPUT: &str = "bad-input";
    /// The longest code, in bytes.
    pub const MAX_CODE: usize = 64;
    /// The longest message, in bytes.
    pub const MAX_MESSAGE: usize = 4 << 10;

    /// A failure that the same input will meet again.
    ///
    /// # Panics
    /// Without optimisation, so in tests: when the code is not `[a-z0-9-]` of 1 to 64 bytes.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let code = code.into();
        debug_assert!(
            valid(&code),
            "`{code}` is no failure code: it has 1 to {} of `a` to `z`, `0` to `9`, `-`",
            Self::MAX_CODE
        );
        Self { code, message: message.into(), retryable: false }
    }

    /// The same input may succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// As the contract bounds it: the message cut, a code that is none replaced.
    #[cfg_attr(not(target_arch = "wasm32"), expect(dead_code, reason = "applied where a failure leaves the component"))]
    pub(crate) fn bounded(mut self) -> Self {
        if !valid(&self.code) {
            self.message = format!("{}: {}", self.code, self.message);
            self.code = "failed".to_owned();
        }
        self.message.truncate(self.message.floor_char_boundary(Self::MAX_MESSAGE));
        self
    }
}

fn valid(code: &str) -> bool {
    (1..=Failure::MAX_CODE).contains(&code.len())
        && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}
