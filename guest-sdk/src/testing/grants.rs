//! Grants: what is in force, and what can be granted at all.

use super::{State, names};
use crate::Error;

impl State {
    pub(super) fn demand(&self, wanted: &str) -> Result<(), Error> {
        let star = wanted.rsplit_once(':').map(|(kind, _)| format!("{kind}:*"));
        let granted = self.grants.iter().any(|granted| granted == wanted || Some(granted) == star.as_ref());
        if granted { Ok(()) } else { Err(Error::AccessDenied(wanted.to_owned())) }
    }
}

/// Close enough to the host's grammar to catch a slip; the host has the whole of it.
pub(super) fn capability_like(text: &str) -> Result<(), &'static str> {
    let any = |name: &str, parse: fn(&str) -> Result<(), Error>| name == "*" || parse(name).is_ok();
    match text.split(':').collect::<Vec<_>>().as_slice() {
        ["log" | "state"]
        | ["graph" | "recall", "read" | "write"]
        | ["message", "receive"]
        | ["session", "history"] => Ok(()),
        ["memory", "read" | "write", "global" | "session" | "agent" | "*"] => Ok(()),
        ["message", "send", agent] if any(agent, names::agent) => Ok(()),
        ["message", "publish" | "subscribe", topic] if any(topic, names::topic) => Ok(()),
        ["ask", "admin" | "author" | "caller" | "*"] => Ok(()),
        ["ask", ..] => Err("it is ask:ROLE, with ROLE admin, author, caller or *"),
        ["memory", ..] => Err("it is memory:read:SCOPE or memory:write:SCOPE, with SCOPE global, session, agent or *"),
        ["graph", ..] => Err("it is graph:read or graph:write"),
        ["recall", ..] => Err("it is recall:read or recall:write"),
        ["message", ..] => Err("it is message:send:AGENT, message:receive, message:publish:TOPIC or \
                                message:subscribe:TOPIC, with the name of an agent or a topic, or *"),
        ["call" | "hand-off", name] | ["fs", "read" | "write", name] if !name.is_empty() => Ok(()),
        ["http", host, port] if !host.is_empty() && !port.is_empty() => Ok(()),
        _ => Err("known are log, memory:VERB:SCOPE, graph:VERB, recall:VERB, message:send:AGENT, message:receive, \
                  message:publish:TOPIC, message:subscribe:TOPIC, session:history, state, call:AGENT, hand-off:AGENT, ask:ROLE, http:HOST:PORT, fs:VERB:DIRECTORY"),
    }
}
