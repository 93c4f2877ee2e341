//! Payloads: bytes and what they are. The host never looks inside, except where a workflow's document asks it to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A content type and bytes. In JSON: `{"content-type", "json" | "text" | "base64"}`, whichever says it best.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payload {
    /// A media type; at most [`Payload::MAX_CONTENT_TYPE`] bytes.
    pub content_type: String,
    /// The content.
    pub bytes: Bytes,
}

impl Payload {
    /// Longest content type, in bytes.
    pub const MAX_CONTENT_TYPE: usize = 256;
    /// The content type of JSON.
    pub const JSON: &'static str = "application/json";

    /// A JSON value, serialized.
    pub fn json(value: &serde_json::Value) -> Self {
        Self { content_type: Self::JSON.into(), bytes: value.to_string().into() }
    }

    /// Plain text in UTF-8.
    pub fn text(text: impl Into<String>) -> Self {
        Self { content_type: "text/plain; charset=utf-8".into(), bytes: text.into().into() }
    }

    /// Bytes of which nobody said what they are: JSON where they are that, else a text, else bytes.
    pub fn told(bytes: &bytes::Bytes) -> Self {
        let kind = match std::str::from_utf8(bytes) {
            Ok(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => Self::JSON,
            Ok(_) => "text/plain; charset=utf-8",
            Err(_) => "application/octet-stream",
        };
        Self { content_type: kind.to_owned(), bytes: bytes.clone() }
    }

    /// Whether the content type says JSON: `application/json` or `…+json`, parameters aside.
    pub fn is_json(&self) -> bool {
        let essence = self.content_type.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case(Self::JSON) || essence.to_ascii_lowercase().ends_with("+json")
    }

    /// The content as a JSON value: parsed where the type says JSON, otherwise the text as a string.
    ///
    /// # Errors
    /// Where the content says it is JSON and is not, or is neither JSON nor UTF-8 text.
    pub fn to_value(&self) -> Result<serde_json::Value, String> {
        if self.is_json() {
            return serde_json::from_slice(&self.bytes).map_err(|e| format!("not JSON: {e}"));
        }
        std::str::from_utf8(&self.bytes)
            .map(|text| text.to_owned().into())
            .map_err(|e| format!("neither JSON (its type is `{}`) nor text in UTF-8: {e}", self.content_type))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Readable {
    content_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    json: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if !to.is_human_readable() {
            return (&self.content_type, serde_bytes::Bytes::new(&self.bytes)).serialize(to);
        }
        let mut out = Readable { content_type: self.content_type.clone(), json: None, text: None, base64: None };
        let json = if self.is_json() { serde_json::from_slice(&self.bytes).ok() } else { None };
        match (json, std::str::from_utf8(&self.bytes)) {
            // `null` would read back as nothing at all
            (Some(value), _) if value != serde_json::Value::Null => out.json = Some(value),
            (_, Ok(text)) => out.text = Some(text.to_owned()),
            (_, Err(_)) => out.base64 = Some(STANDARD.encode(&self.bytes)),
        }
        out.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if !from.is_human_readable() {
            let (content_type, bytes) = <(String, serde_bytes::ByteBuf)>::deserialize(from)?;
            return Ok(Self { content_type, bytes: bytes.into_vec().into() });
        }
        let Readable { content_type, json, text, base64 } = Readable::deserialize(from)?;
        let bytes: Bytes = match (json, text, base64) {
            (Some(value), None, None) => value.to_string().into(),
            (None, Some(text), None) => text.into(),
            (None, None, Some(text)) => STANDARD.decode(text).map_err(D::Error::custom)?.into(),
            _ => return Err(D::Error::custom("a payload has one of `json`, `text` and `base64`")),
        };
        Ok(Self { content_type, bytes })
    }
}
