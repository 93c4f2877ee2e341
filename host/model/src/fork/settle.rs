//! A conflict that an agent settles, or people: what they are given, and what they say.
//!
//! Invariants: what they are given is what the journal says was there when the conflict was raised, whoever looks at it when. What they
//! say is about that alone: where the key has changed since, it is raised anew.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Conflict, Did, Outcome, SideOf};
use crate::delta::MemoryValue;
use crate::memory::{Item, MAX_VALUE};
use crate::workflow::Node;
use crate::{Payload, StepPath};

/// A conflict that is put to an agent, or to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// The node that forks.
    pub node: StepPath,
    /// Whose it is to settle: the number of that policy's step or question.
    pub by: u32,
    /// Which of those that were put to it, from 0 on.
    pub number: u32,
    /// The branches that changed the key, in their order.
    pub branches: Vec<u32>,
    /// What the key held then; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Item>,
    /// What conflicts, as people look at it.
    pub conflict: Conflict,
}

impl Raised {
    /// How many keys of a fork may be put to agents and people.
    pub const MOST: usize = 100;
    /// How often one is, where what it holds changes outside of the fork meanwhile.
    pub const TIMES: usize = 3;

    /// Where it is settled.
    pub fn place(&self) -> StepPath {
        self.node.child(Node::SETTLING + self.by as usize).child(self.number as usize)
    }

    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        1024 + self.conflict.key.len() + self.current.as_ref().map_or(0, |item| item.value.len())
    }

    /// What whoever settles it is given: `{key, base, current, sides: [{branch, step, op, value}]}`, with null for what is not there.
    ///
    /// # Errors
    /// Why it cannot be said in JSON.
    pub fn given(
        &self,
        base: Option<&Item>,
        sides: &[SideOf<'_>],
        called: impl Fn(u32) -> String,
    ) -> Result<Value, String> {
        let text = |bytes: Option<&Bytes>| match bytes {
            None => Ok(Value::Null),
            Some(bytes) => read(bytes).ok_or_else(|| {
                format!(
                    "what `{}` holds, or held, is no text: only people who resume the run settle that",
                    self.conflict.key
                )
            }),
        };
        // One that had ended by then counts as nothing.
        let base = base.filter(|_| self.conflict.base.is_some()).map(|item| &item.value);
        let told = sides.iter().map(|SideOf { branch, step, side }| {
            let value = text(side.value.as_ref().map(|value| &value.bytes))?;
            Ok(json!({"branch": called(*branch), "step": step, "op": side.did.as_str(), "value": value}))
        });
        let told: Vec<Value> = told.collect::<Result<_, String>>()?;
        let current = text(self.current.as_ref().map(|item| &item.value))?;
        Ok(json!({"key": self.conflict.key, "base": text(base)?, "current": current, "sides": told}))
    }
}

/// A value as JSON; none: it is no text.
pub(super) fn read(bytes: &Bytes) -> Option<Value> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => Some(value),
        Err(_) => std::str::from_utf8(bytes).ok().map(Value::from),
    }
}

/// What was said of a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// What the key is to hold; none: nothing.
    Value(Option<Bytes>),
    /// What the branch of this name made of it.
    Take(String),
}

impl Said {
    /// What an agent gave: the value, or null for none.
    ///
    /// # Errors
    /// Why it is no value that a key holds.
    pub fn by_agent(given: &Payload) -> Result<Self, String> {
        let bytes = match given.is_json() {
            true => given.bytes.clone(),
            false => {
                let text = std::str::from_utf8(&given.bytes);
                let text = text.map_err(|_| "it gave neither JSON nor a text".to_owned())?;
                Value::from(text).to_string().into()
            }
        };
        Self::value(bytes)
    }

    /// What people answered: `{take: BRANCH}` or `{value: VALUE}`.
    ///
    /// # Errors
    /// Why it is neither.
    pub fn by_people(given: &Payload) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase", deny_unknown_fields)]
        enum Answer {
            Take(String),
            Value(Value),
        }
        match serde_json::from_slice(&given.bytes) {
            Ok(Answer::Take(branch)) => Ok(Self::Take(branch)),
            Ok(Answer::Value(value)) => Self::value(value.to_string().into()),
            Err(_) => Err("the answer is neither `{\"take\": BRANCH}` nor `{\"value\": VALUE}`".into()),
        }
    }

    /// The JSON Schema of what people answer, where these branches changed the key.
    pub fn schema(branches: &[String]) -> Value {
        let branch = match branches.len() {
            ..=100 => json!({ "enum": branches }),
            _ => json!({"type": "string"}),
        };
        let one = |name: &str, is: Value| json!({"type": "object", "properties": {name: is}, "required": [name], "additionalProperties": false});
        json!({"oneOf": [one("take", branch), one("value", Value::Bool(true))]})
    }

    fn value(bytes: Bytes) -> Result<Self, String> {
        if bytes.len() > MAX_VALUE {
            return Err(format!("it has {} bytes; a value has at most {MAX_VALUE}", bytes.len()));
        }
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| format!("it is not JSON: {e}"))?;
        Ok(Self::Value((!value.is_null()).then_some(bytes)))
    }
}

impl Outcome {
    /// That a key holds this from now on; none: nothing.
    pub fn holding(value: Option<Bytes>) -> Self {
        let did = if value.is_some() { Did::Put } else { Did::Deleted };
        Self { did, value: value.map(|bytes| MemoryValue { bytes, expires_at: None }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &'static str) -> Payload {
        Payload { content_type: Payload::JSON.into(), bytes: text.into() }
    }

    #[test]
    fn what_is_said_is_a_value_nothing_or_a_branch() {
        let value = |text: &'static str| Ok(Said::Value(Some(text.into())));
        assert_eq!(Said::by_agent(&json(" {\"a\": 1.50}")), value(" {\"a\": 1.50}"));
        assert_eq!(Said::by_agent(&Payload::text("so")), value("\"so\""));
        assert_eq!(Said::by_agent(&json("null")), Ok(Said::Value(None)));
        assert!(Said::by_agent(&json("{")).unwrap_err().contains("not JSON"));
        let long = Payload::text("x".repeat(MAX_VALUE));
        assert!(Said::by_agent(&long).unwrap_err().contains("a value has at most 1048576"));
        assert_eq!(Said::by_people(&json(r#"{"take": "legal"}"#)), Ok(Said::Take("legal".into())));
        assert_eq!(Said::by_people(&json(r#"{"value": [1]}"#)), value("[1]"));
        assert_eq!(Said::by_people(&json(r#"{"value": null}"#)), Ok(Said::Value(None)));
        for wrong in ["{}", "7", r#"{"take": 1}"#, r#"{"take": "a", "value": 1}"#] {
            assert!(Said::by_people(&json(wrong)).unwrap_err().contains("neither"), "{wrong}");
        }
    }
}
