//! Topics, and news of messages.

use std::time::Duration;

use async_trait::async_trait;
use ltmc_model::message::{Channel, Events, Published, Topic};
use ltmc_model::{Position, TenantId};
use ltmc_ports::{Bus, StoreError};
use redis::RedisError;
use tokio::time::{Instant, timeout};

use crate::keys::Keys;
use crate::link::{Waiter, call};
use crate::{Redis, error, rows, scripts};

/// A page holds so many events, and bytes of them, or one event.
const MAX_PAGE: u32 = 1_000;
const PAGE_BYTES: usize = 4 << 20;
/// How long one blocking read lasts at most: a connection that broke unnoticed is found out.
const LONGEST_READ: Duration = Duration::from_secs(30);
/// How often those look who have no connection to wait in, or whose Redis does not answer.
const LOOK_EVERY: Duration = Duration::from_millis(250);

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

    async fn news(&self, tenant: &TenantId, of: &Channel, since: Position, patience: Duration) {
        let bell = Keys::of(tenant).bell(of);
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let rang = match self.link.waiter().await {
                Some(Ok(waiter)) => match self.listen(waiter, &bell, since, left).await {
                    Some(false) => continue,
                    rang => rang,
                },
                Some(Err(_)) => None,
                None => self.look(&bell, since).await,
            };
            if rang == Some(true) {
                return;
            }
            tokio::time::sleep(left.min(LOOK_EVERY)).await;
        }
    }
}

impl Redis {
    /// Waits for the bell; none: it cannot be heard.
    async fn listen(&self, mut waiter: Waiter<'_>, bell: &str, since: Position, left: Duration) -> Option<bool> {
        let block = left.min(LONGEST_READ);
        let mut cmd = redis::cmd("XREAD");
        let millis = u64::try_from(block.as_millis()).unwrap_or(u64::MAX).max(1);
        cmd.arg("COUNT").arg(1).arg("BLOCK").arg(millis).arg("STREAMS").arg(bell).arg(format!("{since}-0"));
        let read = cmd.query_async::<redis::Value>(&mut waiter.connection);
        let answer: Result<redis::Value, RedisError> = timeout(block + self.link.timeout(), read).await.ok()?;
        let rang = answer.ok()? != redis::Value::Nil;
        self.link.give_back(waiter);
        Some(rang)
    }

    /// Looks whether the bell has rung; none: it cannot be seen.
    async fn look(&self, bell: &str, since: Position) -> Option<bool> {
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(bell).arg(format!("({since}-0")).arg("+").arg("COUNT").arg(1);
        let answer: redis::Value = self.link.ask("redis.news", &cmd).await.ok()?;
        Some(!matches!(answer, redis::Value::Array(entries) if entries.is_empty()))
    }
}
