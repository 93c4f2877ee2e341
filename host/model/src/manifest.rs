//! A manifest: what an agent says of itself and what it asks for. It stands in the component's custom section
//! [`SECTION`], or comes beside it with the upload. Asking grants nothing.

use serde::{Deserialize, Serialize};

use crate::agent::AgentRef;
use crate::limits::Wishes;
use crate::run::Target;
use crate::state::Declared;
use crate::trigger::Trigger;
use crate::{AgentName, Capability, workflow};

/// The custom section that holds it, as JSON.
pub const SECTION: &str = "ltmc:manifest";

/// The version of the manifest's form that this host reads.
pub const VERSION: u32 = 1;

/// Version 1. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form's version: [`VERSION`].
    pub manifest: u32,
    /// The package's name, where it has one. The name under which it is stored is the upload's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The package's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The capabilities it needs to do its work.
    #[serde(default)]
    pub asks: Vec<Capability>,
    /// The media types of inputs that it takes: `text/plain`, `text/*`; empty: all of them. Looked at where an agent is chosen for a need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepts: Vec<String>,
    /// The JSON Schema that its inputs fit; none: it says nothing of them. Looked at where an agent is chosen for a need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<serde_json::Value>,
    /// What it would be woken by: subscriptions, each as an entry of `on` in a workflow's document; they start it once somebody accepts them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<serde_json::Value>,
    /// Which states it may be in, as [`crate::state::Declared::of`] reads it; none: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<serde_json::Value>,
    /// What it relies on of what it reads.
    #[serde(default, skip_serializing_if = "Isolation::is_default")]
    pub isolation: Isolation,
    /// The limits it would like.
    #[serde(default)]
    pub limits: Wishes,
}

/// What an attempt relies on of what it reads, when it becomes true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// What its changes were decided on still holds. What it read besides may have become another meanwhile.
    #[default]
    ReadCommitted,
    /// All that it read still holds: as if it had been done at once, between all others that are so.
    Serializable,
}

impl Isolation {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            manifest: VERSION,
            name: None,
            version: None,
            description: None,
            asks: Vec::new(),
            accepts: Vec::new(),
            input: None,
            subscriptions: Vec::new(),
            state: None,
            isolation: Isolation::default(),
            limits: Wishes::default(),
        }
    }
}

impl Manifest {
    /// The largest text of one, in bytes.
    pub const MAX_LEN: usize = 64 << 10;
    /// How many capabilities one may ask for.
    pub const MAX_ASKS: usize = 128;
    /// How many media types one may name.
    pub const MAX_ACCEPTS: usize = 32;

    /// How many subscriptions one may ask for.
    pub const MAX_SUBSCRIPTIONS: usize = 16;

    /// What it would be woken by, under this name.
    ///
    /// # Errors
    /// What is wrong with a subscription, and with which.
    pub fn woken_by(&self, name: &AgentName) -> Result<Vec<Trigger>, String> {
        if self.subscriptions.len() > Self::MAX_SUBSCRIPTIONS {
            let (count, most) = (self.subscriptions.len(), Self::MAX_SUBSCRIPTIONS);
            return Err(format!("`subscriptions` has {count}, at most {most} are taken"));
        }
        let start = || Target::Agent(AgentRef { name: name.clone(), digest: None });
        let one = |(number, entry): (usize, &serde_json::Value)| {
            workflow::read_subscription(entry, start()).map_err(|faults| {
                let told: Vec<&str> = faults.0.iter().map(|fault| fault.message.as_str()).collect();
                format!("`subscriptions`: number {number}: {}", told.join("; "))
            })
        };
        (1..).zip(&self.subscriptions).map(one).collect()
    }

    /// Whether it takes an input of this content type.
    pub fn takes(&self, content_type: &str) -> bool {
        let given = content_type.split(';').next().unwrap_or_default().trim();
        let matches = |accepted: &String| match accepted.strip_suffix("/*") {
            Some(kind) => given.split_once('/').is_some_and(|(of, _)| of.eq_ignore_ascii_case(kind)),
            None => accepted == "*/*" || accepted.eq_ignore_ascii_case(given),
        };
        self.accepts.is_empty() || self.accepts.iter().any(matches)
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, where, and what would be right.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        if json.len() > Self::MAX_LEN {
            return Err(format!("a manifest has at most {} bytes, this one has {}", Self::MAX_LEN, json.len()));
        }
        let mut manifest: Self = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        if manifest.manifest != VERSION {
            return Err(format!(
                "this host reads manifests of version {VERSION}, this one is of {}",
                manifest.manifest
            ));
        }
        if manifest.asks.len() > Self::MAX_ASKS {
            return Err(format!(
                "`asks` has {} capabilities, at most {} are taken",
                manifest.asks.len(),
                Self::MAX_ASKS
            ));
        }
        if manifest.accepts.len() > Self::MAX_ACCEPTS {
            let count = manifest.accepts.len();
            return Err(format!("`accepts` has {count} media types, at most {} are taken", Self::MAX_ACCEPTS));
        }
        if let Some(wrong) = manifest.accepts.iter().find(|accepted| !is_media_range(accepted)) {
            return Err(format!(
                "`accepts` has `{wrong}`, which is no media type such as `application/json` or `text/*`"
            ));
        }
        if manifest.input.as_ref().is_some_and(|schema| !schema.is_object() && !schema.is_boolean()) {
            return Err("`input` is a JSON Schema: an object".into());
        }
        // Under which name it is called is the upload's to say.
        let anybody = "agent".parse().map_err(|e: crate::ids::InvalidId| e.to_string())?;
        manifest.woken_by(&anybody)?;
        // Who declares states asks for them.
        if Declared::of(&manifest)?.is_some() && !manifest.asks.contains(&Capability::State) {
            manifest.asks.push(Capability::State);
        }
        Ok(manifest)
    }
}

fn is_media_range(text: &str) -> bool {
    let is_token = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c);
        !part.is_empty() && part.len() <= 64 && part.chars().all(fits)
    };
    text.split_once('/')
        .is_some_and(|(of, kind)| (is_token(of) && (kind == "*" || is_token(kind))) || (of == "*" && kind == "*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_compared_by_their_kind() {
        let manifest = Manifest { accepts: vec!["application/json".into(), "text/*".into()], ..Manifest::default() };
        for (given, takes) in
            [("application/json", true), ("text/plain; charset=utf-8", true), ("Text/HTML", true), ("image/png", false)]
        {
            assert_eq!(manifest.takes(given), takes, "{given}");
        }
        assert!(Manifest::default().takes("anything/at-all"));
        let asks = br#"{"manifest": 1, "subscriptions": [{"topic": "a", "where": {"exact": {"type": "b"}}}, {"memory": "k/"}]}"#;
        let asks = Manifest::parse(asks).unwrap().woken_by(&"x".parse().unwrap()).unwrap();
        assert_eq!((asks.len(), asks[0].start.to_string()), (2, "x".to_owned()));
        for (wrong, why) in [
            (r#"[{"topic": "A b"}]"#, "number 1: `topic`"),
            (r#"[{"topic": "a"}, {"topics": "a"}]"#, "number 2: "),
            (r#"[{"schedule": "@daily"}]"#, "`topic` is missing, or `memory`"),
        ] {
            let text = format!(r#"{{"manifest": 1, "subscriptions": {wrong}}}"#);
            let told = Manifest::parse(text.as_bytes()).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
        let many = format!(r#"{{"manifest": 1, "subscriptions": [{}]}}"#, vec![r#"{"topic": "a"}"#; 17].join(","));
        assert!(Manifest::parse(many.as_bytes()).unwrap_err().contains("at most 16"));
        let wrong = Manifest::parse(br#"{"manifest": 1, "accepts": ["text"]}"#).unwrap_err();
        assert!(wrong.contains("`text`, which is no media type"), "{wrong}");
        let wrong = Manifest::parse(br#"{"manifest": 1, "input": "text"}"#).unwrap_err();
        assert!(wrong.contains("`input` is a JSON Schema"), "{wrong}");
    }
}
