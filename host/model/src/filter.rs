//! Filters of events: those of the CloudEvents Subscriptions API (`exact`, `prefix`, `suffix`, `all`, `any`, `not`), over an event's
//! attributes, and tests of what is picked from its content (`{pick: $.data.kind, equals: bug}`).
//!
//! Invariants: total. A filter is a [`Condition`] over an event alone, so that `where` of a `wait`, of a workflow's `on` and of a
//! subscription are one grammar, bounded and read in one place ([`crate::workflow`]). An attribute that is not there fits nothing.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::message::Event;
use crate::workflow::{Condition, Faults, Pick, read_filter};

/// Which events are meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// As it was written.
    source: Value,
    condition: Condition,
}

impl Filter {
    /// The longest text of one, in bytes.
    pub const MAX_LEN: usize = 16 << 10;
    /// The longest name of an attribute.
    pub const MAX_NAME: usize = 20;
    /// What is content, and no attribute.
    pub const CONTENT: [&'static str; 2] = ["data", "data_base64"];

    /// Of what a reader found.
    pub(crate) fn of(source: Value, condition: Condition) -> Self {
        Self { source, condition }
    }

    /// Reads one, in JSON or YAML: a filter, or a list of them that all have to fit.
    ///
    /// # Errors
    /// All that is wrong with it, each in its place.
    pub fn parse(text: &str) -> Result<Self, Faults> {
        read_filter(text)
    }

    /// As it was written.
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// Whether an event fits.
    pub fn fits(&self, event: &Event) -> bool {
        self.fits_shown(&event.to_value())
    }

    /// The same, of an event as [`Event::to_value`] shows it.
    pub fn fits_shown(&self, event: &Value) -> bool {
        let otherwise = |pick: &Pick| pick.or_else.clone().map(Cow::Owned);
        self.condition
            .holds(&|pick: &Pick| ltmc_rules::at(event, &pick.path).map(Cow::Borrowed).or_else(|| otherwise(pick)))
    }
}

/// Whether a text can be an attribute's name.
pub fn is_attribute(name: &str) -> bool {
    let is_word = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (1..=Filter::MAX_NAME).contains(&name.len()) && is_word(name) && !Filter::CONTENT.contains(&name)
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.source.to_string().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Payload, Timestamp};

    fn event(kind: &str, subject: Option<&str>, data: Value) -> Event {
        let (subject, data) = (subject.map(str::to_owned), Payload::json(&data));
        let attributes = [("partitionkey".to_owned(), "k".to_owned())].into();
        let (id, source, kind, time) = ("7".to_owned(), "/keys/k".to_owned(), kind.to_owned(), Timestamp::default());
        Event { id, source, kind, subject, time, data, attributes, trail: None }
    }

    /// The examples of the CloudEvents Subscriptions API, section 3.2.4.1.1, each with events that fit and events that do not.
    #[test]
    fn the_published_examples_fit_what_they_say() {
        const PUSH: &str = "com.github.push";
        const SPEC: &str = "https://github.com/cloudevents/spec";
        let push = |subject| event(PUSH, subject, json!({}));
        let other = |subject| event("com.github.pull_request.opened", subject, json!({}));
        let created = |subject| event("com.example.created", subject, json!({}));
        let cases: [(&str, &[Event], &[Event]); 7] = [
            (
                r#"{ "exact": { "type": "com.github.push", "subject": "https://github.com/cloudevents/spec" } }"#,
                &[push(Some(SPEC))],
                &[
                    push(None),
                    push(Some("https://github.com/cloudevents/sdk")),
                    other(Some(SPEC)),
                    event("COM.GITHUB.PUSH", Some(SPEC), json!({})),
                ],
            ),
            (
                r#"{ "prefix": { "type": "com.github.", "subject": "https://github.com/cloudevents" } }"#,
                &[push(Some(SPEC)), other(Some("https://github.com/cloudevents"))],
                &[push(None), created(Some(SPEC)), push(Some("https://github.com/"))],
            ),
            (
                r#"{ "suffix": { "type": ".created", "subject": "/cloudevents/spec" } }"#,
                &[created(Some(SPEC)), created(Some("/cloudevents/spec"))],
                &[push(Some(SPEC)), created(None)],
            ),
            (
                r#"{
                  "all": [
                    { "exact": { "type": "com.github.push" } },
                    { "exact": { "subject": "https://github.com/cloudevents/spec" } }
                  ]
                }"#,
                &[push(Some(SPEC))],
                &[push(None), other(Some(SPEC))],
            ),
            (
                r#"{
                  "any": [
                    { "exact": { "type": "com.github.push" } },
                    { "exact": { "subject": "https://github.com/cloudevents/spec" } }
                  ]
                }"#,
                &[push(Some(SPEC)), push(None), other(Some(SPEC))],
                &[other(None)],
            ),
            (
                r#"{
                  "not": { "exact": { "type": "com.github.push" } }
                }"#,
                &[other(None)],
                &[push(None), push(Some(SPEC))],
            ),
            (
                r#"[ {"prefix": { "type": "com.github.pu" } }, {"suffix": {"type": "sh"}} ]"#,
                &[push(None)],
                &[other(None), created(None)],
            ),
        ];
        for (text, fit, others) in cases {
            let filter = Filter::parse(text).unwrap_or_else(|faults| panic!("{text}: {faults}"));
            fit.iter().for_each(|event| assert!(filter.fits(event), "{text} fits {event:?}"));
            others.iter().for_each(|event| assert!(!filter.fits(event), "{text} does not fit {event:?}"));
            let kept = serde_json::to_string(&filter).unwrap();
            assert_eq!(serde_json::from_str::<Filter>(&kept).unwrap(), filter);
        }
    }

    #[test]
    fn the_content_and_extensions_are_looked_at_too() {
        let bug = event("report.filed", None, json!({"kind": "bug", "weight": 3, "tags": ["a", "b"]}));
        for (text, fits) in [
            ("{pick: $.data.kind, equals: bug}", true),
            ("{pick: $.data/tags/1, equals: b}", true),
            ("{pick: $.event.data.weight, at-least: 4}", false),
            ("{pick: $.data.nothing, exists: false}", true),
            ("{pick: $.data.nothing, else: 5, less: 6}", true),
            ("{exact: {partitionkey: k, source: /keys/k, id: \"7\"}}", true),
            ("{exact: {tracestate: k}}", false),
            ("{not: {exact: {tracestate: k}}}", true),
            (
                "{all: [{suffix: {type: filed}}, {any: [{pick: $.data.kind, prefix: x}, {pick: $.type, equals: x}]}]}",
                false,
            ),
            ("[]", true),
        ] {
            let text = text.replace("{pick: $.type,", "{pick: $.event.type,");
            assert_eq!(Filter::parse(&text).unwrap_or_else(|f| panic!("{text}: {f}")).fits(&bug), fits, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_all_at_once_each_in_its_place() {
        let text = "all:
  - {exact: {type: \"\"}}
  - {prefix: {Type: a, data: b}}
  - {suffix: {subject: 4}}
  - {any: []}
  - {exact: {}}
  - {sql: \"source LIKE '%x%'\"}
  - {exact: {type: a}, prefix: {type: b}}
  - {prefix: a}
";
        let faults = Filter::parse(text).unwrap_err();
        let told: Vec<String> =
            faults.0.iter().map(|f| format!("{}:{} {}", f.place.line, f.place.column, f.message)).collect();
        for (wanted, number) in [
            ("2:20 the value of `type`", 0),
            ("3:15 `Type` is no attribute", 1),
            ("3:24 `data` is no attribute", 2),
            ("4:24 the value of `subject`", 3),
            ("5:11 `any` is empty", 4),
            ("6:13 `exact` names no attribute", 5),
            ("7:5 ", 6),
            ("8:5 ", 7),
            ("9:14 `prefix` is an object", 8),
        ] {
            assert!(told.get(number).is_some_and(|told| told.starts_with(wanted)), "{wanted}: {told:#?}");
        }
        let other = Filter::parse("{pick: $.input.a, equals: 1}").unwrap_err();
        assert!(other.to_string().contains("knows of the event alone"), "{other}");
        let deep = format!("{}{{exact: {{type: a}}}}{}", "{not: ".repeat(17), "}".repeat(17));
        assert!(Filter::parse(&deep).unwrap_err().to_string().contains("nest at most 16 deep"));
        let many: Vec<String> = (0..257).map(|n| format!("{{exact: {{type: t{n}}}}}")).collect();
        assert!(
            Filter::parse(&format!("{{any: [{}]}}", many.join(", ")))
                .unwrap_err()
                .to_string()
                .contains("at most 256 tests")
        );
        let long = format!("{{exact: {{type: {}}}}}", "a".repeat(Filter::MAX_LEN));
        assert!(Filter::parse(&long).unwrap_err().to_string().contains("at most"));
    }
}
