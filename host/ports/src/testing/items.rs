//! What a database should hold of a tenant, as the record in memory has it: see [`ReadContext`].

use async_trait::async_trait;
use ltmc_model::delta::{Delta, MemoryChange, MemoryValue, Topic};
use ltmc_model::memory::Drawer;
use ltmc_model::message::{Channel, Message, Taker};
use ltmc_model::{AgentName, Position, Revision, RunId, Seq, StepPath, TenantId, Timestamp};

use super::MemoryRecord;
use super::context::{Context, Kept};
use crate::log::Item;
use crate::marks::Marks;
use crate::{ReadContext, StoreError};

#[async_trait]
impl ReadContext for MemoryRecord {
    async fn context(
        &self,
        tenant: &TenantId,
        topic: Topic,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Item>, StoreError> {
        let mut items = match topic {
            Topic::Runs => self.run_items(tenant),
            topic => Self::context(self, |context| context.items(tenant, topic)),
        };
        items.retain(|item| after.is_none_or(|after| item.key.as_str() > after));
        items.truncate(limit as usize);
        Ok(items)
    }
}

impl MemoryRecord {
    fn run_items(&self, tenant: &TenantId) -> Vec<Item> {
        self.with_runs(tenant, |run, entries| {
            let mut marks = Marks::default();
            for (number, entry) in (1..).zip(entries) {
                marks.take(Seq(number), entry);
            }
            let deltas = vec![Delta::Run(Box::new(marks.mark(run)))];
            Item { key: run.id.to_string(), version: run.seq.0, position: Position(0), deltas }
        })
    }
}

impl Context {
    /// Items of a topic, in the order of their keys; of runs it knows nothing.
    pub fn items(&self, tenant: &TenantId, topic: Topic) -> Vec<Item> {
        let mut items = match topic {
            Topic::Memory => self.memory_items(tenant),
            Topic::Graph => self.fact_items(tenant),
            Topic::Recall => self.note_items(tenant),
            Topic::Messages => self.message_items(tenant),
            Topic::Runs => Vec::new(),
        };
        items.sort_by(|a, b| a.key.cmp(&b.key));
        items
    }

    fn memory_items(&self, tenant: &TenantId) -> Vec<Item> {
        let of_tenant = self.memory.iter().filter(|((t, ..), _)| t == tenant);
        let items = of_tenant.filter_map(|((_, drawer, key), item)| {
            let Drawer::Session(owner) = drawer else { return None };
            let value = Some(MemoryValue { bytes: item.value.clone(), expires_at: item.expires_at });
            let change =
                MemoryChange { drawer: drawer.clone(), key: key.clone(), revision: item.revision, value, trail: None };
            let (key, deltas) = (format!("{owner}/{key}"), vec![Delta::Memory(change)]);
            Some(Item { key, version: item.revision.0, position: Position(0), deltas })
        });
        items.collect()
    }

    fn fact_items(&self, tenant: &TenantId) -> Vec<Item> {
        let of_tenant = self.facts.iter().filter(|((t, _), _)| t == tenant);
        let items = of_tenant.map(|((_, id), fact)| {
            let version = if fact.valid_to.is_some() { 2 } else { 1 };
            Item { key: digits(id.0), version, position: Position(0), deltas: vec![Delta::FactBegan(fact.clone())] }
        });
        items.collect()
    }

    fn note_items(&self, tenant: &TenantId) -> Vec<Item> {
        let of_tenant = self.notes.iter().filter(|((t, _), _)| t == tenant);
        let items = of_tenant.map(|((_, id), note)| {
            let deltas = vec![Delta::NoteKept(note.clone())];
            Item { key: id.clone(), version: note.revision.0, position: Position(0), deltas }
        });
        items.collect()
    }

    fn message_items(&self, tenant: &TenantId) -> Vec<Item> {
        let mail = self.mail.iter().filter(|((t, ..), _)| t == tenant);
        let mail = mail.map(|((_, agent, position), kept)| in_mailbox(agent, *position, kept));
        let events = self.topics.iter().filter(|((t, ..), _)| t == tenant);
        let events = events.map(|((_, topic, position), event)| {
            let id = Revision(position.0);
            let sent = Delta::Sent(Message { id, channel: Channel::Topic(topic.clone()), event: event.clone() });
            let key = format!("topic/{topic}/{}", digits(position.0));
            Item { key, version: 1, position: *position, deltas: vec![sent] }
        });
        mail.chain(events).collect()
    }
}

fn in_mailbox(agent: &AgentName, position: Position, kept: &Kept) -> Item {
    let id = kept.message.id;
    let mut deltas = vec![Delta::Sent(kept.message.clone())];
    let nobody = || Taker { run: RunId::ledger(), step: StepPath::root(), attempt: 0, part: 0 };
    let by = kept.taken.clone().unwrap_or_else(nobody);
    for _ in 0..kept.deliveries {
        let (messages, places) = (vec![id], vec![position]);
        deltas.push(Delta::Taken { agent: agent.clone(), messages, places, by: by.clone() });
    }
    let version = match (&kept.taken, &kept.dead) {
        (Some(_), _) => 2,
        (None, Some((reason, at))) => {
            deltas.push(Delta::Buried { agent: agent.clone(), message: id, reason: reason.clone(), at: *at });
            3
        }
        (None, None) => {
            if kept.deliveries > 0 {
                deltas.push(Delta::Released { by, at: Timestamp::default() });
            }
            1
        }
    };
    Item { key: format!("mailbox/{agent}/{}", digits(id.0)), version, position, deltas }
}

/// A number that sorts as a text.
fn digits(number: u64) -> String {
    format!("{number:020}")
}
