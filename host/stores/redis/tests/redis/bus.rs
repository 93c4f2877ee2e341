//! The bus keeps its contract.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ltmc_model::delta::{Delta, Logged};
use ltmc_model::message::Channel;
use ltmc_model::{Payload, Position, TenantId};
use ltmc_ports::testing::sample::tenant;
use ltmc_ports::testing::suite::bus::{BusFixture, Told};
use ltmc_ports::{Bus, Projection as _};
use ltmc_redis::Redis;

use crate::rig::{Server, sent, topic};

/// A server of its own for each.
#[derive(Default)]
struct OnRedis;

struct Following {
    redis: Arc<Redis>,
    end: Mutex<u64>,
    _server: Server,
}

#[async_trait]
impl BusFixture for OnRedis {
    type Told = Following;

    async fn fresh(&self) -> Arc<Following> {
        let server = Server::start();
        Arc::new(Following { redis: server.open(), end: Mutex::new(0), _server: server })
    }
}

#[async_trait]
impl Told for Following {
    async fn apply(&self, tenant: &TenantId, deltas: Vec<Delta>) -> Position {
        let rows: Vec<Logged> = {
            let mut end = self.end.lock().unwrap();
            let mut row = |delta| {
                *end += 1;
                Logged { position: Position(*end), tenant: tenant.clone(), delta }
            };
            deltas.into_iter().map(&mut row).collect()
        };
        if self.redis.applied(tenant).await.unwrap().is_none() {
            self.redis.set_applied(tenant, Position(0)).await.unwrap();
        }
        let to = rows.last().unwrap().position;
        self.redis.apply(tenant, &rows, to).await.unwrap();
        to
    }

    fn bus(&self) -> Arc<dyn Bus> {
        self.redis.clone()
    }
}

ltmc_ports::bus_contract!(OnRedis);

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_bounded_in_bytes() {
    let told = OnRedis.fresh().await;
    let acme = tenant("acme");
    let large = |id| {
        let Delta::Sent(mut message) = sent(topic("news"), id, "") else { unreachable!() };
        message.event.data = Payload::text("x".repeat(256 << 10));
        Delta::Sent(message)
    };
    told.apply(&acme, (1..=20).map(large).collect()).await;
    let Channel::Topic(topic) = topic("news") else { unreachable!() };
    let first = told.redis.events(&acme, &topic, Position(0), 1_000).await.unwrap();
    assert_eq!(first.events.len(), 15);
    let rest = told.redis.events(&acme, &topic, first.next, 1_000).await.unwrap();
    assert_eq!(rest.events.len(), 5);
    let last = told.redis.events(&acme, &topic, Position(u64::MAX), 1_000).await.unwrap();
    assert_eq!(last.events.len(), 0);
}
