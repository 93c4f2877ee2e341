//! What an endpoint is asked for, and how: also in a build that has none.

use std::fmt;
use std::time::Duration;

/// A key, which shows itself to nobody.
#[derive(Clone)]
#[cfg_attr(not(feature = "openai"), expect(dead_code, reason = "only an endpoint is told it"))]
pub struct Secret(pub(crate) String);

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What an endpoint is asked for, and how. It is reached directly, not through a proxy.
#[derive(Debug, Clone)]
pub struct Options {
    /// The protocol's root, such as `https://api.openai.com/v1` or `http://localhost:11434/v1`.
    pub base_url: String,
    /// The model's name, as the endpoint knows it.
    pub model: String,
    /// Sent as a bearer token.
    pub api_key: Option<Secret>,
    /// Numbers of a vector. Given, the endpoint is asked for that many, and not asked anything at start; left out, it is asked
    /// at start how many there are. Leave it out for a model that has one size only: some endpoints refuse to be told.
    pub dimensions: Option<u32>,
    /// Texts of a request, at most 2048.
    pub batch: usize,
    /// For an attempt, whole.
    pub timeout: Duration,
    /// Attempts after the first, at most 10.
    pub retries: u32,
}

impl Options {
    /// The usual: no key, dimensions as the endpoint has them, 64 texts a request, 30 seconds, 4 more attempts.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            api_key: None,
            dimensions: None,
            batch: 64,
            timeout: Duration::from_secs(30),
            retries: 4,
        }
    }
}
