//! The interface `ltmc:agent/coordination`: calls on other agents, and handing a conversation on.

use super::HostCall;
use super::form::{Request, Values};
use crate::caller::Role;
use crate::capability::{Any, Capability};
use crate::child::Ended;
use crate::hand_off;
use crate::{AgentName, Payload, RunId};

interface! {
    /// Calls on other agents, and on people.
    Coordination: CoordinationCall { Call, Begin, Need, Ask, Join, HandOff, HandBack, Received }
}

/// `coordination.call`: has another agent of the tenant do a task, and waits for it; answers how that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which agent: its newest version.
    pub agent: AgentName,
    /// What the agent is given to work on.
    pub input: Payload,
}

impl HostCall for Call {
    type Reply = Ended;
    const NAME: &'static str = "coordination.call";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::Call(Any::One(self.agent.clone()))]
    }

    fn about(&self) -> String {
        self.agent.to_string()
    }

    fn request(&self) -> Request {
        Request::new("coordination-call", &Values::new().with(&self.agent).with(&self.input))
    }
}

/// `coordination.begin`: has another agent of the tenant do a task, and does not wait; answers the child run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Which agent: its newest version.
    pub agent: AgentName,
    /// What the agent is given to work on.
    pub input: Payload,
}

impl HostCall for Begin {
    type Reply = RunId;
    const NAME: &'static str = "coordination.begin";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::Call(Any::One(self.agent.clone()))]
    }

    fn about(&self) -> String {
        self.agent.to_string()
    }

    fn request(&self) -> Request {
        Request::new("coordination-begin", &Values::new().with(&self.agent).with(&self.input))
    }
}

/// `coordination.need`: has whichever agent fits best do a task, and does not wait; answers the child run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What is to be done, in words.
    pub text: String,
    /// Among which agents one is found; empty: all of the tenant's.
    pub among: Vec<AgentName>,
    /// How well one has to fit, in hundredths; none: as in a workflow that says nothing.
    pub at_least: Option<u8>,
    /// What whoever is found is given to work on.
    pub input: Payload,
}

impl HostCall for Need {
    type Reply = RunId;
    const NAME: &'static str = "coordination.need";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        let called = self.among.first().map_or(Any::All, |agent| Any::One(agent.clone()));
        vec![Capability::Call(called)]
    }

    fn needs_besides(&self) -> Vec<Capability> {
        self.among.iter().skip(1).map(|agent| Capability::Call(Any::One(agent.clone()))).collect()
    }

    fn about(&self) -> String {
        self.text.clone()
    }

    fn request(&self) -> Request {
        let among = self.among.iter().fold(Values::new(), |all, agent| all.with(agent));
        let values = Values::new().with(&self.text).with(&among).with(&self.at_least.map(u32::from)).with(&self.input);
        Request::new("coordination-need", &values)
    }
}

/// `coordination.ask`: puts a question to people, and does not wait; answers the child run, which gives the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What is asked, in a line.
    pub title: String,
    /// The smallest role that may answer.
    pub of: Role,
    /// What whoever answers is shown.
    pub show: Option<Payload>,
    /// The JSON Schema that an answer has to fit, in JSON; none: any JSON does.
    pub schema: Option<String>,
    /// How long it can be answered; none: as long as it is waited for.
    pub timeout_ms: Option<u64>,
}

impl HostCall for Ask {
    type Reply = RunId;
    const NAME: &'static str = "coordination.ask";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::Ask(Any::One(self.of))]
    }

    fn about(&self) -> String {
        format!("{}: {}", self.of, self.title)
    }

    fn request(&self) -> Request {
        let values = Values::new().with(&self.title).with(&self.of.to_string()).with(&self.show);
        Request::new("coordination-ask", &values.with(&self.schema).with(&self.timeout_ms))
    }
}

/// `coordination.join`: waits for children that this attempt began; answers how they ended, in the same order. Needs nothing
/// more than beginning them did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Which, 1 to [`crate::child::MAX_JOINED`].
    pub children: Vec<RunId>,
}

impl HostCall for Join {
    type Reply = Vec<Ended>;
    const NAME: &'static str = "coordination.join";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        Vec::new()
    }

    fn about(&self) -> String {
        match self.children.len() {
            1 => "1 child".into(),
            count => format!("{count} children"),
        }
    }

    fn request(&self) -> Request {
        let children = self.children.iter().fold(Values::new(), |all, child| all.with(child));
        Request::new("coordination-join", &children)
    }
}

/// `coordination.hand-off`: hands the conversation that this attempt holds to another agent. It is the last thing that the attempt does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOff {
    /// The agent that holds the conversation from then on.
    pub to: AgentName,
    /// Why, for people and for who gets it.
    pub reason: String,
    /// What passes besides the conversation.
    pub passed: Option<Payload>,
}

impl HostCall for HandOff {
    type Reply = ();
    const NAME: &'static str = "coordination.hand-off";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::HandOff(Any::One(self.to.clone()))]
    }

    fn about(&self) -> String {
        format!("{}: {}", self.to, self.reason)
    }

    fn request(&self) -> Request {
        Request::new("coordination-hand-off", &Values::new().with(&self.to).with(&self.reason).with(&self.passed))
    }
}

/// `coordination.hand-back`: the same, to whom this attempt's agent has the conversation from. Whoever was given a conversation may give it back:
/// that needs nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandBack {
    /// Why, for people and for who gets it.
    pub reason: String,
    /// What passes besides the conversation.
    pub passed: Option<Payload>,
}

impl HostCall for HandBack {
    type Reply = ();
    const NAME: &'static str = "coordination.hand-back";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        Vec::new()
    }

    fn about(&self) -> String {
        self.reason.clone()
    }

    fn request(&self) -> Request {
        Request::new("coordination-hand-back", &Values::new().with(&self.reason).with(&self.passed))
    }
}

/// `coordination.received`: how the conversation came to this attempt's agent; none: it began with it. Needs nothing: it was handed to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received;

impl HostCall for Received {
    type Reply = Option<hand_off::Handed>;
    const NAME: &'static str = "coordination.received";
    const CHANGES: bool = false;

    fn needs(&self) -> Vec<Capability> {
        Vec::new()
    }

    fn about(&self) -> String {
        String::new()
    }

    fn request(&self) -> Request {
        Request::new("coordination-received", &Values::new())
    }
}
