//! Topics, read.

use async_trait::async_trait;
use ltmc_model::message::{Events, Published, Topic};
use ltmc_model::{Position, TenantId};
use ltmc_ports::{Bus, StoreError};

use crate::keys::Keys;
use crate::link::call;
use crate::{Redis, error, rows, scripts};

/// A page holds so many events, and bytes of them, or one event.
const MAX_PAGE: u32 = 1_000;
const PAGE_BYTES: usize = 4 << 20;

#[async_trait]
impl Bus for Redis {
    async fn events(
        &self,
        tenant: &TenantId,
        topic: &Topic,
        after: Position,
        limit: u32,
    ) -> Result<Events, StoreError> {
        let op = "redis.events";
        let mut cmd = call(&scripts::EVENTS, &Keys::of(tenant).topic(topic));
        cmd.arg(after.0).arg(limit.clamp(1, MAX_PAGE)).arg(PAGE_BYTES);
        let found: Vec<Vec<u8>> = self.link.run(op, &scripts::EVENTS, &cmd).await?;
        let published = |pair: &[Vec<u8>]| {
            let position = std::str::from_utf8(&pair[0]).ok().and_then(|place| place.parse().ok()).map(Position);
            let position = position.ok_or_else(|| error::corrupt(op, "an event's place is no number"))?;
            Ok(Published { position, event: rows::event_of(&pair[1])? })
        };
        let events = found.chunks_exact(2).map(published).collect::<Result<Vec<_>, StoreError>>()?;
        let next = events.last().map_or(after, |last| last.position);
        Ok(Events { events, next })
    }
}
