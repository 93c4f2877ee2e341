//! The host's side of the interface `ltmc:agent/messages`.

use ltmc_model::call::messages::{self as call, Draft};
use ltmc_model::{Payload, Position, Revision, Timestamp};

use super::{Answered, wit};
use crate::guest::Guest;
use wit::messages::{Delivery, Event, Events, Published};

impl wit::messages::Host for Guest {
    async fn send(&mut self, to: String, event: wit::messages::Draft) -> Answered<u64> {
        let call = to.parse().map(|to| call::Send { to, event: draft(event) }).map_err(text);
        Ok(self.cross_checked(call).await?.map(|id| id.0))
    }

    async fn publish(&mut self, topic: String, event: wit::messages::Draft) -> Answered<u64> {
        let call = topic.parse().map(|topic| call::Publish { topic, event: draft(event) }).map_err(text);
        Ok(self.cross_checked(call).await?.map(|id| id.0))
    }

    async fn receive(&mut self, limit: u32, wait_ms: u64) -> Answered<Vec<Delivery>> {
        let delivery = |one: ltmc_model::message::Delivery| Delivery {
            id: one.id.0,
            deliveries: one.deliveries,
            event: event(one.event),
        };
        let taken = self.cross_waiting(Ok(call::Receive { limit, wait_ms }), wait_ms).await?;
        Ok(taken.map(|taken| taken.into_iter().map(delivery).collect()))
    }

    async fn ack(&mut self, id: u64) -> Answered<()> {
        self.cross(call::Ack { id: Revision(id) }).await
    }

    async fn reject(&mut self, id: u64, reason: String) -> Answered<()> {
        self.cross(call::Reject { id: Revision(id), reason }).await
    }

    async fn read(&mut self, topic: String, after: Option<u64>, limit: u32, wait_ms: u64) -> Answered<Events> {
        let call = topic.parse().map_err(text);
        let call = call.map(|topic| call::Read { topic, after: after.map(Position), limit, wait_ms });
        let published =
            |one: ltmc_model::message::Published| Published { position: one.position.0, event: event(one.event) };
        let found = self.cross_waiting(call, wait_ms).await?;
        Ok(found.map(|found| Events { events: found.events.into_iter().map(published).collect(), next: found.next.0 }))
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn draft(draft: wit::messages::Draft) -> Draft {
    let data = Payload { content_type: draft.data.content_type, bytes: draft.data.bytes.into() };
    Draft { kind: draft.kind, subject: draft.subject, data, given: None }
}

fn event(event: ltmc_model::message::Event) -> Event {
    Event {
        id: event.id,
        source: event.source,
        kind: event.kind,
        subject: event.subject,
        time_ms: Timestamp::millis(event.time),
        data: wit::types::Payload { content_type: event.data.content_type, bytes: event.data.bytes.into() },
    }
}
