//! Points in time, as the record keeps them.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since the Unix epoch. JSON shows RFC 3339 in UTC, the record keeps the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The end of the year 9999, which is as far as RFC 3339 writes: what waits until then waits for something else.
    pub const NEVER: Self = Self(253_402_300_799_999);

    /// From milliseconds since the Unix epoch; cut at [`Self::NEVER`].
    pub const fn from_millis(millis: u64) -> Self {
        Self(if millis > Self::NEVER.0 { Self::NEVER.0 } else { millis })
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// This much later.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long from `earlier` until this; zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(self.0)).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { to.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if !from.is_human_readable() {
            return u64::deserialize(from).map(Self::from_millis);
        }
        let text = <std::borrow::Cow<'_, str>>::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl FromStr for Timestamp {
    type Err = String;

    /// From RFC 3339 in UTC.
    fn from_str(text: &str) -> Result<Self, String> {
        let time = humantime::parse_rfc3339_weak(text).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let since = time.ok_or_else(|| {
            let given: String = text.chars().take(80).collect();
            format!("`{given}` is not a time: RFC 3339 in UTC, such as 2026-11-24T12:00:00Z")
        })?;
        Ok(Self::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }
}
