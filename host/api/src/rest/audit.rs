//! The audit: what was done to a tenant's things, by whom and when, as its ledger has it. Secrets and their hashes are never
//! shown.

use axum::extract::State;
use ltmc_model::caller::Caller;
use ltmc_model::journal::{Act, Change, Event, Placed};
use ltmc_model::{KeyId, Seq, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answers::PAGE;
use crate::app::{Answer, Api};
use crate::extract::{Asked, By};
use crate::page::{self, Page};
use crate::problem::{Problem, Result};

const LIST: &str = "audit";
/// How many acts are looked through for a page.
const LOOKED_THROUGH: u32 = 2_000;
/// How many of them at once.
const STRETCH: u32 = 50;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(list))
}

/// An act.
#[derive(Serialize, ToSchema)]
struct Entry {
    /// Its number in the ledger, from 1 on.
    number: u64,
    /// When the act was recorded.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Whose key; none: the host itself, or somebody without a good key.
    #[schema(value_type = Option<String>, required, example = "k3v9x0q2m7ab")]
    by: Option<KeyId>,
    /// What was done.
    #[schema(example = "grants-set")]
    action: &'static str,
    /// What the act changed, such as an agent or a key by its name.
    #[schema(example = "read-diff")]
    subject: String,
    /// What else is to be known of it.
    #[schema(value_type = Object, example = json!({"grants": ["log"], "carry": "never"}))]
    detail: Value,
}

/// Which acts to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Only those of this key.
    #[param(value_type = Option<String>)]
    by: Option<KeyId>,
    /// Only those of this kind, such as `grants-set`, `key-created`, `refused`.
    action: Option<String>,
    /// Items of a page, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// List what was done
///
/// The newest first: keys, grants, ceilings, agents, workflows, changes of shared context by clients, who was refused, and who read
/// what is not its own (by the hour). A
/// tenant's admin sees its own; the operator the host's (tenants, ceilings, its own keys). What the operator does to a tenant's
/// keys is in the tenant's. A page may be short, or empty, and have a `next`: a page looks through 2,000 acts, and has about 1 MiB.
#[utoipa::path(
    get, path = "/v1/audit", tag = "tenants", params(Which),
    extensions(("x-ltmc-role" = json!(["operator", "admin"]))),
    responses((status = 200, body = Page<Entry>)),
)]
async fn list(State(api): State<Api>, By(caller): By, Asked(which): Asked<Which>) -> Answer {
    let limit = page::limit(which.limit)? as usize;
    let before = which.cursor.as_deref().map(|cursor| page::open(LIST, cursor)).transpose()?.map(Seq);
    if let Some(action) = which.action.as_deref().filter(|action| !ACTIONS.contains(action)) {
        let known = ACTIONS.join("`, `");
        return Err(Problem::new("bad-query", format!("`{action}` is no action; there are `{known}`.")).field("action"));
    }
    let room = api.answers.room(&caller, PAGE)?;
    let mut before = match before {
        Some(before) => before,
        None => api.access.ledger_end(&caller).await?.next(),
    };
    let (mut items, mut bytes, mut looked) = (Vec::new(), 0, 0);
    while before.0 > 1 && items.len() < limit && bytes < PAGE && looked < LOOKED_THROUGH {
        let first = before.0.saturating_sub(1 + u64::from(STRETCH));
        looked += STRETCH;
        for entry in stretch(&api, &caller, Seq(first), before).await?.into_iter().rev() {
            before = Seq(entry.number);
            let is_wanted = which.by.as_ref().is_none_or(|by| entry.by.as_ref() == Some(by))
                && which.action.as_deref().is_none_or(|action| entry.action == action);
            if is_wanted {
                bytes += 128 + (entry.subject.len() + entry.detail.to_string().len()) as u64;
                items.push(entry);
            }
            if items.len() == limit || bytes >= PAGE {
                break;
            }
        }
    }
    let next = (before.0 > 1).then(|| page::seal(LIST, &before.0.to_string()));
    room.json(&Page { items, next })
}

/// The ledger's entries between two numbers, without what is large in them: of that no more than a page is held at once.
async fn stretch(api: &Api, caller: &Caller, mut after: Seq, before: Seq) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    while after.next() < before {
        let left = u32::try_from(before.0 - after.0 - 1).unwrap_or(STRETCH).min(STRETCH);
        let found = api.access.ledger(caller, after, left).await?;
        let Some(last) = found.last() else { break };
        after = last.seq;
        entries.extend(found.into_iter().filter_map(Entry::of));
    }
    Ok(entries)
}

/// Every kind of act, by name.
const ACTIONS: [&str; 32] = [
    "tenant-created",
    "tenant-deleted",
    "tenant-gone",
    "ceiling-set",
    "key-created",
    "key-revoked",
    "agent-pushed",
    "agent-upgraded",
    "agent-deleted",
    "grants-set",
    "grant-revoked",
    "workflow-put",
    "workflow-deleted",
    "schedule-paused",
    "schedule-continued",
    "subscription-put",
    "subscription-deleted",
    "subscription-paused",
    "subscription-continued",
    "subscription-replayed",
    "dead-event-settled",
    "session-opened",
    "session-closed",
    "session-forgotten",
    "session-part",
    "state-lapsed",
    "session-handed-over",
    "session-rewound",
    "turn-lost",
    "context-changed",
    "refused",
    "accessed",
];

impl Entry {
    fn of(placed: Placed) -> Option<Self> {
        let Event::Act(act) = placed.entry.event else { return None };
        let Act { by, change } = *act;
        let (action, subject, detail) = said(change);
        Some(Self { number: placed.seq.0, at: placed.entry.at, by, action, subject, detail })
    }
}

/// What an act did, to what, and what else is to be known of it.
fn said(change: Change) -> (&'static str, String, Value) {
    match change {
        Change::TenantCreated(tenant) => ("tenant-created", tenant.name.to_string(), json!({})),
        Change::TenantDeleted { tenant } => ("tenant-deleted", tenant.to_string(), json!({})),
        Change::TenantGone { head } => {
            ("tenant-gone", head.tenant.to_string(), json!({"entries": head.length, "hash": head.hash}))
        }
        Change::CeilingSet { tenant, ceiling } => ("ceiling-set", tenant.to_string(), json!({"ceiling": ceiling})),
        Change::KeyCreated(key) => {
            let detail = json!({"role": key.role, "expires_at": key.expires_at});
            ("key-created", key.id.to_string(), detail)
        }
        Change::KeyRevoked { key, .. } => ("key-revoked", key.to_string(), json!({})),
        Change::AgentPushed(agent) => {
            ("agent-pushed", format!("{}@{}", agent.name, agent.digest), json!({"asks": agent.manifest.asks}))
        }
        Change::AgentUpgraded { agent, grants_of } => {
            let detail = json!({"asks": agent.manifest.asks, "grants_of": grants_of.to_string()});
            ("agent-upgraded", format!("{}@{}", agent.name, agent.digest), detail)
        }
        Change::AgentDeleted { name } => ("agent-deleted", name.to_string(), json!({})),
        Change::GrantsSet { agent, grants, digest, carry } => {
            let subject = digest.map_or_else(|| agent.to_string(), |digest| format!("{agent}@{digest}"));
            ("grants-set", subject, json!({"grants": grants, "carry": carry.unwrap_or_default()}))
        }
        Change::GrantRevoked { agent, grant } => ("grant-revoked", agent.to_string(), json!({"grant": grant})),
        Change::WorkflowPut { name, digest, .. } => {
            ("workflow-put", name.to_string(), json!({"digest": digest.to_string()}))
        }
        Change::WorkflowDeleted { name } => ("workflow-deleted", name.to_string(), json!({})),
        Change::SchedulePaused { workflow, number, why, .. } => {
            ("schedule-paused", format!("{workflow}/{number}"), json!({"why": why}))
        }
        Change::ScheduleContinued { workflow, number, next, .. } => {
            ("schedule-continued", format!("{workflow}/{number}"), json!({"next": next}))
        }
        Change::SubscriptionPut { id, planted } => {
            let detail = json!({"feed": planted.trigger.feed.to_string(), "start": planted.trigger.start.to_string()});
            ("subscription-put", id.to_string(), detail)
        }
        Change::SubscriptionDeleted { id } => ("subscription-deleted", id.to_string(), json!({})),
        Change::SubscriptionPaused { id, why } => ("subscription-paused", id.to_string(), json!({"why": why})),
        Change::SubscriptionContinued { id } => ("subscription-continued", id.to_string(), json!({})),
        Change::SubscriptionReplayed { id, after, force } => {
            ("subscription-replayed", id.to_string(), json!({"after": after, "force": force}))
        }
        Change::DeadEventSettled { id, position, verdict } => {
            ("dead-event-settled", id.to_string(), json!({"position": position, "verdict": verdict}))
        }
        Change::SessionOpened { id, settings, fork } => {
            let (with, participants) = (settings.with.to_string(), settings.participants.len());
            let fork = fork.map(|fork| json!({"of": fork.of, "at": fork.at}));
            ("session-opened", id.to_string(), json!({"with": with, "participants": participants, "fork": fork}))
        }
        Change::SessionClosed { id, expired, now, why } => {
            ("session-closed", id.to_string(), json!({"expired": expired, "now": now, "why": why}))
        }
        Change::SessionPart { session, key, part } => {
            ("session-part", session.to_string(), json!({"key": key, "part": part}))
        }
        Change::SessionForgotten { id, keys, memory, archive } => {
            let bytes = archive.map(|document| document.len());
            ("session-forgotten", id.to_string(), json!({"keys": keys, "memory": memory, "archive-bytes": bytes}))
        }
        Change::SessionRewound { id, to, holder, keys, .. } => {
            let holder = holder.map(|holder| holder.agent);
            ("session-rewound", id.to_string(), json!({"to": to, "holder": holder, "keys": keys}))
        }
        Change::SessionHandedOver { session, from, to, reason } => {
            ("session-handed-over", session.to_string(), json!({"from": from, "to": to, "reason": reason}))
        }
        Change::TurnLost { session, number, run, why } => {
            ("turn-lost", session.to_string(), json!({"turn": number, "run": run, "why": why}))
        }
        Change::StateLapsed { agent, key, from, to, topic } => {
            ("state-lapsed", agent.to_string(), json!({"key": key, "from": from, "to": to, "topic": topic}))
        }
        Change::Context { call, about, .. } => ("context-changed", about, json!({"call": call})),
        Change::Refused { action, why } => ("refused", action, json!({"why": why})),
        Change::Accessed { what, times } => ("accessed", what, json!({"times": times})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_act_has_a_name_that_can_be_asked_for() {
        let name = "echo".parse::<ltmc_model::AgentName>().unwrap();
        for change in [
            Change::AgentDeleted { name: name.clone() },
            Change::GrantsSet { agent: name, grants: Vec::new(), digest: None, carry: None },
            Change::Refused { action: "come in".into(), why: "no".into() },
            Change::Accessed { what: "the audit".into(), times: 1 },
        ] {
            assert!(ACTIONS.contains(&said(change).0));
        }
    }
}
