//! What branches that run side by side have to themselves, and what becomes of it: `context`.

use serde_json::{Map, Value, json};

use crate::fork::{Policies, Policy};

/// What a node's branches have to themselves until they come together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context {
    /// Memory of the session.
    pub session: bool,
    /// The messages that they send: held until then.
    pub messages: bool,
    /// What is taken of keys of which branches conflict.
    pub merge: Policies,
}

impl Context {
    /// As documents write it. `called`: what a branch is called.
    pub(super) fn to_value(&self, called: impl Fn(u32) -> String) -> Value {
        let scopes = [("session", self.session), ("messages", self.messages)];
        let forked: Vec<&str> = scopes.iter().filter(|(_, is_forked)| *is_forked).map(|(scope, _)| *scope).collect();
        let mut out = json!({ "fork": forked });
        if !self.merge.0.is_empty() {
            let policy = |policy: &Policy| match policy {
                Policy::Prefer(branches) => json!({"prefer": branches.iter().map(|n| called(*n)).collect::<Vec<_>>()}),
                policy => policy.as_str().into(),
            };
            let key = |prefix: &str| if prefix.is_empty() { Self::ALL } else { prefix }.to_owned();
            let merge: Map<String, Value> = self.merge.0.iter().map(|(prefix, of)| (key(prefix), policy(of))).collect();
            out["merge"] = merge.into();
        }
        out
    }

    /// How documents write the beginning that every key has.
    pub(super) const ALL: &str = "*";
}
