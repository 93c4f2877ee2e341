//! What every bus does. [`crate::bus_contract`] makes a test of every case.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ltmc_model::delta::Delta;
use ltmc_model::message::{Event, Published};
use ltmc_model::{Payload, Position, TenantId};

use crate::testing::MemoryRecord;
use crate::testing::sample::{self, Owner, tenant};
use crate::{Bus, Durability, ReadLog, WriteJournal};

/// How the suite gets a bus.
#[async_trait]
pub trait BusFixture: Send + Sync {
    /// A bus, and what tells it.
    type Told: Told;

    /// One that has been told nothing.
    async fn fresh(&self) -> Arc<Self::Told>;
}

/// A bus, and what tells it.
#[async_trait]
pub trait Told: Send + Sync + 'static {
    /// Makes these true, one after another; the place of the last one in the log.
    async fn apply(&self, tenant: &TenantId, deltas: Vec<Delta>) -> Position;

    /// The bus.
    fn bus(&self) -> Arc<dyn Bus>;
}

/// A record that is a bus itself: it is told by appends.
#[derive(Debug)]
pub struct Recorded<S> {
    store: Arc<S>,
    owners: Mutex<BTreeMap<TenantId, Owner>>,
}

impl<S> Recorded<S> {
    /// This record, which has nothing in it.
    pub fn new(store: Arc<S>) -> Arc<Self> {
        Arc::new(Self { store, owners: Mutex::default() })
    }
}

#[async_trait]
impl<S: WriteJournal + ReadLog + Bus + 'static> Told for Recorded<S> {
    async fn apply(&self, tenant: &TenantId, deltas: Vec<Delta>) -> Position {
        let append = {
            let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
            let number = owners.len() as u64 + 1;
            owners.entry(tenant.clone()).or_insert_with(|| Owner::new(tenant.as_str(), number)).change(deltas)
        };
        self.store.append(append, Durability::Barrier).await.unwrap();
        self.store.ends().borrow().visible
    }

    fn bus(&self) -> Arc<dyn Bus> {
        self.store.clone()
    }
}

/// The in-memory record.
#[derive(Debug, Default)]
pub struct InMemoryBus;

#[async_trait]
impl BusFixture for InMemoryBus {
    type Told = Recorded<MemoryRecord>;

    async fn fresh(&self) -> Arc<Self::Told> {
        Recorded::new(MemoryRecord::new())
    }
}

/// Makes a test of every case: `ltmc_ports::bus_contract!(MyFixture::default());`. The crate needs tokio's macros.
#[macro_export]
macro_rules! bus_contract {
    ($fixture:expr) => {
        $crate::contract! { @port bus, $fixture;
            events_come_in_order_and_in_pages
            events_come_back_as_they_were_sent
            where_nothing_is_found_one_goes_on_from_there
            tenants_and_topics_never_meet
        }
    };
}

/// Events come in order and in pages.
pub async fn events_come_in_order_and_in_pages<F: BusFixture>(fixture: &F) {
    let told = fixture.fresh().await;
    let (acme, topic, bus) = (tenant("acme"), "news".parse().unwrap(), told.bus());
    let sent: Vec<Delta> = (1..=53).map(|id| sample::sent(sample::topic("news"), id, &format!("{id}"))).collect();
    let mut end = Position(0);
    for some in sent.chunks(10) {
        end = told.apply(&acme, some.to_vec()).await;
    }
    let wanted: Vec<Event> = sent.iter().map(event_of).collect();
    for limit in [1, 7, 52, 53, 54, 1_000] {
        let (mut found, mut after): (Vec<Published>, _) = (Vec::new(), Position(0));
        loop {
            let page = bus.events(&acme, &topic, after, limit).await.unwrap();
            assert!(page.events.len() <= limit as usize, "{limit} at a time");
            if page.events.is_empty() {
                break;
            }
            assert_eq!(page.next, page.events.last().unwrap().position);
            after = page.next;
            found.extend(page.events);
        }
        assert!(found.is_sorted_by(|a, b| a.position < b.position), "{limit} at a time");
        assert_eq!(found.iter().map(|published| &published.event).collect::<Vec<_>>(), Vec::from_iter(&wanted));
        assert_eq!(found.last().unwrap().position, end, "a position is the event's place in the log");
    }
}

/// Events come back as they were sent.
pub async fn events_come_back_as_they_were_sent<F: BusFixture>(fixture: &F) {
    let told = fixture.fresh().await;
    let (acme, topic, bus) = (tenant("acme"), "news".parse().unwrap(), told.bus());
    let contents = [
        Payload {
            content_type: "application/json".into(),
            bytes: br#"{ "a":1.0, "a" : 12345678901234567890 }"#[..].into(),
        },
        Payload { content_type: "application/octet-stream".into(), bytes: (0..=255).collect::<Vec<u8>>().into() },
        Payload { content_type: String::new(), bytes: Default::default() },
        Payload { content_type: "text/plain".into(), bytes: vec![b'x'; 256 << 10].into() },
    ];
    let mut events = Vec::new();
    for (id, data) in (1..).zip(contents) {
        let Delta::Sent(mut message) = sample::sent(sample::topic("news"), id, "") else { unreachable!() };
        message.event.data = data;
        message.event.subject = (id == 2).then(|| "what \u{1f4ec} it is about".to_owned());
        events.push(message.event.clone());
        told.apply(&acme, vec![Delta::Sent(message)]).await;
    }
    let page = bus.events(&acme, &topic, Position(0), 100).await.unwrap();
    assert_eq!(page.events.into_iter().map(|published| published.event).collect::<Vec<_>>(), events);
}

/// Where nothing is found, one goes on from there.
pub async fn where_nothing_is_found_one_goes_on_from_there<F: BusFixture>(fixture: &F) {
    let told = fixture.fresh().await;
    let (acme, topic, bus) = (tenant("acme"), "news".parse().unwrap(), told.bus());
    for after in [Position(0), Position(7), Position(u64::from(u32::MAX))] {
        let page = bus.events(&acme, &topic, after, 10).await.unwrap();
        assert_eq!((page.events.len(), page.next), (0, after));
    }
    let end = told.apply(&acme, vec![sample::sent(sample::topic("news"), 1, "1")]).await;
    let page = bus.events(&acme, &topic, end, 10).await.unwrap();
    assert_eq!((page.events.len(), page.next), (0, end));
}

/// Tenants and topics never meet.
pub async fn tenants_and_topics_never_meet<F: BusFixture>(fixture: &F) {
    let told = fixture.fresh().await;
    let (tenants, topics, bus) = (["acme", "beta"], ["a", "a/b", "a.b", "ab", "a/00000000000000000001"], told.bus());
    for of in tenants {
        for (id, name) in (1..).zip(topics) {
            told.apply(&tenant(of), vec![sample::sent(sample::topic(name), id, &format!("{of} {name}"))]).await;
        }
        // A mailbox has the name of a topic.
        told.apply(&tenant(of), vec![sample::sent(sample::mailbox("ab"), 9, "for one alone")]).await;
    }
    for of in tenants {
        for name in topics {
            let page = bus.events(&tenant(of), &name.parse().unwrap(), Position(0), 10).await.unwrap();
            let found: Vec<_> = page.events.iter().map(|published| published.event.data.clone()).collect();
            assert_eq!(found, [Payload::text(format!("{of} {name}"))]);
        }
    }
    let nobodys = bus.events(&tenant("gamma"), &"a".parse().unwrap(), Position(0), 10).await.unwrap();
    assert_eq!(nobodys.events, []);
}

fn event_of(delta: &Delta) -> Event {
    let Delta::Sent(message) = delta else { panic!("{delta:?} sends nothing") };
    message.event.clone()
}

#[cfg(test)]
mod tests {
    use super::InMemoryBus;
    crate::bus_contract!(InMemoryBus);
}
