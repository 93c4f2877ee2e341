//! CloudEvents 1.0 over HTTP: requests in binary, structured and batched mode, read into events.
//!
//! Invariants: an attribute stands once; what is required is there; what is missing, double, too long or of another form is refused with its
//! name. What the host says of events ([`Given::OF_THE_HOST`]) counts for nothing where a client says it.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use ltmc_model::call::messages::Draft;
use ltmc_model::message::Given;
use ltmc_model::{Payload, Timestamp};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::extract::{media_type, parsed};
use crate::problem::{Problem, Result};

/// How many events a batch may have.
const MAX_BATCH: usize = 100;
/// What attributes begin with as headers.
const PREFIX: &str = "ce-";
/// Structured mode.
pub(crate) const STRUCTURED: &str = "application/cloudevents+json";
/// Batched mode.
pub(crate) const BATCHED: &str = "application/cloudevents-batch+json";

/// How a request carries events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Attributes are headers, the body is the content.
    Binary,
    /// One event in JSON.
    Structured,
    /// A list of events in JSON.
    Batched,
}

impl Mode {
    /// That of a request; none: it carries no CloudEvents.
    ///
    /// # Errors
    /// Where it is one that is not known here.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>> {
        let essence = media_type(headers).map(|mime| mime.essence_str().to_ascii_lowercase());
        match essence.as_deref() {
            Some(STRUCTURED) => Ok(Some(Self::Structured)),
            Some(BATCHED) => Ok(Some(Self::Batched)),
            Some(other) if other.starts_with("application/cloudevents") => {
                let how = format!("CloudEvents come as `{STRUCTURED}`, as `{BATCHED}`, or in binary mode.");
                Err(Problem::new("unsupported-media-type", how))
            }
            _ => Ok(headers.keys().any(|name| name.as_str().starts_with(PREFIX)).then_some(Self::Binary)),
        }
    }

    /// The events of a request.
    ///
    /// # Errors
    /// What is wrong with one, with the attribute to blame.
    pub(crate) fn read(self, headers: &HeaderMap, body: Bytes) -> Result<Vec<Draft>> {
        match self {
            Self::Binary => Ok(vec![binary(headers, body)?]),
            Self::Structured => Ok(vec![parsed::<Fields>(&body)?.draft()?]),
            Self::Batched => {
                let batch: Vec<Fields> = parsed(&body)?;
                if !(1..=MAX_BATCH).contains(&batch.len()) {
                    let message = format!("A batch has 1 to {MAX_BATCH} events, not {}.", batch.len());
                    return Err(Problem::new("invalid", message));
                }
                let one = |(number, fields): (usize, Fields)| {
                    fields.draft().map_err(|problem| problem.within(number.to_string()))
                };
                batch.into_iter().enumerate().map(one).collect()
            }
        }
    }
}

/// An object whose names each stand once.
#[derive(Debug, Default)]
struct Fields(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Reads;
        impl<'de> Visitor<'de> for Reads {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an event: an object of attributes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.0.contains_key(&name) {
                        let name: String = name.chars().take(80).collect();
                        return Err(serde::de::Error::custom(format!("the attribute `{name}` stands there twice")));
                    }
                    fields.0.insert(name, value);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Reads)
    }
}

impl Fields {
    fn draft(self) -> Result<Draft> {
        let (mut attributes, mut data, mut base64) = (Attributes::default(), None, None);
        for (name, value) in self.0 {
            match (name.as_str(), value) {
                ("data", value) => data = Some(value),
                // An attribute that is null is not there.
                (_, Value::Null) => {}
                ("data_base64", Value::String(text)) => base64 = Some(text),
                (_, Value::String(text)) => attributes.put(name, text)?,
                (_, Value::Bool(flag)) => attributes.put(name, flag.to_string())?,
                (_, Value::Number(number)) if number.is_i64() => attributes.put(name, number.to_string())?,
                _ => return Err(wrong(&name, "is a text, a whole number, or true or false")),
            }
        }
        let kind = attributes.0.remove("datacontenttype");
        let is_json = |kind: &str| kind.parse::<mime::Mime>().is_ok_and(|mime| is_json(&mime));
        let data = match (data, base64) {
            (Some(_), Some(_)) => return Err(wrong("data", "and `data_base64` do not stand beside each other")),
            (None, None) => Payload { content_type: kind.unwrap_or_default(), bytes: Bytes::new() },
            (None, Some(text)) => {
                use base64::Engine as _;
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                let bytes = bytes.map_err(|e| wrong("data_base64", &format!("is no base64: {e}")))?;
                let content_type = kind.unwrap_or_else(|| "application/octet-stream".to_owned());
                Payload { content_type, bytes: bytes.into() }
            }
            (Some(Value::String(text)), None) if kind.as_deref().is_some_and(|kind| !is_json(kind)) => {
                Payload { content_type: kind.unwrap_or_default(), bytes: text.into() }
            }
            (Some(data), None) => {
                let content_type = kind.unwrap_or_else(|| Payload::JSON.to_owned());
                Payload { content_type, bytes: data.to_string().into() }
            }
        };
        attributes.draft(data)
    }
}

fn is_json(mime: &mime::Mime) -> bool {
    mime.subtype() == mime::JSON || mime.suffix() == Some(mime::JSON)
}

fn binary(headers: &HeaderMap, body: Bytes) -> Result<Draft> {
    let mut attributes = Attributes::default();
    for name in headers.keys() {
        let Some(attribute) = name.as_str().strip_prefix(PREFIX) else { continue };
        let mut values = headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(wrong(attribute, "stands in the head twice"));
        };
        let text = value.to_str().ok().and_then(decoded);
        let text = text.ok_or_else(|| wrong(attribute, "is no text: what is not visible ASCII is percent-encoded"))?;
        if attribute == "datacontenttype" {
            return Err(wrong(attribute, "is `Content-Type` in binary mode"));
        }
        attributes.put(attribute.to_owned(), text)?;
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    attributes.draft(Payload { content_type: kind.unwrap_or_default().to_owned(), bytes: body })
}

/// A header's value without its percent-encoding; none: it is no text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Attributes by their names, each once: what reads a request looks at that.
#[derive(Debug, Default)]
struct Attributes(BTreeMap<String, String>);

impl Attributes {
    /// So many names are kept at most before it is looked at what they are.
    const MOST: usize = 64;

    fn put(&mut self, name: String, text: String) -> Result<()> {
        if self.0.len() >= Self::MOST {
            return Err(Problem::new("invalid", format!("An event has at most {} attributes.", Given::MAX_ATTRIBUTES)));
        }
        self.0.insert(name, text);
        Ok(())
    }

    fn take(&mut self, name: &'static str) -> Result<String> {
        self.0
            .remove(name)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| wrong(name, "is missing, which every event has"))
    }

    fn draft(mut self, data: Payload) -> Result<Draft> {
        let version = self.take("specversion")?;
        if version != "1.0" {
            return Err(wrong("specversion", "is `1.0`"));
        }
        let (id, source, kind) = (self.take("id")?, self.take("source")?, self.take("type")?);
        let subject = self.0.remove("subject");
        let time = self.0.remove("time").map(|text| time(&text)).transpose()?;
        let given = Given { id, source, time, attributes: self.0 };
        // What is wrong with the source for this key is said where its key is known.
        given.check(&given.source.clone()).map_err(|why| Problem::new("invalid", format!("{why}.")))?;
        Ok(Draft { kind, subject, data, given: Some(Box::new(given)) })
    }
}

/// RFC 3339, by whatever offset.
fn time(text: &str) -> Result<Timestamp> {
    let upper = text.to_ascii_uppercase();
    let found = match upper.len().checked_sub(6).and_then(|at| upper.split_at_checked(at)) {
        Some((local, offset)) if !upper.ends_with('Z') => shifted(local, offset),
        _ => upper.parse().ok(),
    };
    found.filter(|_| upper.contains('T')).ok_or_else(|| wrong("time", "is RFC 3339, such as `2026-11-24T12:00:00Z`"))
}

/// A local time with its offset from UTC, such as `+01:00`.
fn shifted(local: &str, offset: &str) -> Option<Timestamp> {
    let at: Timestamp = format!("{local}Z").parse().ok()?;
    let (sign, clock) = offset.split_at_checked(1)?;
    let (hours, minutes) = clock.split_once(':')?;
    let two = |text: &str, most: u64| {
        text.parse::<u64>().ok().filter(|n| text.len() == 2 && *n <= most && text.bytes().all(|b| b.is_ascii_digit()))
    };
    let by = Duration::from_secs(two(hours, 23)? * 3_600 + two(minutes, 59)? * 60);
    match sign {
        "-" => Some(at.after(by)),
        "+" => at.millis().checked_sub(u64::try_from(by.as_millis()).ok()?).map(Timestamp::from_millis),
        _ => None,
    }
}

fn wrong(name: &str, what: &str) -> Problem {
    let name: String = name.chars().take(80).collect();
    Problem::new("invalid", format!("An event's `{name}` {what}.")).field(name)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    const EVENT: [(&str, &str); 4] =
        [("ce-specversion", "1.0"), ("ce-id", "7"), ("ce-source", "/shop"), ("ce-type", "order.paid")];

    fn read(headers: &HeaderMap, body: &'static str) -> Result<Vec<Draft>> {
        Mode::of(headers)?.expect("a CloudEvent").read(headers, Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn the_three_modes_say_the_same() {
        let mut binary = headers(&EVENT);
        for (name, value) in [
            ("content-type", "application/json"),
            ("ce-time", "2026-11-24T13:00:00.5+01:00"),
            ("ce-partitionkey", "k%C3%A4"),
            ("ce-subject", "o%201"),
        ] {
            binary.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let structured = r#"{"specversion":"1.0","id":"7","source":"/shop","type":"order.paid","time":"2026-11-24T12:00:00.5Z","datacontenttype":"application/json","partitionkey":"kä","subject":"o 1","traceparent":null,"data":{"a":1}}"#;
        let wanted = read(&binary, r#"{"a":1}"#).unwrap();
        assert_eq!(wanted.len(), 1);
        let given = wanted[0].given.as_deref().unwrap();
        assert_eq!((given.id.as_str(), given.source.as_str()), ("7", "/shop"));
        assert_eq!(given.time.unwrap().to_string(), "2026-11-24T12:00:00.500Z");
        assert_eq!(given.attributes.get("partitionkey").map(String::as_str), Some("kä"));
        assert_eq!(wanted[0].subject.as_deref(), Some("o 1"));
        assert_eq!(read(&headers(&[("content-type", STRUCTURED)]), structured).unwrap(), wanted);
        let batch: &'static str = Box::leak(format!("[{structured},{structured}]").into_boxed_str());
        let both =
            read(&headers(&[("content-type", "application/cloudevents-batch+json; charset=utf-8")]), batch).unwrap();
        assert_eq!(both, [wanted.clone(), wanted].concat());
    }

    #[test]
    fn content_of_any_kind_comes_as_it_is() {
        let of = |more: &str| -> Payload {
            let text = format!(r#"{{"specversion":"1.0","id":"7","source":"/s","type":"t"{more}}}"#);
            let text: &'static str = Box::leak(text.into_boxed_str());
            read(&headers(&[("content-type", STRUCTURED)]), text).unwrap().remove(0).data
        };
        let data = |kind: &str, text: &'static str| Payload { content_type: kind.into(), bytes: text.into() };
        assert_eq!(of(""), data("", ""));
        assert_eq!(of(r#","data":"a""#), data("application/json", "\"a\""));
        assert_eq!(of(r#","data":null"#), data("application/json", "null"));
        assert_eq!(of(r#","datacontenttype":"text/plain","data":"a""#), data("text/plain", "a"));
        assert_eq!(of(r#","data_base64":"YQ==""#), data("application/octet-stream", "a"));
    }

    #[test]
    fn what_is_wrong_is_told_with_the_attribute_s_name() {
        let structured = |text: String| {
            let text: &'static str = Box::leak(text.into_boxed_str());
            format!("{:?}", read(&headers(&[("content-type", STRUCTURED)]), text).unwrap_err())
        };
        let event = |more: &str| format!(r#"{{"specversion":"1.0","id":"7","source":"/s","type":"t"{more}}}"#);
        for (text, told) in [
            (r#"{"specversion":"1.0","id":"7","source":"/s"}"#.to_owned(), "`type` is missing"),
            (r#"{"specversion":"1.0","id":"","source":"/s","type":"t"}"#.to_owned(), "`id` is missing"),
            (event(r#","specversion":"1.0""#), "`specversion` stands there twice"),
            (event("").replace("1.0", "0.3"), "`specversion` is `1.0`"),
            (event(r#","dataschema":"none""#), "`dataschema` is an absolute URI"),
            (event(r#","abcdefghijklmnopqrstu":"a""#), "is no name of an attribute"),
            (event(r#","Abc":"a""#), "is no name of an attribute"),
            (event(&format!(r#","a":"{}""#, "a".repeat(257))), "`a` is 1 to 256 bytes"),
            (event(r#","a":{}"#), "`a` is a text, a whole number"),
            (event(r#","a":1.5"#), "`a` is a text, a whole number"),
            (event(r#","time":"yesterday""#), "`time` is RFC 3339"),
            (event(r#","data":1,"data_base64":"YQ==""#), "do not stand beside each other"),
            (event(r#","data_base64":"Y""#), "is no base64"),
        ] {
            let found = structured(text);
            assert!(found.contains(told), "{told}: {found}");
        }
        let mut twice = headers(&EVENT);
        twice.append("ce-id", HeaderValue::from_static("8"));
        assert!(format!("{:?}", read(&twice, "").unwrap_err()).contains("`id` stands in the head twice"));
        let many: Vec<String> = (0..33).map(|n| format!(r#","a{n}":"a""#)).collect();
        assert!(structured(event(&many.concat())).contains("at most 32 attributes"));
        let xml = headers(&[("content-type", "application/cloudevents+xml")]);
        assert!(Mode::of(&xml).is_err());
        assert_eq!(Mode::of(&headers(&[("content-type", "application/json")])).unwrap(), None);
    }
}
