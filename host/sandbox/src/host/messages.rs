//! `ltmc:agent/messages`.

use ltmc_model::effect::{Call, Draft, Reply};
use ltmc_model::{Payload, Position, Revision, Timestamp};

use super::{Answered, unexpected, wit};
use crate::guest::Guest;
use wit::messages::{Delivery, Event, Events, Published};

impl wit::messages::Host for Guest {
    async fn send(&mut self, to: String, event: wit::messages::Draft) -> Answered<u64> {
        let call = to.parse().map(|to| Call::MessageSend { to, event: draft(event) }).map_err(text);
        self.sent(call).await
    }

    async fn publish(&mut self, topic: String, event: wit::messages::Draft) -> Answered<u64> {
        let call = topic.parse().map(|topic| Call::MessagePublish { topic, event: draft(event) }).map_err(text);
        self.sent(call).await
    }

    async fn receive(&mut self, limit: u32, wait_ms: u64) -> Answered<Vec<Delivery>> {
        match self.cross(Call::MessageReceive { limit, wait_ms }).await? {
            Ok(Reply::Deliveries(taken)) => Ok(Ok(taken
                .into_iter()
                .map(|one| Delivery { id: one.id.0, deliveries: one.deliveries, event: event(one.event) })
                .collect())),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn ack(&mut self, id: u64) -> Answered<()> {
        self.done(Call::MessageAck { id: Revision(id) }).await
    }

    async fn reject(&mut self, id: u64, reason: String) -> Answered<()> {
        self.done(Call::MessageReject { id: Revision(id), reason }).await
    }

    async fn read(&mut self, topic: String, after: Option<u64>, limit: u32, wait_ms: u64) -> Answered<Events> {
        let call = topic.parse().map_err(text);
        let call = call.map(|topic| Call::MessageRead { topic, after: after.map(Position), limit, wait_ms });
        match self.cross_checked(call).await? {
            Ok(Reply::Events(found)) => {
                let published = |one: ltmc_model::message::Published| Published {
                    position: one.position.0,
                    event: event(one.event),
                };
                Ok(Ok(Events { events: found.events.into_iter().map(published).collect(), next: found.next.0 }))
            }
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Ok(Err(error)),
        }
    }
}

impl Guest {
    async fn sent(&mut self, call: Result<Call, String>) -> Answered<u64> {
        match self.cross_checked(call).await? {
            Ok(Reply::Revision(id)) => Ok(Ok(id.0)),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn done(&mut self, call: Call) -> Answered<()> {
        match self.cross(call).await? {
            Ok(Reply::Done) => Ok(Ok(())),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Ok(Err(error)),
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn draft(draft: wit::messages::Draft) -> Draft {
    let data = Payload { content_type: draft.data.content_type, bytes: draft.data.bytes.into() };
    Draft { kind: draft.kind, subject: draft.subject, data }
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
