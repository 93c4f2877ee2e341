//! Agents' states: what is kept of one, and how that stands to the declaration in force.
//!
//! Invariants: a state is kept as a value of memory in a drawer of its own ([`Drawer::State`]), which no call of memory reaches: so it
//! becomes true, is expected, committed to, counted and thrown away as memory is. The declaration in force is that of the version that asks.
//! What does not stand to it is never guessed: it is [`Standing::Quarantined`], and stays as it is until somebody looks at it.
//!
//! The machine itself, and its bounds, are [`ltmc_rules::state`]'s.

use bytes::Bytes;
pub use ltmc_rules::state::{
    Asked, Came, Current as Machine, Declaration, Deferred, Emits, MAX_DATA, MAX_DEFERRED, Migrate, Per, Rule, patch,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::manifest::Manifest;
use crate::memory::Drawer;
use crate::{AgentName, Digest, KeyId, Revision, RunId, SessionId, Timestamp};

/// Bytes of what people say why they change a state.
pub const MAX_REASON: usize = 1_000;

/// A state, as a guest is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// Its name.
    pub state: String,
    /// Its data, as JSON.
    pub data: String,
    /// Its revision; 0: it was never changed.
    pub revision: Revision,
    /// The declaration's version.
    pub version: u32,
}

/// Why a transition, or a look, was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The rule's name, such as `no-transition`.
    pub rule: String,
    /// For people.
    pub message: String,
}

/// What a call on a state is answered with.
pub type Told = Result<Current, Refused>;

impl Refused {
    /// By this rule.
    pub fn new(rule: Rule, message: impl Into<String>) -> Self {
        Self { rule: rule.as_str().to_owned(), message: message.into() }
    }
}

impl From<ltmc_rules::state::Refused> for Refused {
    fn from(refused: ltmc_rules::state::Refused) -> Self {
        Self::new(refused.rule, refused.message)
    }
}

/// What is kept of a state, with how it came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The declaration's version that it was made by.
    pub version: u32,
    /// The state's name.
    pub state: String,
    /// Its data: an object.
    pub data: Value,
    /// When it came to this state.
    pub since: Timestamp,
    /// When that was written.
    pub at: Timestamp,
    /// Which state it was before; none: it is the first that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// By which event; none: by time, by a migration, or by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Whether its time made it so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed: bool,
    /// When it ends by itself: a timer of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// Events that wait for the next transition, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deferred: Vec<Waits>,
    /// Events that waited, and were refused when they were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Dropped>,
    /// Which run made it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Whose key did, by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<KeyId>,
    /// Why, where it was done by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The schema that the data was judged by, and fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Digest>,
    /// Why it was set aside; none: it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

impl Kept {
    /// As it is written.
    pub fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("plain values, which JSON can write").into()
    }

    /// The same, read back.
    ///
    /// # Errors
    /// Where it is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|e| format!("what is kept of the state does not read back: {e}"))
    }

    /// As the machine knows it.
    pub fn machine(&self) -> Machine {
        Machine { state: self.state.clone(), data: self.data.clone(), since_ms: self.since.millis() }
    }
}

/// An event that waits, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// The event's name.
    pub event: String,
    /// What came with it.
    pub patch: Value,
}

impl From<Deferred> for Waits {
    fn from(Deferred { event, patch }: Deferred) -> Self {
        Self { event, patch }
    }
}

impl From<Waits> for Deferred {
    fn from(Waits { event, patch }: Waits) -> Self {
        Self { event, patch }
    }
}

/// An event that waited, and was refused when it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The event's name.
    pub event: String,
    /// The rule that it was against.
    pub rule: String,
}

/// A state whose time comes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    /// When it ends by itself.
    pub at: Timestamp,
    /// Whose state it is.
    pub agent: AgentName,
    /// Under which key it is kept.
    pub key: String,
}

/// A declaration, and what it is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// What it says.
    pub declaration: Declaration,
    /// Its schema, as JSON.
    pub schema: Option<String>,
}

/// How what is kept stands to a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is one of its states, with what time made of it by now.
    Sound(Machine),
    /// It is of the version before: it is to be migrated by this agent.
    Older(AgentName),
    /// It is of a newer version than this.
    Newer(u32),
    /// It is none of its states, for this reason.
    Quarantined(String),
}

impl Declared {
    /// What a manifest declares; none: nothing.
    ///
    /// # Errors
    /// All that is wrong with it, in a line.
    pub fn of(manifest: &Manifest) -> Result<Option<Self>, String> {
        let Some(value) = &manifest.state else { return Ok(None) };
        let declaration = Declaration::read(value).map_err(|faults| format!("`state`: {}", faults.join("; ")))?;
        let schema = declaration.schema.as_ref().map(Value::to_string);
        Ok(Some(Self { declaration, schema }))
    }

    /// Under which key the state is kept. None: each session has one, and there is no session.
    pub fn key(&self, session: Option<&SessionId>) -> Option<String> {
        match self.declaration.per {
            Per::Agent => Some("state".to_owned()),
            Per::Session => session.map(|session| format!("session/{session}")),
        }
    }

    /// How what is kept stands to it, but for what a schema says.
    pub fn standing(&self, kept: Option<&Kept>, now: Timestamp) -> Standing {
        let declaration = &self.declaration;
        let Some(kept) = kept else { return Standing::Sound(declaration.first(now.millis())) };
        if let Some(why) = &kept.quarantined {
            return Standing::Quarantined(why.clone());
        }
        if kept.version > declaration.version {
            return Standing::Newer(kept.version);
        }
        if kept.version < declaration.version {
            let migrate = declaration.migrate.as_ref().filter(|migrate| migrate.from == kept.version);
            return match migrate.and_then(|migrate| migrate.agent.parse().ok()) {
                Some(agent) => Standing::Older(agent),
                None => Standing::Quarantined(format!(
                    "it is of version {}, and no migration leads from there to version {}",
                    kept.version, declaration.version
                )),
            };
        }
        match declaration.fits(&kept.machine()) {
            Ok(()) => Standing::Sound(declaration.lapsed(kept.machine(), now.millis())),
            Err(refused) => Standing::Quarantined(refused.message),
        }
    }

    /// What is told of a state.
    pub fn told(&self, machine: &Machine, revision: Revision) -> Current {
        let (state, data) = (machine.state.clone(), machine.data.to_string());
        Current { state, data, revision, version: self.declaration.version }
    }

    /// What is kept of a state of this declaration, from now on.
    pub fn kept(&self, machine: Machine, from: Option<String>, at: Timestamp) -> Kept {
        let (version, since) = (self.declaration.version, Timestamp::from_millis(machine.since_ms));
        let judged = self.schema.as_ref().map(|schema| Digest::of(schema.as_bytes()));
        let due = self.declaration.due(&machine).map(|(at, _)| Timestamp::from_millis(at));
        let Machine { state, data, .. } = machine;
        let (event, run, by, reason, quarantined) = (None, None, None, None, None);
        let (timed, deferred, dropped) = (false, Vec::new(), Vec::new());
        Kept {
            version,
            state,
            data,
            since,
            at,
            from,
            event,
            timed,
            due,
            deferred,
            dropped,
            run,
            by,
            reason,
            judged,
            quarantined,
        }
    }
}

/// Why an agent is not told its state, which stands so.
pub fn not_told(declared: &Declared, standing: &Standing) -> Option<Refused> {
    match standing {
        Standing::Sound(_) | Standing::Older(_) => None,
        Standing::Newer(version) => Some(Refused::new(
            Rule::Version,
            format!(
                "the state is of version {version}, and this version of the agent declares version {}: a newer version of the agent works \
                 with it",
                declared.declaration.version
            ),
        )),
        Standing::Quarantined(why) => Some(Refused::new(
            Rule::Quarantined,
            format!("the state is quarantined: {why}; an admin looks at it, and releases it or sets it"),
        )),
    }
}

/// The state that a migration gave, which its agent writes as `{state, data}`.
///
/// # Errors
/// Where it is none.
pub fn made(output: &[u8], since: Timestamp) -> Result<Machine, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Made {
        state: String,
        data: Value,
    }
    let Made { state, data } =
        serde_json::from_slice(output).map_err(|e| format!("what it gave is no `{{state, data}}` in JSON: {e}"))?;
    Ok(Machine { state, data, since_ms: since.millis() })
}

/// Whether a manifest's states may follow those of the version before it.
///
/// # Errors
/// What would be right.
pub fn check_upgrade(before: &Manifest, next: &Manifest) -> Result<(), String> {
    let (Ok(Some(before)), Ok(Some(next))) = (Declared::of(before), Declared::of(next)) else { return Ok(()) };
    let (before, declaration) = (before.declaration.version, next.declaration);
    let version = declaration.version;
    if version < before {
        return Err(format!("`state`: the version in force is {before}, and this is {version}: it does not go back"));
    }
    match &declaration.migrate {
        _ if version == before => Ok(()),
        None => Err(format!(
            "`state`: a migration is missing: the version in force is {before}, this is {version}: add `migrate: {{from: {before}, agent: …}}`"
        )),
        Some(migrate) if migrate.from != before => {
            Err(format!("`state`: `migrate` leads from version {}, and the version in force is {before}", migrate.from))
        }
        Some(_) => Ok(()),
    }
}

/// The drawer in which an agent's states are kept.
pub fn drawer(agent: &AgentName) -> Drawer {
    Drawer::State(agent.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(version: u32, migrate: Option<u32>) -> Manifest {
        let mut state = json!({
            "version": version, "initial": "on", "states": {"on": {"timeout": "1s", "to": "off"}, "off": {"final": true}},
            "invariants": [{"pick": "$.state.n", "exists": false}],
        });
        if let Some(from) = migrate {
            state["migrate"] = json!({"from": from, "agent": "m"});
        }
        Manifest { state: Some(state), ..Manifest::default() }
    }

    #[test]
    fn an_upgrade_needs_a_migration_from_the_version_in_force() {
        let check = |before: &Manifest, next: &Manifest| check_upgrade(before, next);
        let one = manifest(1, None);
        assert_eq!(check(&one, &one), Ok(()));
        assert_eq!(check(&Manifest::default(), &manifest(7, None)), Ok(()), "there is nothing to migrate");
        assert_eq!(check(&one, &manifest(2, Some(1))), Ok(()));
        assert!(check(&one, &manifest(2, None)).unwrap_err().contains("a migration is missing"));
        assert!(check(&manifest(2, None), &manifest(4, Some(3))).unwrap_err().contains("the version in force is 2"));
        assert!(check(&manifest(2, None), &one).unwrap_err().contains("does not go back"));
    }

    #[test]
    fn what_is_none_of_the_declared_states_is_quarantined_and_what_is_newer_is_left_alone() {
        let declared = |manifest: Manifest| Declared::of(&manifest).unwrap().unwrap();
        let (one, two) = (declared(manifest(1, None)), declared(manifest(2, Some(1))));
        let at = Timestamp::from_millis;
        let kept = one.kept(one.declaration.first(10), None, at(10));
        assert_eq!(Kept::from_bytes(&kept.to_bytes()).as_ref(), Ok(&kept));
        let state = |standing| match standing {
            Standing::Sound(machine) => machine.state,
            other => format!("{other:?}"),
        };
        assert_eq!(state(one.standing(None, at(5_000))), "on", "what was never written does not end");
        assert_eq!(state(one.standing(Some(&kept), at(1_009))), "on");
        assert_eq!(state(one.standing(Some(&kept), at(1_010))), "off");
        assert_eq!(two.standing(Some(&kept), at(10)), Standing::Older("m".parse().unwrap()));
        let newer = two.kept(two.declaration.first(10), Some(kept.state.clone()), at(10));
        assert_eq!(one.standing(Some(&newer), at(10)), Standing::Newer(2));
        let is_quarantined = |kept: &Kept| matches!(one.standing(Some(kept), at(10)), Standing::Quarantined(_));
        assert!(is_quarantined(&Kept { state: "gone".into(), ..kept.clone() }));
        assert!(is_quarantined(&Kept { data: json!({"n": 1}), ..kept.clone() }));
        assert!(is_quarantined(&Kept { quarantined: Some("why".into()), ..kept.clone() }));
        let three = declared(manifest(3, Some(2)));
        assert!(
            matches!(three.standing(Some(&kept), at(10)), Standing::Quarantined(why) if why.contains("no migration"))
        );
    }
}
