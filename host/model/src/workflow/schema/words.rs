//! What tables of words are made of, and what each comes to in the schema.

use serde_json::{Map, Value, json};

use super::patterns::MODIFIERS;
use crate::failure::Code;
use crate::workflow::{MAX_NODES, Needed};

/// Objects of one kind.
pub(in crate::workflow) struct Form {
    /// As the reader calls it where something is wrong.
    pub(in crate::workflow) what: &'static str,
    /// For people.
    about: &'static str,
    /// What may stand in it.
    pub(in crate::workflow) words: &'static [Word],
    /// What has to.
    required: &'static [&'static str],
    /// For a pattern: its word, and whether its node has a `with`.
    pub(in crate::workflow) pattern: Option<(&'static str, bool)>,
}

/// A word of an object.
pub(in crate::workflow) struct Word {
    pub(in crate::workflow) name: &'static str,
    pub(in crate::workflow) about: &'static str,
    is: Is,
}

/// What may stand under a word.
pub(super) enum Is {
    /// Anything at all.
    Any,
    /// A name of ours.
    Name,
    /// An agent, of any version or of one.
    Agent,
    /// A text that is a pick.
    Pick,
    /// A duration as people write it.
    Duration,
    /// Any text.
    Text,
    /// A text that says something.
    Filled,
    /// True or false.
    Flag,
    /// Any number.
    Number,
    /// A number from one to the other.
    Between(f64, f64),
    /// A whole number from one to the other.
    Whole(u32, u32),
    /// One of these words.
    Words(&'static [&'static str]),
    /// A code of a failure.
    Code,
    /// A JSON Pointer.
    Pointer,
    /// Of this definition.
    Of(&'static str),
    /// A list; at least so many, at most so many.
    List(&'static Is, usize, usize),
    /// An object of names, not empty.
    Named(&'static Is),
    /// An object of any names; at most so many.
    Keyed(&'static Is, usize),
    /// Any of these.
    Either(&'static [Is]),
    /// A schema itself.
    Schema,
}

pub(super) const fn word(name: &'static str, about: &'static str, is: Is) -> Word {
    Word { name, about, is }
}

pub(super) const fn form(
    what: &'static str,
    about: &'static str,
    words: &'static [Word],
    required: &'static [&'static str],
) -> Form {
    Form { what, about, words, required, pattern: None }
}

pub(super) const fn pattern(
    of: &'static str,
    what: &'static str,
    about: &'static str,
    words: &'static [Word],
    required: &'static [&'static str],
) -> Form {
    Form { what, about, words, required, pattern: Some((of, true)) }
}

pub(super) const fn without_with(form: Form) -> Form {
    let pattern = match form.pattern {
        Some((word, _)) => Some((word, false)),
        None => None,
    };
    Form { pattern, ..form }
}

impl Form {
    pub(super) fn schema(&self) -> Value {
        let modifiers = self
            .pattern
            .iter()
            .flat_map(|(_, has_with)| MODIFIERS.iter().filter(move |word| *has_with || word.name != "with"));
        let properties: Map<String, Value> =
            self.words.iter().chain(modifiers).map(|word| (word.name.to_owned(), word.schema())).collect();
        let mut schema = json!({
            "title": self.what.replace('`', ""),
            "description": self.about,
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        if !self.required.is_empty() {
            schema["required"] = json!(self.required);
        }
        schema
    }
}

impl Word {
    pub(super) fn schema(&self) -> Value {
        let is = self.is.schema();
        match is {
            Value::Object(mut fields) => {
                fields.insert("description".into(), self.about.into());
                Value::Object(fields)
            }
            _ => json!({"description": self.about}),
        }
    }
}

impl Is {
    pub(super) fn schema(&self) -> Value {
        match self {
            Self::Any => Value::Bool(true),
            Self::Name => json!({"type": "string", "pattern": format!("^{NAME}$")}),
            Self::Agent => json!({"type": "string", "pattern": format!("^{NAME}(?:@sha256:[0-9a-f]{{64}})?$")}),
            Self::Pick => json!({"$ref": "#/$defs/pick"}),
            Self::Pointer => json!({"type": "string", "pattern": r"^(?:/(?:[^/~]|~[01])*)*$"}),
            Self::Duration => json!({"type": "string", "pattern": DURATION, "examples": ["200ms", "2s", "1m"]}),
            Self::Text => json!({"type": "string"}),
            Self::Filled => json!({"type": "string", "pattern": r"\S", "maxLength": Needed::MAX_TEXT}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Number => json!({"type": "number"}),
            Self::Between(least, most) => json!({"type": "number", "minimum": least, "maximum": most}),
            Self::Whole(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
            Self::Words(words) => json!({"enum": words}),
            Self::Code => json!({"enum": Code::ALL.map(Code::as_str)}),
            Self::Of(name) => json!({"$ref": format!("#/$defs/{name}")}),
            Self::List(of, least, most) => {
                let mut list = json!({"type": "array", "items": of.schema()});
                if *least > 0 {
                    list["minItems"] = (*least).into();
                }
                if *most < MOST {
                    list["maxItems"] = (*most).into();
                }
                list
            }
            Self::Named(of) => json!({
                "type": "object", "minProperties": 1, "maxProperties": MAX_NODES, "propertyNames": {"pattern": format!("^{NAME}$")},
                "additionalProperties": of.schema(),
            }),
            Self::Keyed(of, most) => {
                json!({"type": "object", "maxProperties": most, "additionalProperties": of.schema()})
            }
            Self::Either(all) => json!({"anyOf": all.iter().map(Self::schema).collect::<Vec<_>>()}),
            Self::Schema => json!({"type": ["object", "boolean"]}),
        }
    }
}

pub(super) const NAME: &str = "[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?";
const DURATION: &str = "^(?: *[0-9]+ *(?:ms|msec|millis|s|sec|secs|second|seconds|m|min|mins|minute|minutes|h|hr|hrs|hour|hours|d|day|days|w|wk|wks|week|weeks|M|month|months|y|yr|yrs|year|years))+ *$";
/// As many as there are.
pub(super) const MOST: usize = usize::MAX;
