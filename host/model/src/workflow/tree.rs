//! A source as a tree of values that know their places: YAML, of which JSON is a part.
//!
//! Invariant: bounded before it is built: bytes, depth, nodes, and what aliases may multiply.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::Spanned;

use super::{Fault, MAX_LEN, Place};

/// How deep a source may nest, in lists and objects: the patterns at their deepest, and a schema below.
const MAX_NESTING: usize = 128;
/// The deserializer recurses, and in a debug build takes tens of kilobytes of stack a level: it gets a stack of its own.
const STACK: usize = 32 << 20;
/// How many values a source may have, aliases resolved.
const MAX_NODES: usize = 100_000;

/// A value in its place.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

/// What stands there.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    /// In the order of the source; a name may stand there twice.
    Object(Vec<(Key, Tree)>),
}

/// A field's name in its place.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) name: String,
}

/// Reads one document.
pub(super) fn parse(source: &str) -> Result<Tree, Fault> {
    let fault = |place, message: String| Fault { place, message };
    if source.len() > MAX_LEN {
        let message = format!("a document has at most {MAX_LEN} bytes, this one has {}", source.len());
        return Err(fault(Place::default(), message));
    }
    if source.trim().is_empty() {
        return Err(fault(Place { line: 1, column: 1 }, "the document is empty".into()));
    }
    on_a_stack_of_its_own(|| deserialize(source))
}

fn on_a_stack_of_its_own<T: Send>(work: impl FnOnce() -> Result<T, Fault> + Send) -> Result<T, Fault> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("document".into()).stack_size(STACK).spawn_scoped(scope, work);
        let ended = thread
            .map_err(|e| format!("no thread to read it on: {e}"))
            .and_then(|thread| thread.join().map_err(|_| "reading it broke the reader".to_owned()));
        ended.unwrap_or_else(|message| Err(Fault { place: Place::default(), message }))
    })
}

fn deserialize(source: &str) -> Result<Tree, Fault> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_NESTING,
            flow_nesting_limit: MAX_NESTING,
            max_documents: 1,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: MAX_NODES,
            max_recorded_anchor_bytes: 4 * MAX_LEN,
            max_merge_keys: 1_000,
            max_total_scalar_bytes: 4 * MAX_LEN,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        // YAML 1.2: `n`, `no` and `off` are texts.
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Tree>(source, options).map_err(|error| {
        let place = error.location().map_or_else(Place::default, place);
        // The message ends with the place, which stands beside it already.
        let text = error.to_string();
        let message = match text.split(" at line ").next().unwrap_or(&text) {
            // In words of our own.
            breached if breached.starts_with("budget breached: Documents") => {
                "there is more than one document in it: what comes after `---` stands in a file of its own"
            }
            breached if breached.starts_with("budget breached") => {
                "it has more in it, or nests deeper, than a document may"
            }
            message => message,
        };
        Fault { place, message: format!("this is not a YAML or JSON document: {message}") }
    })
}

fn place(location: serde_saphyr::Location) -> Place {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: number(location.line()), column: number(location.column()) }
}

impl Tree {
    /// As messages name it.
    pub(super) fn describe(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Object(_) => "an object",
        }
    }

    /// Without its places. Of a name that stands twice the last counts.
    pub(super) fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(b) => Value::Bool(*b),
            Kind::Number(n) => Value::Number(n.clone()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Kind::Object(fields) => {
                Value::Object(fields.iter().map(|(key, value)| (key.name.clone(), value.to_value())).collect())
            }
        }
    }
}

/// A value that has no place.
impl From<Value> for Tree {
    fn from(value: Value) -> Self {
        let kind = match value {
            Value::Null => Kind::Null,
            Value::Bool(b) => Kind::Bool(b),
            Value::Number(n) => Kind::Number(n),
            Value::String(text) => Kind::Text(text),
            Value::Array(items) => Kind::List(items.into_iter().map(Self::from).collect()),
            Value::Object(fields) => {
                let key = |name| Key { place: Place::default(), name };
                Kind::Object(fields.into_iter().map(|(name, value)| (key(name), Self::from(value))).collect())
            }
        };
        Self { place: Place::default(), kind }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(from)?;
        Ok(Self { place: place(spanned.referenced), kind: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(from)?;
        Ok(Self { place: place(spanned.referenced), name: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Kind, D::Error> {
        Kind::deserialize(from)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Kind, E> {
        Number::from_f64(value).map(Kind::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Kind, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = from.next_entry()? {
            fields.push(field);
        }
        Ok(Kind::Object(fields))
    }
}
