//! Agents' states as time goes by: what becomes of one whose time is over.
//!
//! Invariants: it is decided on the newest version of the agent, and on what was kept: whoever changed that meanwhile was faster, and has set another
//! timer or none. A state ends in one other state at a time; where that one is over, too, its own timer says so. What is published with it the agent
//! may publish.

use std::collections::BTreeMap;

use ltmc_model::capability::{Any, Capability};
use ltmc_model::delta::{Delta, MemoryChange};
use ltmc_model::effect::Refusal;
use ltmc_model::journal::Change;
use ltmc_model::message::{Channel, Event, Message, Topic};
use ltmc_model::state::{self, Declared, Kept, Standing, Timer};
use ltmc_model::{Payload, Revision, TenantId, Timestamp};
use ltmc_policy::{InForce, Verdict};
use ltmc_ports::{Changes, Expect, StoreError};
use serde_json::json;

use crate::context::{Context, Whose};
use crate::locks;
use crate::state::{Found, value};

/// What the end of a state comes to.
pub struct Lapse {
    /// As the ledger says it.
    pub change: Change,
    /// What becomes true with it.
    pub changes: Changes,
}

impl Context {
    /// What becomes of a state whose time is over, by what the newest version of its agent declares; none declared: it ends no more. The
    /// inner error: that is not known now. None: another one stands there by now.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not answer.
    pub async fn lapse(
        &self,
        tenant: &TenantId,
        timer: &Timer,
        declared: Option<(&Declared, &InForce)>,
        now: Timestamp,
        revision: &(dyn Fn() -> Revision + Sync),
    ) -> Result<Result<Option<Lapse>, Refusal>, StoreError> {
        let agent = &timer.agent;
        let patience = locks::patience(0);
        let whose =
            Whose { tenant, session: None, agent: Some(agent), within: None, client: None, cause: None, patience };
        let drawer = state::drawer(agent);
        let found = Found::of(self.memory.item(whose, &drawer, &timer.key, now).await?.as_ref());
        let Ok(Some(kept)) = &found.kept else { return Ok(Ok(None)) };
        if kept.due.is_none_or(|due| due > now) {
            return Ok(Ok(None));
        }
        let After { next, to, emits } = match self.after(tenant, declared, &found, kept, now).await {
            Ok(came) => came,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let written = MemoryChange {
            drawer: drawer.clone(),
            key: timer.key.clone(),
            revision: revision(),
            value: Some(value(&next)),
            trail: None,
        };
        let mut deltas = vec![Delta::Memory(written)];
        if let (Some((topic, kind)), Some(to)) = (&emits, &to) {
            deltas.push(Delta::Sent(published(timer, (topic, kind), (&kept.state, to), now, revision())));
        }
        let change = Change::StateLapsed {
            agent: agent.clone(),
            key: timer.key.clone(),
            from: kept.state.clone(),
            to,
            topic: emits.map(|(topic, _)| topic),
        };
        let expects = vec![Expect::Key { drawer, key: timer.key.clone(), revision: found.revision }];
        Ok(Ok(Some(Lapse { change, changes: Changes { deltas, expects } })))
    }

    /// What comes of it then.
    async fn after(
        &self,
        tenant: &TenantId,
        declared: Option<(&Declared, &InForce)>,
        found: &Found,
        kept: &Kept,
        now: Timestamp,
    ) -> Result<After, Refusal> {
        let stays = |due| Ok(After { next: Kept { due, ..kept.clone() }, to: None, emits: None });
        let Some((declared, in_force)) = declared else { return stays(None) };
        let Standing::Sound(_) = self.stands(tenant, declared, found, now).await? else { return stays(None) };
        let machine = kept.machine();
        let Some(next) = declared.declaration.ended(&machine, now.millis()) else {
            return stays(declared.declaration.due(&machine).map(|(at, _)| Timestamp::from_millis(at)));
        };
        let to = Some(next.state.clone());
        let stood = self.stood(tenant, declared, next, Some(kept), now).await?;
        let emits = declared.declaration.states.get(&kept.state).and_then(|lasts| lasts.emits.as_ref());
        let emits = emits.and_then(|emits| Some((emits.topic.parse::<Topic>().ok()?, emits.kind.clone())));
        let may = |topic: &Topic| {
            let need = Capability::MessagePublish(Any::One(topic.clone()));
            matches!(in_force.decide(&[need]), Verdict::Allowed(_))
        };
        let emits = emits.filter(|(topic, _)| may(topic));
        Ok(After { next: Kept { timed: true, ..stood.kept(declared, Some(kept.state.clone()), now) }, to, emits })
    }
}

/// What the end of a state's time comes to.
struct After {
    /// What is kept from then on.
    next: Kept,
    /// The state that it ended in; none: it did not end.
    to: Option<String>,
    /// What is published, and where.
    emits: Option<(Topic, String)>,
}

/// That a state ended, as who subscribes to the topic is told.
fn published(
    timer: &Timer,
    (topic, kind): (&Topic, &str),
    (from, to): (&str, &str),
    now: Timestamp,
    id: Revision,
) -> Message {
    let session = timer.key.strip_prefix("session/");
    let data = json!({ "agent": timer.agent, "session": session, "from": from, "to": to, "due": timer.at });
    let event = Event {
        id: id.to_string(),
        source: format!("/agents/{}", timer.agent),
        kind: kind.to_owned(),
        subject: Some(timer.agent.to_string()),
        time: now,
        data: Payload::json(&data),
        attributes: BTreeMap::new(),
        trail: None,
    };
    Message { id, channel: Channel::Topic(topic.clone()), event }
}
