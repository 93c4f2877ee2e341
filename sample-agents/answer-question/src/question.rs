//! A question, in the forms in which it may come.

use ltmc::{Failure, FromPayload, Payload};
use serde::Deserialize;

/// A question: `{"question": "…"}` as JSON, or plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question(pub String);

#[derive(Deserialize)]
struct Asked {
    question: String,
}

/// The longest question, in bytes: what recall takes.
const MOST: usize = 8 << 10;

impl FromPayload for Question {
    const ACCEPTS: &[&str] = &["application/json", "text/plain"];

    fn from_payload(payload: Payload) -> Result<Self, Failure> {
        let bad = |message: String| Failure::new(Failure::BAD_INPUT, message);
        let json = payload.content_type.split(';').next().is_some_and(|media| media.trim() == "application/json");
        let question = match serde_json::from_slice::<Asked>(&payload.bytes) {
            Ok(asked) => asked.question,
            Err(error) if json => return Err(bad(format!("a question is `{{\"question\": \"…\"}}`: {error}"))),
            Err(_) => String::from_payload(payload)?,
        };
        let question = question.trim();
        if question.is_empty() || question.len() > MOST {
            let message = format!("a question has 1 to {MOST} bytes and is not blank; this one has {}", question.len());
            return Err(bad(message));
        }
        Ok(Self(question.to_owned()))
    }
}
