//! Agents' states: what an agent's look at its own, or a transition of it, comes to.
//!
//! Invariants: a state is a key of memory in a drawer of its own, and is decided like one: under the key's lock, with what it was decided on
//! expected of the record. The rules are `ltmc_model::state`'s; here they meet what is kept. What a schema says is judged last, and of what is
//! kept only where it was not judged by that schema before. A state that does not stand to the declaration is never changed here: an older
//! one is migrated first (whoever asks has that done, and then asks again), any other is refused by its rule.

use std::time::Duration;

use ltmc_model::agent::{Agent, AgentRef};
use ltmc_model::call::state::{StateCall, Transition};
use ltmc_model::delta::{Delta, MemoryChange, MemoryValue};
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::failure::Code;
use ltmc_model::memory::Item;
use ltmc_model::state::{self, Came, Declared, Deferred, Dropped, Kept, Machine, Refused, Rule, Standing};
use ltmc_model::{AgentName, Digest, Payload, Revision, SessionId, TenantId, Timestamp};
use ltmc_ports::{Expect, StoreError};
use ltmc_tenancy::Authority;
use serde_json::{Value, json};

use crate::context::{Asked, Context, Decided, Whose};

/// So many of the things that are wrong with data are told.
const TOLD: usize = 5;

/// What a call on a state comes to.
pub enum Stated {
    /// An answer, or a change, as of any other call.
    Decided(Box<Decided>),
    /// The state is of the version before: it is to be migrated, and then asked again.
    Migrate(Box<Migration>),
}

impl Stated {
    fn decided(decided: Decided) -> Self {
        Self::Decided(Box::new(decided))
    }
}

/// A migration that is to be done.
pub struct Migration {
    /// The agent that does it.
    pub agent: AgentName,
    /// What it is given.
    pub input: Payload,
    key: String,
    kept: Kept,
    revision: Revision,
}

/// What came of a migration.
pub enum Migrated {
    /// The state is one of the declaration's.
    Done(Decided),
    /// It is set aside, with what it was; whoever asked is told this.
    Quarantined(Decided),
}

/// A state as it was found.
pub(crate) struct Found {
    /// What is kept; the error: it does not read back.
    pub(crate) kept: Result<Option<Kept>, String>,
    /// Its key's revision; none: nothing is kept.
    pub(crate) revision: Option<Revision>,
    /// Bytes of key and value.
    pub(crate) bytes: usize,
}

impl Found {
    pub(crate) fn of(item: Option<&Item>) -> Self {
        Self {
            kept: item.map(|item| Kept::from_bytes(&item.value)).transpose(),
            revision: item.map(|item| item.revision),
            bytes: item.map_or(0, |item| item.key.len() + item.value.len()),
        }
    }

    fn at(&self) -> Revision {
        self.revision.unwrap_or_default()
    }

    fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref().ok().and_then(Option::as_ref)
    }
}

/// What the newest version of an agent declares, or the version that is named.
///
/// # Errors
/// There is no such agent, or it declares none.
pub async fn declared(
    authority: &Authority,
    tenant: &TenantId,
    agent: &AgentRef,
) -> Result<Result<Declared, String>, StoreError> {
    let Some(found) = authority.agent(tenant, agent).await? else {
        return Ok(Err(format!("there is no agent `{agent}`")));
    };
    let none = || format!("the manifest of agent `{}` declares no states", agent.name);
    Ok(Declared::of(&found.manifest).and_then(|declared| declared.ok_or_else(none)))
}

impl Context {
    /// What an agent's call on its own state comes to, by what its version declares.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    pub async fn state(&self, asked: Asked<'_>, declared: &Declared, call: &StateCall) -> Result<Stated, StoreError> {
        let whose = asked.whose;
        let (Some(agent), Some(key)) = (whose.agent, declared.key(whose.session)) else {
            return Ok(Stated::decided(Decided::refuse("only an agent in a session has a state of its own")));
        };
        let drawer = state::drawer(agent);
        match call {
            StateCall::Get(_) => {
                let found = Found::of(self.memory.item(whose, &drawer, &key, asked.now).await?.as_ref());
                match self.stands(whose.tenant, declared, &found, asked.now).await {
                    Ok(Standing::Sound(machine)) => {
                        let stood = match self.stood(whose.tenant, declared, machine, found.kept(), asked.now).await {
                            Ok(stood) => stood,
                            Err(refusal) => return Ok(Stated::decided(Decided::Answer(Err(refusal)))),
                        };
                        let told = declared.told(&stood.machine, found.at());
                        Ok(Stated::decided(Decided::Answer(Ok(Reply::State(Ok(told))))))
                    }
                    Ok(standing) => Ok(elsewhere(declared, &standing, key, &found)),
                    Err(refusal) => Ok(Stated::decided(Decided::Answer(Err(refusal)))),
                }
            }
            StateCall::Transition(call) => self.transition(asked, declared, agent, key, call).await,
        }
    }

    /// Why the state that an agent would work with in a session is quarantined; none: it is not, or it has none.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    pub async fn quarantined(
        &self,
        tenant: &TenantId,
        session: &SessionId,
        agent: &Agent,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        let Ok(Some(declared)) = Declared::of(&agent.manifest) else { return Ok(None) };
        let Some(key) = declared.key(Some(session)) else { return Ok(None) };
        let patience = Duration::ZERO;
        let whose = Whose {
            tenant,
            session: Some(session),
            agent: Some(&agent.name),
            within: None,
            client: None,
            cause: None,
            patience,
        };
        let found = Found::of(self.memory.item(whose, &state::drawer(&agent.name), &key, now).await?.as_ref());
        Ok(match found.kept.as_ref().map(|kept| declared.standing(kept.as_ref(), now)) {
            Ok(Standing::Quarantined(why)) => Some(why),
            Ok(Standing::Sound(_) | Standing::Older(_) | Standing::Newer(_)) => None,
            Err(why) => Some(why.clone()),
        })
    }

    async fn transition(
        &self,
        asked: Asked<'_>,
        declared: &Declared,
        agent: &AgentName,
        key: String,
        call: &Transition,
    ) -> Result<Stated, StoreError> {
        let Asked { whose, now, .. } = asked;
        let answer = |answer: Result<Reply, Refusal>| Ok(Stated::decided(Decided::Answer(answer)));
        let refused = |refused: Refused| answer(Ok(Reply::State(Err(refused))));
        let patch = match state::patch(&call.patch) {
            Ok(Ok(patch)) => patch,
            Ok(Err(too_large)) => return refused(too_large.into()),
            Err(why) => return answer(Err(Refusal::Invalid(why))),
        };
        let what = state::Asked { event: &call.event, patch: &patch, expected: call.expected.map(|at| at.0) };
        let drawer = state::drawer(agent);
        let lock = self.memory.lock(whose, &drawer, &key).await;
        // What is on its way to the record counts where the event is taken by it.
        let suits = |item: Option<&Item>| {
            let found = Found::of(item);
            let Ok(kept) = &found.kept else { return false };
            let Standing::Sound(machine) = declared.standing(kept.as_ref(), now) else { return false };
            declared.declaration.transition(&machine, found.at().0, &what, now.millis()).is_ok()
        };
        let found = Found::of(self.memory.latest(whose, &drawer, &key, now, suits).await?.as_ref());
        let machine = match self.stands(whose.tenant, declared, &found, now).await {
            Ok(Standing::Sound(machine)) => machine,
            Ok(standing) => return Ok(elsewhere(declared, &standing, key, &found)),
            Err(refusal) => return answer(Err(refusal)),
        };
        let expects = vec![Expect::Key { drawer: drawer.clone(), key: key.clone(), revision: found.revision }];
        let mut stood = match self.stood(whose.tenant, declared, machine, found.kept(), now).await {
            Ok(stood) => stood,
            Err(refusal) => return answer(Err(refusal)),
        };
        let from = stood.machine.state.clone();
        match declared.declaration.transition(&stood.machine, found.at().0, &what, now.millis()) {
            Ok(Came::To(next)) => {
                match self.judged(whose.tenant, declared, &next.data).await {
                    Ok(None) => stood.machine = next,
                    Ok(Some(why)) => return refused(Refused::new(Rule::Schema, why)),
                    Err(refusal) => return answer(Err(refusal)),
                }
                if let Err(refusal) = self.recall(whose.tenant, declared, &mut stood, now).await {
                    return answer(Err(refusal));
                }
            }
            Ok(Came::Deferred) => {
                if let Err(full) = Deferred::push(&mut stood.deferred, &what) {
                    return refused(full.into());
                }
            }
            Ok(Came::Ignored) => {
                let told = Reply::State(Ok(declared.told(&stood.machine, found.at())));
                return Ok(Stated::decided(whose.unchanged(told, expects, lock)));
            }
            Err(why) => return refused(why.into()),
        }
        let revision = (asked.revision)();
        let told = declared.told(&stood.machine, revision);
        let run = whose.log().map(|log| log.run());
        let kept = Kept { event: Some(call.event.clone()), run, ..stood.kept(declared, Some(from), now) };
        let change = MemoryChange { drawer, key, revision, value: Some(value(&kept)), trail: None };
        let room = match self.room(whose, &change, &found).await? {
            Ok(room) => room,
            Err(full) => return answer(Err(full)),
        };
        let expects = expects.into_iter().chain(room).collect();
        let deltas = vec![Delta::Memory(change)];
        Ok(Stated::decided(Decided::change(Reply::State(Ok(told)), deltas, expects, lock)))
    }

    /// What came of a migration: its agent's output, or why it gave none. What it comes to becomes true at once.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    pub async fn migrated(
        &self,
        asked: Asked<'_>,
        declared: &Declared,
        migration: Migration,
        output: Result<Payload, String>,
    ) -> Result<Result<Migrated, Refusal>, StoreError> {
        let Asked { whose, now, revision } = asked;
        let Migration { agent, key, kept, revision: before, .. } = migration;
        let Some(own) = whose.agent else { return Ok(Err(Refusal::NotFound)) };
        let made = match output.and_then(|output| made(declared, &kept, &output)) {
            Ok(machine) => match self.judged(whose.tenant, declared, &machine.data).await {
                Ok(None) => Ok(machine),
                Ok(Some(why)) => Err(why),
                Err(refusal) => return Ok(Err(refusal)),
            },
            Err(why) => Err(why),
        };
        let (drawer, at, run) = (state::drawer(own), revision(), whose.log().map(|log| log.run()));
        let (kept, why) = match made {
            Ok(machine) => {
                let deferred = kept.deferred;
                (Kept { run, deferred, ..declared.kept(machine, Some(kept.state), now) }, None)
            }
            Err(why) => {
                let version = declared.declaration.version;
                let why =
                    format!("its migration by `{agent}` from version {} to {version} failed: {why}", kept.version);
                let (from, quarantined) = (Some(kept.state.clone()), Some(cut(&why)));
                let (event, by, reason, due) = (None, None, None, None);
                let set_aside = Kept { at: now, from, run, quarantined, event, by, reason, due, timed: false, ..kept };
                (set_aside, Some(why))
            }
        };
        let expects = vec![Expect::Key { drawer: drawer.clone(), key: key.clone(), revision: Some(before) }];
        let delta = Delta::Memory(MemoryChange { drawer, key, revision: at, value: Some(value(&kept)), trail: None });
        Ok(Ok(match why {
            None => {
                let told = Reply::State(Ok(declared.told(&kept.machine(), at)));
                Migrated::Done(Decided::change(told, vec![delta], expects, None))
            }
            Some(why) => {
                let refused = state::not_told(declared, &Standing::Quarantined(why));
                let told = Reply::State(Err(refused.unwrap_or_else(|| Refused::new(Rule::Quarantined, ""))));
                Migrated::Quarantined(Decided::change(told, vec![delta], expects, None).at_once())
            }
        }))
    }

    /// A state as it is by now, with what waits for its next transition: where its time ended it, that was one.
    ///
    /// # Errors
    /// That is not known now.
    pub(crate) async fn stood(
        &self,
        tenant: &TenantId,
        declared: &Declared,
        machine: Machine,
        kept: Option<&Kept>,
        now: Timestamp,
    ) -> Result<Stood, Refusal> {
        let deferred = kept.map(|kept| kept.deferred.iter().cloned().map(Deferred::from).collect());
        let has_ended = kept.is_some_and(|kept| kept.machine() != machine);
        let mut stood = Stood { machine, deferred: deferred.unwrap_or_default(), dropped: Vec::new() };
        if has_ended {
            self.recall(tenant, declared, &mut stood, now).await?;
        }
        Ok(stood)
    }

    /// Gives a state that has just begun the events that wait for it.
    ///
    /// # Errors
    /// What they come to is not known now.
    async fn recall(
        &self,
        tenant: &TenantId,
        declared: &Declared,
        stood: &mut Stood,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let declaration = &declared.declaration;
        while let Some((one, came)) = declaration.recalled(&stood.machine, &mut stood.deferred, now.millis()) {
            let rule = match came {
                Ok(next) => match self.judged(tenant, declared, &next.data).await? {
                    None => {
                        stood.machine = next;
                        continue;
                    }
                    Some(_) => Rule::Schema,
                },
                Err(refused) => refused.rule,
            };
            stood.dropped.push(Dropped { event: one.event, rule: rule.as_str().to_owned() });
        }
        Ok(())
    }

    /// How what is kept stands to a declaration, its schema too. The error: that is not known now.
    pub(crate) async fn stands(
        &self,
        tenant: &TenantId,
        declared: &Declared,
        found: &Found,
        now: Timestamp,
    ) -> Result<Standing, Refusal> {
        let kept = match &found.kept {
            Ok(kept) => kept.as_ref(),
            Err(why) => return Ok(Standing::Quarantined(why.clone())),
        };
        let standing = declared.standing(kept, now);
        let (Standing::Sound(machine), Some(kept), Some(schema)) = (&standing, kept, &declared.schema) else {
            return Ok(standing);
        };
        if kept.judged == Some(Digest::of(schema.as_bytes())) {
            return Ok(standing);
        }
        Ok(self.judged(tenant, declared, &machine.data).await?.map_or(standing, Standing::Quarantined))
    }

    /// What is wrong with a tenant's data by the schema; none: nothing.
    pub(crate) async fn judged(
        &self,
        tenant: &TenantId,
        declared: &Declared,
        data: &Value,
    ) -> Result<Option<String>, Refusal> {
        let Some(schema) = &declared.schema else { return Ok(None) };
        let unavailable = |message: String| Refusal::Unavailable { message, retry_after_ms: 1_000 };
        let Some(judge) = &self.schemas else { return Err(unavailable("nobody judges by JSON Schema here".into())) };
        let payload = Payload { content_type: Payload::JSON.into(), bytes: data.to_string().into() };
        match judge.judge(tenant, schema, &payload).await {
            Ok(found) if found.is_empty() => Ok(None),
            Ok(found) => {
                let told = found.iter().take(TOLD).map(|one| {
                    let at = if one.at.is_empty() { "the whole" } else { one.at.as_str() };
                    format!("{at}: {}", cut(&one.message))
                });
                Ok(Some(format!("the data is not as the schema says: {}", told.collect::<Vec<_>>().join("; "))))
            }
            Err(failure) if matches!(failure.code, Code::LimitCpu | Code::LimitMemory) => {
                Ok(Some(format!("the data could not be judged by the schema: {}", failure.message)))
            }
            Err(failure) => Err(unavailable(failure.message)),
        }
    }

    /// Room for what a state takes more than before.
    pub(crate) async fn room(
        &self,
        whose: Whose<'_>,
        change: &MemoryChange,
        found: &Found,
    ) -> Result<Result<Option<Expect>, Refusal>, StoreError> {
        let bytes = change.key.len() + change.value.as_ref().map_or(0, |value| value.bytes.len());
        match bytes.saturating_sub(found.bytes) {
            0 => Ok(Ok(None)),
            more => self.memory.fits(whose, more).await,
        }
    }
}

/// A state, with the events that wait for its next transition.
pub(crate) struct Stood {
    pub(crate) machine: Machine,
    pub(crate) deferred: Vec<Deferred>,
    /// Those that were refused when they were given.
    pub(crate) dropped: Vec<Dropped>,
}

impl Stood {
    /// What is kept of it from now on.
    pub(crate) fn kept(self, declared: &Declared, from: Option<String>, now: Timestamp) -> Kept {
        let deferred = self.deferred.into_iter().map(Into::into).collect();
        Kept { deferred, dropped: self.dropped, ..declared.kept(self.machine, from, now) }
    }
}

/// What becomes of a call on a state that is none of the declaration's.
fn elsewhere(declared: &Declared, standing: &Standing, key: String, found: &Found) -> Stated {
    if let (Standing::Older(agent), Some(kept)) = (standing, found.kept()) {
        let (agent, kept, revision) = (agent.clone(), kept.clone(), found.at());
        let input = json!({"state": kept.state, "data": kept.data}).to_string();
        let input = Payload { content_type: Payload::JSON.into(), bytes: input.into() };
        return Stated::Migrate(Box::new(Migration { agent, input, key, kept, revision }));
    }
    match state::not_told(declared, standing) {
        Some(refused) => Stated::decided(Decided::Answer(Ok(Reply::State(Err(refused))))),
        None => Stated::decided(Decided::refuse("the state cannot be told")),
    }
}

/// The state that a migration made, where the declaration knows it.
fn made(declared: &Declared, kept: &Kept, output: &Payload) -> Result<Machine, String> {
    let machine = state::made(&output.bytes, kept.since)?;
    declared.declaration.fits(&machine).map_err(|refused| refused.message)?;
    Ok(machine)
}

pub(crate) fn value(kept: &Kept) -> MemoryValue {
    MemoryValue { bytes: kept.to_bytes(), expires_at: None }
}

fn cut(text: &str) -> String {
    text.chars().take(1_000).collect()
}
