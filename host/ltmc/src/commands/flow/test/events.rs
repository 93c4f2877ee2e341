//! Events, played: what others publish while a run goes on, and what the run published.
//!
//! Invariant: each comes once, at its time after the run began; of those that come together, in the order of the case.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ltmc_model::caller::Caller;
use ltmc_model::delta::Delta;
use ltmc_model::journal::{Act, Change};
use ltmc_model::message::{self, Channel, Message, Topic};
use ltmc_model::workflow::Document;
use ltmc_model::workflow::cases::{Case, Coming};
use ltmc_model::{Digest, Position, TenantId};
use ltmc_ports::testing::MemoryRecord;
use ltmc_ports::{Bus as _, Changes, Clock, WriteCatalog as _, WriteJournal as _};
use tokio::sync::Notify;

use super::stage::Passing;

/// Events of a topic that are read at once.
const PAGE: u32 = 1_000;

/// Publishes a case's events, in place of whoever would publish them, while its run goes on.
pub(super) struct Others {
    events: Vec<Coming>,
    /// How many are still to come.
    left: AtomicUsize,
    /// Told after each of them.
    pub(super) came: Notify,
}

impl Others {
    pub(super) fn of(case: &Case) -> Arc<Self> {
        let events = case.events.clone();
        Arc::new(Self { left: AtomicUsize::new(events.len()), events, came: Notify::new() })
    }

    /// How many events are still to come.
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Acquire)
    }

    /// Publishes all of it, for as long as it is polled; the run begins now.
    pub(super) async fn publish(
        self: Arc<Self>,
        record: Arc<MemoryRecord>,
        caller: Caller,
        clock: Arc<Passing>,
    ) -> anyhow::Result<()> {
        let begun = tokio::time::Instant::now();
        for event in &self.events {
            tokio::time::sleep_until(begun + event.after).await;
            let Coming { topic, kind, subject, source, data, after: _ } = event.clone();
            let id = record.next_revision(&caller.tenant);
            let source = source.unwrap_or_else(|| format!("/keys/{}", caller.key));
            let (about, time) = (topic.to_string(), clock.now());
            let event = message::Event {
                id: id.to_string(),
                source,
                kind,
                subject,
                time,
                data,
                attributes: std::collections::BTreeMap::new(),
                trail: None,
            };
            let change = Change::Context { call: "messages.publish".into(), about, request: Digest([0; 32]) };
            let sent = Delta::Sent(Message { id, channel: Channel::Topic(topic), event });
            let act = Act { by: Some(caller.key.clone()), change };
            record.act_with(&caller.tenant, time, act, Changes::blind(vec![sent])).await?;
            self.left.fetch_sub(1, Ordering::AcqRel);
            self.came.notify_one();
        }
        Ok(())
    }
}

/// What the workflow published to the topics that the case looks at, in order.
pub(super) async fn emitted(
    record: &MemoryRecord,
    tenant: &TenantId,
    document: &Document,
    case: &Case,
) -> anyhow::Result<BTreeMap<Topic, Vec<message::Event>>> {
    let own = format!("/workflows/{}", document.name);
    let mut emitted = BTreeMap::new();
    for (topic, _) in &case.expect.emitted {
        let (mut found, mut after) = (Vec::new(), Position::default());
        loop {
            let page = record.events(tenant, topic, after, PAGE).await?;
            let Some(last) = page.events.last() else { break };
            after = last.position;
            found.extend(page.events.into_iter().map(|published| published.event).filter(|event| event.source == own));
        }
        emitted.insert(topic.clone(), found);
    }
    Ok(emitted)
}
