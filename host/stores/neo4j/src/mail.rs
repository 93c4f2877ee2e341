//! Messages from one agent to another. What is processed stays for a while, as history of who told whom: the inventory is of
//! what is not.
//!
//! Rows are folded here, as the record folds them, over what the database has; what came of it is written at once.

use std::collections::{BTreeMap, BTreeSet};

use ltmc_model::delta::Delta;
use ltmc_model::message::{Channel, MAX_DELIVERIES, Message, Taker};
use ltmc_model::{AgentName, Revision, TenantId, Timestamp};
use ltmc_ports::StoreError;
use serde::Deserialize;

use crate::link::Transaction;
use crate::statement::{Statement, maybe, number, read, texts, time};

/// What is over: no item any more.
const PROCESSED: u64 = 0;
/// In nobody's hands.
const WAITING: u64 = 1;
/// In somebody's hands.
const TAKEN: u64 = 2;
/// A dead letter.
const DEAD: u64 = 3;

/// What rows say of messages.
#[derive(Debug, Default)]
pub(crate) struct Told {
    deltas: Vec<Delta>,
}

/// A message, as it stands while rows are folded.
#[derive(Debug, Deserialize)]
struct Kept {
    key: String,
    state: u64,
    deliveries: u64,
    taker: Option<String>,
    #[serde(skip)]
    changed: bool,
}

/// The key of a mailbox's message.
fn key(agent: &AgentName, id: Revision) -> String {
    format!("mailbox/{agent}/{:020}", id.0)
}

fn taker(by: &Taker) -> String {
    format!("{}/{}/{}", by.run, by.step, by.hold())
}

/// The agents between whom a message went; none: it is not kept.
pub(crate) fn between(message: &Message) -> Option<(AgentName, &AgentName)> {
    let Channel::Mailbox(to) = &message.channel else { return None };
    let from = message.event.source.strip_prefix("/agents/")?.parse().ok()?;
    Some((from, to))
}

impl Told {
    pub(crate) fn hears(&mut self, delta: &Delta) {
        let kept = match delta {
            Delta::Sent(message) => between(message).is_some(),
            Delta::Taken { .. }
            | Delta::Processed { .. }
            | Delta::Buried { .. }
            | Delta::Revived { .. }
            | Delta::Released { .. } => true,
            _ => false,
        };
        if kept {
            self.deltas.push(delta.clone());
        }
    }

    /// Makes it true.
    pub(crate) async fn write(self, tenant: &TenantId, changes: &mut Transaction<'_>) -> Result<(), StoreError> {
        if self.deltas.is_empty() {
            return Ok(());
        }
        let mut kept = self.known(tenant, changes).await?;
        let sent: BTreeMap<String, &Message> = self.deltas.iter().filter_map(sent).collect();
        let new: BTreeSet<String> = sent.keys().filter(|key| !kept.contains_key(*key)).cloned().collect();
        for delta in &self.deltas {
            fold(&mut kept, delta);
        }
        let rows: Vec<_> = new
            .iter()
            .filter_map(|key| {
                let message = sent.get(key)?;
                let (from, to) = between(message)?;
                Some([
                    key.as_str().into(),
                    from.as_str().into(),
                    to.as_str().into(),
                    number(message.id.0),
                    message.event.kind.as_str().into(),
                    time(message.event.time),
                ])
            })
            .collect();
        if !rows.is_empty() {
            let text = "UNWIND $rows AS row \
                        MERGE (a:Agent {tenant: $tenant, name: row[1]}) MERGE (b:Agent {tenant: $tenant, name: row[2]}) \
                        CREATE (a)-[:SENT {tenant: $tenant, key: row[0], id: row[3], type: row[4], at: row[5]}]->(b)";
            changes.run(Statement::of(tenant, text).rows(rows)).await?;
        }
        let rows: Vec<_> = kept
            .values()
            .filter(|kept| kept.changed)
            .map(|kept| {
                let open = (kept.state != PROCESSED).then_some(kept.key.as_str());
                [
                    kept.key.as_str().into(),
                    number(kept.state),
                    number(kept.deliveries),
                    maybe(kept.taker.as_deref().map(Into::into)),
                    maybe(open.map(Into::into)),
                ]
            })
            .collect();
        if !rows.is_empty() {
            let text = "UNWIND $rows AS row MATCH ()-[m:SENT {tenant: $tenant, key: row[0]}]->() \
                        SET m.state = row[1], m.deliveries = row[2], m.taker = row[3], m.open = row[4]";
            changes.run(Statement::of(tenant, text).rows(rows)).await?;
        }
        Ok(())
    }

    /// The same, whatever is there.
    pub(crate) async fn put(self, tenant: &TenantId, changes: &mut Transaction<'_>) -> Result<(), StoreError> {
        let keys: Vec<String> = self.deltas.iter().filter_map(sent).map(|(key, _)| key).collect();
        if !keys.is_empty() {
            let text = "UNWIND $keys AS key MATCH ()-[m:SENT {tenant: $tenant, key: key}]->() DELETE m";
            changes.run(Statement::of(tenant, text).with("keys", texts(keys.iter().map(String::as_str)))).await?;
        }
        self.write(tenant, changes).await
    }

    /// What the database has of the messages of which rows speak.
    async fn known(
        &self,
        tenant: &TenantId,
        changes: &mut Transaction<'_>,
    ) -> Result<BTreeMap<String, Kept>, StoreError> {
        let (mut keys, mut takers) = (BTreeSet::new(), BTreeSet::new());
        for delta in &self.deltas {
            match delta {
                Delta::Sent(message) => keys.extend(sent_key(message)),
                Delta::Taken { agent, messages, .. } => keys.extend(messages.iter().map(|id| key(agent, *id))),
                Delta::Processed { agent, message }
                | Delta::Buried { agent, message, .. }
                | Delta::Revived { agent, message } => drop(keys.insert(key(agent, *message))),
                Delta::Released { by, .. } => drop(takers.insert(taker(by))),
                _ => {}
            }
        }
        let mut kept = BTreeMap::new();
        let by_key = "UNWIND $values AS value MATCH ()-[m:SENT {tenant: $tenant, key: value}]->() \
                      RETURN m.key AS key, m.state AS state, m.deliveries AS deliveries, m.taker AS taker";
        let by_taker = "UNWIND $values AS value MATCH ()-[m:SENT {tenant: $tenant, taker: value}]->() \
                        RETURN m.key AS key, m.state AS state, m.deliveries AS deliveries, m.taker AS taker";
        for (text, values) in [(by_key, keys), (by_taker, takers)] {
            if !values.is_empty() {
                let statement = Statement::of(tenant, text).with("values", texts(values.iter().map(String::as_str)));
                let found: Vec<Kept> = changes.ask(statement).await?;
                kept.extend(found.into_iter().map(|found| (found.key.clone(), found)));
            }
        }
        Ok(kept)
    }
}

fn sent(delta: &Delta) -> Option<(String, &Message)> {
    let Delta::Sent(message) = delta else { return None };
    Some((sent_key(message)?, message))
}

fn sent_key(message: &Message) -> Option<String> {
    between(message).map(|(_, to)| key(to, message.id))
}

/// What a row makes of the messages, as `ltmc_ports::testing::context` has it.
fn fold(kept: &mut BTreeMap<String, Kept>, delta: &Delta) {
    let mut set = |key: &str, make: &dyn Fn(&mut Kept)| {
        if let Some(kept) = kept.get_mut(key) {
            make(kept);
            kept.changed = true;
        }
    };
    match delta {
        Delta::Sent(message) => {
            if let Some(key) = sent_key(message) {
                kept.insert(key.clone(), Kept { key, state: WAITING, deliveries: 0, taker: None, changed: true });
            }
        }
        Delta::Taken { agent, messages, by, .. } => {
            for id in messages {
                set(&key(agent, *id), &|kept| {
                    (kept.state, kept.deliveries, kept.taker) = (TAKEN, kept.deliveries + 1, Some(taker(by)));
                });
            }
        }
        Delta::Processed { agent, message } => {
            set(&key(agent, *message), &|kept| (kept.state, kept.taker) = (PROCESSED, None));
        }
        Delta::Buried { agent, message, .. } => {
            set(&key(agent, *message), &|kept| (kept.state, kept.taker) = (DEAD, None));
        }
        Delta::Revived { agent, message } => {
            set(&key(agent, *message), &|kept| (kept.state, kept.deliveries, kept.taker) = (WAITING, 0, None));
        }
        Delta::Released { by, .. } => {
            let by = taker(by);
            for kept in kept.values_mut().filter(|kept| kept.taker.as_deref() == Some(&by)) {
                kept.state = if kept.deliveries >= u64::from(MAX_DELIVERIES) { DEAD } else { WAITING };
                kept.taker = None;
                kept.changed = true;
            }
        }
        _ => {}
    }
}

/// Removes messages that are processed and were sent before `before`, at most `limit`; how many it was.
pub(crate) async fn forget(
    tenant: &TenantId,
    changes: &mut Transaction<'_>,
    before: Timestamp,
    limit: u64,
) -> Result<u64, StoreError> {
    #[derive(Deserialize)]
    struct Found {
        gone: i64,
    }
    let text = "MATCH ()-[m:SENT]->() WHERE m.tenant = $tenant AND m.at < $before AND m.state = 0 \
                WITH m LIMIT $limit DELETE m RETURN count(*) AS gone";
    let statement = Statement::of(tenant, text).with("before", time(before)).with("limit", number(limit));
    let found: Vec<Found> = changes.ask(statement).await?;
    Ok(found.first().map_or(0, |found| read(found.gone)))
}

/// Keys and versions after `$after`.
pub(crate) const INVENTORY: &str = "MATCH ()-[m:SENT]->() WHERE m.tenant = $tenant AND m.open > $after \
                                    RETURN m.open AS key, m.state AS version ORDER BY m.tenant, m.open LIMIT $limit";

/// Takes messages out of the inventory. That they were sent once stays true.
pub(crate) async fn discard(
    tenant: &TenantId,
    changes: &mut Transaction<'_>,
    keys: &[String],
) -> Result<(), StoreError> {
    let text = "UNWIND $keys AS key MATCH ()-[m:SENT {tenant: $tenant, key: key}]->() \
                SET m.state = 0, m.taker = null, m.open = null";
    changes.run(Statement::of(tenant, text).with("keys", texts(keys.iter().map(String::as_str)))).await
}
