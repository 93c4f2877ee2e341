//! What is done to a tenant's own things: the entries of its ledger.

use serde::{Deserialize, Serialize};

use crate::agent::{Agent, Carry};
use crate::chain::Head;
use crate::hand_off::Holder;
use crate::message::Topic;
use crate::schedule::Planned;
use crate::session;
use crate::tenancy::{Ceiling, Key, Tenant};
use crate::trigger::{Planted, TriggerId, Verdict};
use crate::{
    AgentName, Capability, Digest, Epoch, KeyId, Position, RunId, SessionId, TenantId, Timestamp, WorkflowName,
};

/// An act on a tenant's own things. Each is its own record: the ledger is the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// Whose key; none: the host itself, at its first start.
    pub by: Option<KeyId>,
    /// What was done.
    pub change: Change,
}

/// What an act changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A new tenant.
    TenantCreated(Tenant),
    /// A tenant is deleted: its keys, agents, grants, workflows and its ceiling are gone with this, and whatever else it has goes piece
    /// by piece.
    TenantDeleted {
        /// The tenant's name.
        tenant: TenantId,
    },
    /// Nothing is left of a tenant that was deleted: its name is free.
    TenantGone {
        /// How its chain ended.
        head: Head,
    },
    /// A tenant's ceiling, whole.
    CeilingSet {
        /// The tenant whose ceiling it is.
        tenant: TenantId,
        /// The new one.
        ceiling: Ceiling,
    },
    /// A new key.
    KeyCreated(Key),
    /// A key taken back.
    KeyRevoked {
        /// The key's id.
        key: KeyId,
        /// When it was taken back.
        at: Timestamp,
    },
    /// A version of an agent.
    AgentPushed(Agent),
    /// A version of an agent that takes over what another one was granted, by the rule this was granted with.
    AgentUpgraded {
        /// The version.
        agent: Agent,
        /// The component whose grants it takes over.
        grants_of: Digest,
    },
    /// An agent with all its versions and grants.
    AgentDeleted {
        /// The agent's name.
        name: AgentName,
    },
    /// An agent's grants, whole.
    GrantsSet {
        /// The agent whose grants they are.
        agent: AgentName,
        /// The new set.
        grants: Vec<Capability>,
        /// The version they are for; none: for the newest, and older ones keep of theirs what the new set covers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
        /// Whether the next version takes them over; none: of a build whose grants were a name's, whatever was pushed under it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        carry: Option<Carry>,
    },
    /// One capability taken back from every version of an agent.
    GrantRevoked {
        /// The agent that had it.
        agent: AgentName,
        /// As it was granted.
        grant: Capability,
    },
    /// A workflow's document.
    WorkflowPut {
        /// Its name.
        name: WorkflowName,
        /// As it was sent.
        source: String,
        /// Of the source.
        digest: Digest,
        /// When it is started by itself, in the order of the document.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        schedules: Vec<Planned>,
        /// Which events start it, in the order of the document.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        triggers: Vec<Planted>,
    },
    /// A workflow removed.
    WorkflowDeleted {
        /// The workflow's name.
        name: WorkflowName,
    },
    /// A schedule starts nothing until it is continued.
    SchedulePaused {
        /// The workflow whose document has the schedule.
        workflow: WorkflowName,
        /// Its number there.
        number: u32,
        /// What it is: another one that has the number by now stays as it is.
        digest: Digest,
        /// Why, where the host did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A schedule that was paused starts runs again, in the name of who continued it.
    ScheduleContinued {
        /// The workflow whose document has the schedule.
        workflow: WorkflowName,
        /// Its number there.
        number: u32,
        /// What it is.
        digest: Digest,
        /// When it comes next.
        next: Timestamp,
    },
    /// A subscription is this from now on.
    SubscriptionPut {
        /// Its name.
        id: TriggerId,
        /// What it is, and where it begins if there was none of the name.
        planted: Box<Planted>,
    },
    /// A subscription is gone, with the events that it took in.
    SubscriptionDeleted {
        /// Its name.
        id: TriggerId,
    },
    /// A subscription starts nothing until it is continued.
    SubscriptionPaused {
        /// Its name.
        id: TriggerId,
        /// Why, where the host did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A subscription that was paused starts runs again, in the name of who continued it.
    SubscriptionContinued {
        /// Its name.
        id: TriggerId,
    },
    /// A subscription looks through its topic anew.
    SubscriptionReplayed {
        /// Its name.
        id: TriggerId,
        /// The place of the log after which it looks.
        after: Position,
        /// Whether events that it has seen start runs again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
    /// Somebody said what becomes of an event that came to nothing.
    DeadEventSettled {
        /// The subscription that took the event in.
        id: TriggerId,
        /// Where it stands.
        position: Position,
        /// What becomes of it.
        verdict: Verdict,
    },
    /// A session was opened.
    SessionOpened {
        /// The session's id.
        id: SessionId,
        /// What it was opened with.
        settings: Box<session::Settings>,
        /// Which one it is a fork of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fork: Option<Box<session::Fork>>,
    },
    /// A session takes no more turns; those that it has come to their end first, or are ended.
    SessionClosed {
        /// The session's id.
        id: SessionId,
        /// Whether it had no turn for too long.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        expired: bool,
        /// Whether its turns are to be ended.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        now: bool,
        /// Why the host closed it without the summary that it was to have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// Of a session that is over so many keys of memory are gone with this.
    SessionForgotten {
        /// The session's id.
        id: SessionId,
        /// How many keys they are.
        keys: u32,
        /// What became of the memory with this; none: there is more of it, which goes with the next of these.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory: Option<session::Remains>,
        /// What it held, as a JSON document, where it was archived.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        archive: Option<String>,
    },
    /// A session was taken back to before its last turns: what they did to its memory is undone with this.
    SessionRewound {
        /// The session's id.
        id: SessionId,
        /// Its last turn that counts; 0: none.
        to: u32,
        /// That one's place among those that began: what began later is undone.
        began: Epoch,
        /// Who held the conversation then; none: whoever holds it first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        holder: Option<Box<Holder>>,
        /// How many keys of its memory are as they were.
        keys: u32,
    },
    /// A key takes part in a session from now on, or no more.
    SessionPart {
        /// The session's id.
        session: SessionId,
        /// The key that takes part.
        key: KeyId,
        /// As what it takes part; none: no more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<session::Part>,
    },
    /// A person handed a session's conversation to another agent, between two turns.
    SessionHandedOver {
        /// The session whose conversation it is.
        session: SessionId,
        /// Who held it; none: whoever holds it first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<AgentName>,
        /// Who holds it from here on.
        to: AgentName,
        /// The reason that the person gave.
        reason: String,
    },
    /// A turn lost its session, for its run did not end when it was to: the next one begins, and whatever the run does comes too late.
    TurnLost {
        /// The session that the turn is of.
        session: SessionId,
        /// The turn's number.
        number: u32,
        /// The id of the turn's run.
        run: RunId,
        /// Why the turn lost the session, for people.
        why: String,
    },
    /// The time of an agent's state was over.
    StateLapsed {
        /// The agent whose state it is.
        agent: AgentName,
        /// Under which key it is kept.
        key: String,
        /// Which state ended.
        from: String,
        /// What came then; none: nothing, for what the agent declares now ends it at another time, or not at all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        /// The topic to which that was published, where the declaration says so and the agent may.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topic: Option<Topic>,
    },
    /// A change of shared context by a client: what was asked, as a guest's call would be.
    Context {
        /// The call's name, such as `memory.put`.
        call: String,
        /// What it is about, for people.
        about: String,
        /// Digest of the whole request.
        request: Digest,
    },
    /// A use case that policy refused.
    Refused {
        /// What was asked.
        action: String,
        /// Why it was refused, for people.
        why: String,
    },
    /// Reads of what is not the key's own, counted: the first of an hour is written at once, the others together.
    Accessed {
        /// What was read.
        what: String,
        /// How many reads these were.
        times: u64,
    },
}
