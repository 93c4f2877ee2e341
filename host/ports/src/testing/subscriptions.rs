//! What runs wait for in topics, in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ltmc_model::delta::Delta;
use ltmc_model::journal::{Entry, Event};
use ltmc_model::message::{Channel, Events, Message, Topic};
use ltmc_model::run::{Run, State};
use ltmc_model::{Position, RunId, StepPath, TenantId};

use super::MemoryRecord;
use crate::{Bus as _, StoreError, Waits};

/// Of every node that waits, what it waits for.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(BTreeMap<(TenantId, RunId, StepPath), Subscription>);

#[derive(Debug)]
struct Subscription {
    topic: Topic,
    subject: Option<String>,
    kind: Option<String>,
    /// The newest event that may be the one.
    hit: Position,
}

impl Subscriptions {
    /// What entries of a run make of them; whether it is suspended and does not know of an event yet.
    pub(super) fn follow(&mut self, run: &Run, entries: &[Entry]) -> bool {
        let place = |node: &StepPath| (run.tenant.clone(), run.id, node.clone());
        let mut is_due = false;
        for entry in entries {
            match &entry.event {
                Event::Subscribed { node, topic, subject, kind, .. } => {
                    let (topic, subject, kind) = (topic.clone(), subject.clone(), kind.clone());
                    self.0.insert(place(node), Subscription { topic, subject, kind, hit: Position::default() });
                }
                Event::EventTaken { node, .. } | Event::WaitCancelled { node } => drop(self.0.remove(&place(node))),
                Event::RunSuspended { heard: Some(heard), .. } => {
                    let mut own = self.0.iter().filter(|((tenant, id, _), _)| *tenant == run.tenant && *id == run.id);
                    is_due = own.any(|(_, subscription)| subscription.hit > *heard);
                }
                _ => {}
            }
        }
        if matches!(run.state, State::Failed | State::Cancelled | State::Quarantined) {
            self.0.retain(|(tenant, id, _), _| *tenant != run.tenant || *id != run.id);
        }
        is_due
    }

    /// The runs that may wait for what a delta publishes.
    pub(super) fn published(&mut self, tenant: &TenantId, place: Position, delta: &Delta) -> Vec<RunId> {
        let Delta::Sent(Message { channel: Channel::Topic(topic), event, .. }) = delta else { return Vec::new() };
        let concerned = self.0.iter_mut().filter(|((of, ..), subscription)| {
            of == tenant
                && subscription.topic == *topic
                && (subscription.subject.is_none() || subscription.subject == event.subject)
                && subscription.kind.as_ref().is_none_or(|kind| *kind == event.kind)
        });
        concerned
            .map(|((_, run, _), subscription)| {
                subscription.hit = place;
                *run
            })
            .collect()
    }

    pub(super) fn purge(&mut self, tenant: &TenantId) {
        self.0.retain(|(of, ..), _| of != tenant);
    }

    pub(super) fn waiting(&self, tenant: &TenantId, topic: &Topic, subject: Option<&str>) -> usize {
        let same =
            |subscription: &&Subscription| subscription.topic == *topic && subscription.subject.as_deref() == subject;
        self.0.iter().filter(|((of, ..), _)| of == tenant).map(|(_, subscription)| subscription).filter(same).count()
    }
}

#[async_trait]
impl Waits for MemoryRecord {
    async fn events_about(
        &self,
        tenant: &TenantId,
        topic: &Topic,
        subject: &str,
        after: Position,
        limit: u32,
    ) -> Result<Events, StoreError> {
        let mut found = self.events(tenant, topic, after, u32::MAX).await?;
        found.events.retain(|published| published.event.subject.as_deref() == Some(subject));
        found.events.truncate(limit as usize);
        found.next = found.events.last().map_or(after, |last| last.position);
        Ok(found)
    }

    async fn waiting(
        &self,
        tenant: &TenantId,
        topic: &Topic,
        subject: Option<&str>,
        most: u32,
    ) -> Result<u32, StoreError> {
        let count = self.with_subscriptions(|subscriptions| subscriptions.waiting(tenant, topic, subject));
        Ok(u32::try_from(count).unwrap_or(most).min(most))
    }
}
