//! What branches that run side by side have to themselves, and what becomes of it: `context`.

use serde_json::{Map, Value, json};

use super::{Does, Node, Place};
use crate::caller::Role;
use crate::fork::{Policies, Policy};

/// What a node's branches have to themselves until they come together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Context {
    /// Memory of the session.
    pub session: bool,
    /// The messages that they send: held until then.
    pub messages: bool,
    /// What is taken of keys of which branches conflict.
    pub merge: Policies,
    /// Who settles conflicts, by the numbers that policies name: each a [`Does::Settle`].
    pub settle: Vec<Node>,
}

/// What settles conflicts of keys, one after the other or side by side: in no document by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Settle {
    /// The agent's step, or the question, once for each conflict.
    pub by: Node,
}

impl Settle {
    /// Who is asked where nothing is said.
    pub const ASKED: Role = Role::Author;
    /// Roles that can be asked: they may see shared context, whose values a conflict shows.
    pub const ROLES: [(&'static str, Role); 2] = [("admin", Role::Admin), ("author", Role::Author)];

    /// As a node, in its place.
    pub fn node(by: Node, place: Place) -> Node {
        Node::new(Does::Settle(Box::new(Self { by })), place)
    }
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
                Policy::Agent(number) | Policy::Ask(number) => self.settle_to_value(*number),
                policy => policy.as_str().into(),
            };
            let key = |prefix: &str| if prefix.is_empty() { Self::ALL } else { prefix }.to_owned();
            let merge: Map<String, Value> = self.merge.0.iter().map(|(prefix, of)| (key(prefix), policy(of))).collect();
            out["merge"] = merge.into();
        }
        out
    }

    fn settle_to_value(&self, number: u32) -> Value {
        let by = self.settle.get(number as usize).and_then(|node| match &node.does {
            Does::Settle(settle) => Some(&settle.by),
            _ => None,
        });
        let Some(by) = by else { return Value::Null };
        let Does::Ask(ask) = &by.does else { return by.to_value() };
        let mut of = json!({});
        if ask.of != Settle::ASKED {
            of["of"] = json!(ask.of);
        }
        if let Some(remind) = &ask.remind {
            of["remind"] = remind.to_value();
        }
        let mut out = json!({ "ask": of });
        if let Some(id) = &by.id {
            out["id"] = id.as_str().into();
        }
        if let Some(timeout) = by.timeout {
            out["timeout"] = super::write::duration(timeout);
        }
        if out == json!({"ask": {}}) { "ask".into() } else { out }
    }

    /// How documents write the beginning that every key has.
    pub(super) const ALL: &str = "*";
}
