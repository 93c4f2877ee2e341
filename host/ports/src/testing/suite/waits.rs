//! What every store does with runs that wait for events: rows that follow journals, looked at by who publishes.

use ltmc_model::delta::Delta;
use ltmc_model::journal::{Entry, Event};
use ltmc_model::message::{Channel, Message};
use ltmc_model::run::State;
use ltmc_model::{Payload, Position, StepPath, Timestamp};

use super::{Fixture, Store};
use crate::Durability::{Barrier, Lazy};
use crate::testing::sample::{Owner, at, sent, tenant, topic};
use crate::{Append, Bus as _, Changes, Expect, Kind, ReadJournal as _, Waits as _, WriteJournal as _};

/// The place of the test's own clock at which everything happens.
const NOW: u64 = 100;

fn entry(event: Event) -> Entry {
    Entry { at: at(NOW), event }
}

fn orders() -> ltmc_model::message::Topic {
    "orders".parse().expect("a topic's name")
}

fn subscribed(subject: Option<&str>, kind: Option<&str>) -> Event {
    let (subject, kind) = (subject.map(str::to_owned), kind.map(str::to_owned));
    Event::Subscribed { node: StepPath::root(), topic: orders(), subject, kind, after: Position(0) }
}

/// A run that waits for events of this subject and this type, and is suspended.
async fn waiting<S: Store>(store: &S, number: u64, subject: Option<&str>, kind: Option<&str>) -> Owner {
    let mut owner = Owner::new("acme", number);
    store.append(owner.append(1), Lazy).await.unwrap();
    store.append(owner.write(vec![entry(subscribed(subject, kind))]), Lazy).await.unwrap();
    suspend(store, &mut owner, Position(0)).await;
    owner
}

async fn suspend<S: Store>(store: &S, owner: &mut Owner, heard: Position) {
    (owner.row.state, owner.row.wakes_at, owner.row.updated_at) = (State::Waiting, Some(Timestamp::NEVER), at(NOW));
    let suspended = Event::RunSuspended { until: Timestamp::NEVER, heard: Some(heard) };
    store.append(owner.write(vec![entry(suspended)]), Barrier).await.unwrap();
}

/// Another run publishes an event.
async fn publish<S: Store>(store: &S, number: u64, subject: Option<&str>) {
    let mut owner = Owner::new("acme", 1_000 + number);
    owner.row.updated_at = at(NOW + number);
    let Delta::Sent(Message { id, event, .. }) = sent(topic("orders"), number, "paid") else {
        unreachable!("it is sent")
    };
    let event = ltmc_model::message::Event { subject: subject.map(str::to_owned), ..event };
    let delta = Delta::Sent(Message { id, channel: Channel::Topic(orders()), event });
    store.append(owner.change(vec![delta]), Lazy).await.unwrap();
}

async fn wakes_at<S: Store>(store: &S, owner: &Owner) -> Option<Timestamp> {
    store.run(&tenant("acme"), owner.row.id).await.unwrap().unwrap().wakes_at
}

/// An event makes those due that may wait for it, and no others.
pub async fn an_event_makes_those_due_that_may_wait_for_it_and_no_others<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let any = waiting(&*store, 1, None, None).await;
    let one = waiting(&*store, 2, Some("one"), Some("sample.sent")).await;
    let other = waiting(&*store, 3, Some("other"), None).await;
    let kind = waiting(&*store, 4, Some("one"), Some("another.type")).await;
    publish(&*store, 1, Some("one")).await;
    let never = Some(Timestamp::NEVER);
    for (owner, wanted) in [(&any, Some(at(NOW + 1))), (&one, Some(at(NOW + 1))), (&other, never), (&kind, never)] {
        assert_eq!(wakes_at(&*store, owner).await, wanted, "{}", owner.row.id);
    }
    let due = store.suspended(&tenant("acme"), None, 2).await.unwrap();
    assert_eq!(due.iter().map(|run| run.id).collect::<Vec<_>>(), [any.row.id, one.row.id], "they come first");
    publish(&*store, 2, None).await;
    assert_eq!(wakes_at(&*store, &any).await, Some(at(NOW + 1)), "who is due is not made due later");
    assert_eq!(wakes_at(&*store, &other).await, never);
}

/// Who is suspended without knowing of an event is due at once; who knows of it is not.
pub async fn who_is_suspended_without_knowing_of_an_event_is_due_at_once<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    store.append(owner.append(1), Lazy).await.unwrap();
    store.append(owner.write(vec![entry(subscribed(Some("one"), None))]), Lazy).await.unwrap();
    publish(&*store, 1, Some("one")).await;
    let place = store.events(&tenant("acme"), &orders(), Position(0), 10).await.unwrap().next;
    suspend(&*store, &mut owner, Position(place.0 - 1)).await;
    assert_eq!(wakes_at(&*store, &owner).await, Some(at(NOW)));
    suspend(&*store, &mut owner, place).await;
    assert_eq!(wakes_at(&*store, &owner).await, Some(Timestamp::NEVER));
}

/// Who is over, or has its event, or waits no more, is not woken.
pub async fn who_is_over_or_has_its_event_waits_no_more<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let node = StepPath::root();
    let taken = Event::EventTaken { node: node.clone(), position: Position(1), event: Payload::text(""), trail: None };
    for (number, event) in (1..).zip([taken, Event::WaitCancelled { node }]) {
        let mut owner = waiting(&*store, number, Some("one"), None).await;
        store.append(owner.write(vec![entry(event)]), Lazy).await.unwrap();
        suspend(&*store, &mut owner, Position(0)).await;
        publish(&*store, number, Some("one")).await;
        assert_eq!(wakes_at(&*store, &owner).await, Some(Timestamp::NEVER));
    }
    for (number, state) in (3..).zip([State::Failed, State::Cancelled, State::Quarantined]) {
        let mut owner = waiting(&*store, number, Some("one"), None).await;
        (owner.row.state, owner.row.wakes_at) = (state, None);
        store.append(owner.append(1), Lazy).await.unwrap();
        publish(&*store, number, Some("one")).await;
        let row = store.run(&tenant("acme"), owner.row.id).await.unwrap().unwrap();
        assert_eq!((row.state, row.wakes_at), (state, None));
    }
    assert_eq!(store.waiting(&tenant("acme"), &orders(), Some("one"), 9).await.unwrap(), 0);
}

/// What runs wait for outlives the host, as the journal does.
pub async fn waits_outlive_the_host<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let owner = waiting(&*store, 1, Some("one"), None).await;
    let store = fixture.crash(store).await;
    publish(&*store, 1, Some("one")).await;
    assert_eq!(wakes_at(&*store, &owner).await, Some(at(NOW + 1)));
}

/// So many wait for events of the same subject, and no more: looked at where the next one is written.
pub async fn so_many_wait_for_the_same_and_no_more<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let next = |number: u64, subject: Option<&str>| {
        let mut owner = Owner::new("acme", number);
        let expect = Expect::Waiters { topic: orders(), subject: subject.map(str::to_owned), most: 2 };
        let changes = Changes { deltas: Vec::new(), expects: vec![expect] };
        let entries = vec![owner.append(1).entries.remove(0), entry(subscribed(subject, None))];
        let mut owner = Owner::new("acme", number);
        Append { changes, ..owner.write(entries) }
    };
    for number in [1, 2] {
        store.append(next(number, Some("one")), Lazy).await.unwrap();
    }
    let refused = store.append(next(3, Some("one")), Lazy).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Stale);
    store.append(next(4, Some("other")), Lazy).await.unwrap();
    store.append(next(5, None), Lazy).await.unwrap();
    assert_eq!(store.waiting(&tenant("acme"), &orders(), Some("one"), 9).await.unwrap(), 2);
    assert_eq!(store.waiting(&tenant("acme"), &orders(), Some("one"), 1).await.unwrap(), 1);
    assert_eq!(store.waiting(&tenant("acme"), &orders(), None, 9).await.unwrap(), 1);
    assert_eq!(store.waiting(&tenant("beta"), &orders(), None, 9).await.unwrap(), 0);
}

/// Whoever waits for one subject reads no events of others.
pub async fn events_of_a_subject_are_found_in_their_order<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for (number, subject) in (1..).zip([Some("a"), None, Some("b"), Some("a"), Some("a")]) {
        publish(&*store, number, subject).await;
    }
    let all = store.events(&tenant("acme"), &orders(), Position(0), 10).await.unwrap().events;
    let about = async |subject: &str, after: Position, limit| {
        let found = store.events_about(&tenant("acme"), &orders(), subject, after, limit).await.unwrap();
        assert_eq!(found.next, found.events.last().map_or(after, |last| last.position));
        found.events
    };
    assert_eq!(about("a", Position(0), 10).await, [all[0].clone(), all[3].clone(), all[4].clone()]);
    assert_eq!(about("a", all[0].position, 1).await, [all[3].clone()]);
    assert_eq!(about("b", Position(0), 10).await, [all[2].clone()]);
    assert_eq!(about("c", Position(0), 10).await, []);
}
