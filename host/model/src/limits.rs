//! Limits of one call: what a manifest wishes, what a ceiling allows, what holds.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// What one call may use. `None` in a wish or a ceiling: no opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wishes {
    /// Linear memory, such as `64MiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// CPU time, such as `2s`.
    #[serde(default, with = "span", skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Duration>,
    /// Wall time, such as `30s`.
    #[serde(default, with = "span", skip_serializing_if = "Option::is_none")]
    pub wall: Option<Duration>,
    /// The result's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<ByteSize>,
}

/// What holds for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Linear memory, in bytes, all memories of the instance together.
    pub memory: u64,
    /// CPU time.
    pub cpu: Duration,
    /// Wall time, waiting included.
    pub wall: Duration,
    /// Bytes of the result, and of standard output.
    pub output: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(64).as_u64(),
            cpu: Duration::from_secs(2),
            wall: Duration::from_secs(30),
            output: ByteSize::mib(8).as_u64(),
        }
    }
}

impl Limits {
    /// What holds: the wish where there is one, else the default, and never more than the ceiling (which is the default
    /// where the tenant has none).
    pub fn in_force(wish: &Wishes, ceiling: &Wishes) -> Self {
        let default = Self::default();
        fn pick<T: Ord + Copy>(wish: Option<T>, ceiling: Option<T>, default: T) -> T {
            wish.unwrap_or(default).min(ceiling.unwrap_or(default))
        }
        Self {
            memory: pick(wish.memory.map(|b| b.as_u64()), ceiling.memory.map(|b| b.as_u64()), default.memory),
            cpu: pick(wish.cpu, ceiling.cpu, default.cpu),
            wall: pick(wish.wall, ceiling.wall, default.wall),
            output: pick(wish.output.map(|b| b.as_u64()), ceiling.output.map(|b| b.as_u64()), default.output),
        }
    }
}

/// Durations as people write them (`200ms`, `2s`, `1m 30s`), for `Option<Duration>` fields.
pub mod span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// As `2s`; nothing as null.
    pub fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => to.collect_str(&humantime::format_duration(*span)),
            None => to.serialize_none(),
        }
    }

    /// From `2s`.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        humantime::parse_duration(&text).map(Some).map_err(|e| {
            serde::de::Error::custom(format!("`{text}` is not a duration, such as `200ms`, `2s` or `1m 30s`: {e}"))
        })
    }
}
