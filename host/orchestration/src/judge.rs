//! What was found about a step's output: by a JSON Schema, or by an agent in an attempt of its own.

use std::time::Duration;

use ltmc_model::Payload;
use ltmc_model::failure::{Code, Failure};
use ltmc_ports::runner::Violation;
use ltmc_tenancy::Error;
use serde::{Deserialize, Serialize};

/// How many of the things that are wrong are told.
const TOLD: usize = 10;

/// What a client is told where who judges by JSON Schema could not.
pub(crate) fn trouble(failure: Failure) -> Error {
    match failure.retryable {
        true => Error::Busy { message: failure.message, retry_after: Duration::from_secs(1) },
        false => Error::Internal { message: failure.message },
    }
}

/// The failure that a run ends with over violations; none: there are none.
pub(crate) fn rejection(found: &[Violation]) -> Option<Failure> {
    let first = found.first()?;
    let place = |at: &str| if at.is_empty() { "the whole".to_owned() } else { format!("at {at}") };
    let told: Vec<String> = found.iter().take(TOLD).map(|v| format!("{}: {}", place(&v.at), cut(&v.message))).collect();
    let failure = Failure::new(Code::ValidationFailed, told.join("; "));
    Some(Failure { at: Some(first.at.clone()), ..failure })
}

fn cut(text: &str) -> String {
    text.chars().take(500).collect()
}

#[derive(Serialize, Deserialize)]
struct Kept {
    at: String,
    message: String,
}

/// A validator's findings, as its step's output keeps them.
pub(crate) fn to_payload(found: &[Violation]) -> Payload {
    let kept: Vec<Kept> = found.iter().map(|v| Kept { at: v.at.clone(), message: v.message.clone() }).collect();
    Payload { content_type: Payload::JSON.into(), bytes: serde_json::to_vec(&kept).unwrap_or_default().into() }
}

/// The same, read back.
pub(crate) fn of_payload(payload: &Payload) -> Result<Vec<Violation>, Failure> {
    let kept: Vec<Kept> = serde_json::from_slice(&payload.bytes)
        .map_err(|e| Failure::new(Code::Internal, format!("the journal's findings do not read back: {e}")))?;
    Ok(kept.into_iter().map(|k| Violation { at: k.at, message: k.message }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_tells_every_place() {
        let found = [("", "no"), ("/n", "not a number")]
            .map(|(at, message)| Violation { at: at.into(), message: message.into() });
        let failure = rejection(&found).unwrap();
        assert!(failure.message.contains("the whole: no; at /n: not a number"), "{failure}");
        assert_eq!(failure.at.as_deref(), Some(""));
        assert_eq!(rejection(&[]), None);
    }
}
