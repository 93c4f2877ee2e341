//! What goes in and out of an agent: bytes with a content type, and the types that read and write them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;

/// Bytes and what they are. The host never looks inside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payload {
    /// A media type, such as `application/json`. At most 256 bytes.
    pub content_type: String,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Payload {
    /// These bytes under this media type.
    pub fn new(content_type: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { content_type: content_type.into(), bytes: bytes.into() }
    }
}

/// JSON, in or out. Its content type does not matter on the way in: what parses is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Json<T>(pub T);

/// What an agent can take as its input.
pub trait FromPayload: Sized {
    /// The media types it says it takes; none means any.
    const ACCEPTS: &[&str];

    /// Reads it.
    ///
    /// # Errors
    /// With the code `bad-input`: what is wrong with it, and where.
    fn from_payload(payload: Payload) -> Result<Self, Failure>;
}

/// What an agent can answer.
pub trait IntoPayload {
    /// The media type it says it answers with.
    const PRODUCES: &str;

    /// Writes it.
    ///
    /// # Errors
    /// With the code `bad-output`: a value that its format cannot express.
    fn into_payload(self) -> Result<Payload, Failure>;
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

impl<T: DeserializeOwned> FromPayload for Json<T> {
    const ACCEPTS: &[&str] = &[JSON];

    fn from_payload(payload: Payload) -> Result<Self, Failure> {
        serde_json::from_slice(&payload.bytes)
            .map(Json)
            .map_err(|e| Failure::new(Failure::BAD_INPUT, format!("the input is not the JSON this agent takes: {e}")))
    }
}

impl<T: Serialize> IntoPayload for Json<T> {
    const PRODUCES: &str = JSON;

    fn into_payload(self) -> Result<Payload, Failure> {
        serde_json::to_vec(&self.0)
            .map(|bytes| Payload::new(JSON, bytes))
            .map_err(|e| Failure::new("bad-output", format!("the result cannot be written as JSON: {e}")))
    }
}

impl FromPayload for String {
    const ACCEPTS: &[&str] = &["text/*"];

    fn from_payload(payload: Payload) -> Result<Self, Failure> {
        Self::from_utf8(payload.bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            Failure::new(Failure::BAD_INPUT, format!("the input is not text in UTF-8: byte {at} begins no character"))
        })
    }
}

impl IntoPayload for String {
    const PRODUCES: &str = TEXT;

    fn into_payload(self) -> Result<Payload, Failure> {
        Ok(Payload::new(TEXT, self))
    }
}

impl FromPayload for Vec<u8> {
    const ACCEPTS: &[&str] = &[];

    fn from_payload(payload: Payload) -> Result<Self, Failure> {
        Ok(payload.bytes)
    }
}

impl IntoPayload for Vec<u8> {
    const PRODUCES: &str = BYTES;

    fn into_payload(self) -> Result<Payload, Failure> {
        Ok(Payload::new(BYTES, self))
    }
}

impl FromPayload for Payload {
    const ACCEPTS: &[&str] = &[];

    fn from_payload(payload: Payload) -> Result<Self, Failure> {
        Ok(payload)
    }
}

/// With a content type of the agent's own choice.
impl IntoPayload for Payload {
    const PRODUCES: &str = BYTES;

    fn into_payload(self) -> Result<Payload, Failure> {
        Ok(self)
    }
}

/// Whatever comes in is ignored.
impl FromPayload for () {
    const ACCEPTS: &[&str] = &[];

    fn from_payload(_: Payload) -> Result<Self, Failure> {
        Ok(())
    }
}

/// An empty payload.
impl IntoPayload for () {
    const PRODUCES: &str = BYTES;

    fn into_payload(self) -> Result<Payload, Failure> {
        Ok(Payload::new(BYTES, Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Named {
        #[expect(dead_code, reason = "only parsed")]
        name: String,
    }

    #[test]
    fn bad_json_says_where() {
        let input = Payload::new(JSON, "{\n  \"name\": 7\n}");
        let failure = Json::<Named>::from_payload(input).unwrap_err();
        assert_eq!(failure.code, "bad-input");
        assert!(!failure.retryable);
        assert!(failure.message.contains("line 2 column 11"), "{}", failure.message);
    }

    #[test]
    fn bad_text_says_where() {
        let failure = String::from_payload(Payload::new(TEXT, b"ab\xff".to_vec())).unwrap_err();
        assert!(failure.message.contains("byte 2"), "{}", failure.message);
    }

    #[test]
    fn a_payload_keeps_its_content_type() {
        let csv = Payload::new("text/csv", "a,b");
        assert_eq!(csv.clone().into_payload().unwrap(), csv);
        assert_eq!(Payload::from_payload(csv.clone()).unwrap(), csv);
    }
}
