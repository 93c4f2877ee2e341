//! Subscriptions: no gap, nothing twice, in order; over reconnects, over lag, over what is thrown away, however many there
//! are, and wherever they are dropped. And nobody who waits has anything brought to disk.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ltmc_context::subscription::{Lost, Watermark};
use ltmc_context::{Subscription, Subscriptions};
use ltmc_model::delta::{Delta, Logged};
use ltmc_model::memory::Drawer;
use ltmc_model::message::{Channel, Taker};
use ltmc_model::{Position, Revision, StepPath};
use ltmc_ports::log::Interest;
use ltmc_ports::testing::sample::{self, Owner, at, mailbox, put, run_id, tenant, topic};
use ltmc_ports::testing::{MemoryRecord, Slow};
use ltmc_ports::{Durability, ReadJournal as _, ReadLog as _, WriteJournal as _};
use tokio::time::timeout;

use Durability::{Barrier, Lazy};
use Watermark::{Durable, Visible};

/// Sooner than this is prompt.
const PROMPT: Duration = Duration::from_secs(10);
/// So long is waited for what does not come.
const SHORT: Duration = Duration::from_millis(100);

/// A record, and one run of each of two tenants that write it.
struct House {
    record: Arc<MemoryRecord>,
    subscriptions: Arc<Subscriptions>,
    owners: [Owner; 2],
}

impl House {
    /// Over a record whose every answer can be waited for, so that there is something to be dropped at.
    fn new() -> Self {
        let record = MemoryRecord::new();
        let subscriptions = Subscriptions::start(Arc::new(Slow(record.clone())));
        Self { record, subscriptions, owners: [Owner::new("acme", 1), Owner::new("beta", 2)] }
    }

    async fn write(&mut self, of: &str, deltas: Vec<Delta>, durability: Durability) -> Position {
        let owner = self.owners.iter_mut().find(|owner| owner.row.tenant == tenant(of)).unwrap();
        self.record.append(owner.change(deltas), durability).await.unwrap();
        self.end()
    }

    /// Puts a key whose value is the number that it is, and one beside it.
    async fn put(&mut self, number: u64, durability: Durability) -> Position {
        let change = |key: &str| {
            Delta::Memory(put(&Drawer::Global, key, self.record.next_revision(&tenant("acme")), number.to_string()))
        };
        let deltas = vec![change(&format!("plan/{number}")), change("other")];
        self.write("acme", deltas, durability).await
    }

    fn end(&self) -> Position {
        self.record.ends().borrow().visible
    }

    async fn subscribe(&self, interest: Interest, to: Watermark, after: Option<Position>) -> Subscription {
        self.subscriptions.subscribe(&tenant("acme"), interest, to, after).await.unwrap()
    }
}

fn plans() -> Interest {
    Interest::Memory(Drawer::Global, "plan/".to_owned())
}

fn of(channel: Channel) -> Interest {
    match channel {
        Channel::Topic(topic) => Interest::Topic(topic),
        Channel::Mailbox(agent) => Interest::Mailbox(agent),
    }
}

fn sent(channel: &Channel, id: u64) -> Delta {
    sample::sent(channel.clone(), id, "x")
}

async fn soon<T>(comes: impl Future<Output = T>) -> T {
    timeout(PROMPT, comes).await.expect("it is there, or comes soon")
}

async fn nothing<T>(comes: impl Future<Output = T>) {
    assert!(timeout(SHORT, comes).await.is_err(), "something came");
}

fn numbers(rows: &[Arc<Logged>]) -> Vec<u64> {
    let number = |row: &Arc<Logged>| String::from_utf8(row.changed().unwrap().value.unwrap().to_vec()).unwrap();
    rows.iter().map(|row| number(row).parse().unwrap()).collect()
}

/// The numbers of the plans up to this one, as they come.
async fn up_to(subscription: &mut Subscription, last: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        seen.extend(numbers(&soon(subscription.next(7)).await.unwrap()));
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_once_and_in_order_over_reconnects_wherever_they_are_dropped() {
    let house = House::new();
    let subscriptions = house.subscriptions.clone();
    let readers: Vec<_> = [Visible, Durable]
        .into_iter()
        .map(|watermark| {
            let subscriptions = subscriptions.clone();
            tokio::spawn(async move {
                let (mut seen, mut after, mut round) = (Vec::new(), Position(0), 0_u64);
                while seen.last() != Some(&500) {
                    round += 1;
                    let acme = tenant("acme");
                    let mut one = subscriptions.subscribe(&acme, plans(), watermark, Some(after)).await.unwrap();
                    // Dropped at another moment each time, while it waits, and gone on with.
                    let patience = Duration::from_micros(round * 37 % 900);
                    for _ in 0..round % 5 {
                        if let Ok(rows) = timeout(patience, one.next(1 + u32::try_from(round % 9).unwrap())).await {
                            let rows = rows.unwrap();
                            seen.extend(numbers(&rows));
                            after = rows.last().unwrap().position;
                        }
                    }
                }
                seen
            })
        })
        .collect();
    let mut house = house;
    for number in 1..=500 {
        let durability = if number % 10 == 0 { Barrier } else { Lazy };
        house.put(number, durability).await;
        tokio::task::yield_now().await;
    }
    for reader in readers {
        assert_eq!(soon(reader).await.unwrap(), (1..=500).collect::<Vec<_>>());
    }
    assert_eq!(subscriptions.places(), 0, "nobody listens any more");
}

/// Goes on with something so many times, and drops it; what it came to, if it did.
fn dropped_after<T>(times: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if let Poll::Ready(came) = future.as_mut().poll(&mut context) {
            return Some(came);
        }
    }
    None
}

#[tokio::test]
async fn what_is_dropped_at_any_moment_loses_nothing_and_gives_nothing_twice() {
    for times in 0..32 {
        let mut house = House::new();
        for number in 1..=5 {
            house.put(number, Barrier).await;
        }
        let mut one = house.subscribe(plans(), Durable, Some(Position(0))).await;
        let mut seen = Vec::new();
        for number in 6..=10 {
            let came = dropped_after(times, one.next(2));
            seen.extend(came.map(|rows| numbers(&rows.unwrap())).unwrap_or_default());
            house.put(number, Barrier).await;
        }
        seen.extend(up_to(&mut one, 10).await);
        assert_eq!(seen, (1..=10).collect::<Vec<_>>(), "dropped after {times}");
    }
}

#[tokio::test]
async fn what_is_thrown_away_while_it_is_read_is_missed_by_nobody_who_is_not_told() {
    let mut outcomes = [0, 0];
    for times in 0..32 {
        let mut house = House::new();
        for number in 1..=5 {
            house.put(number, Barrier).await;
        }
        let mut one = house.subscribe(plans(), Durable, Some(Position(0))).await;
        let mut reading = Box::pin(one.next(10));
        if let Some(rows) = dropped_after(times, reading.as_mut()) {
            assert_eq!(numbers(&rows.unwrap()), [1, 2, 3, 4, 5]);
            outcomes[0] += 1;
            continue;
        }
        house.record.trim(Position(6), 100).await.unwrap();
        match soon(reading).await {
            Ok(rows) => assert_eq!(numbers(&rows), [1, 2, 3, 4, 5], "after {times}"),
            Err(Lost::Resync(at)) => assert_eq!(at, house.end()),
            Err(Lost::Store(error)) => panic!("{error}"),
        }
        outcomes[1] += 1;
    }
    assert!(outcomes.iter().all(|times| *times > 1), "{outcomes:?}");
}

#[tokio::test]
async fn what_is_not_on_disk_is_shown_within_the_host_alone_and_nobody_who_waits_brings_it_there() {
    let mut house = House::new();
    let mut inside = house.subscribe(plans(), Visible, None).await;
    let mut outside = house.subscribe(plans(), Durable, None).await;
    for number in 1..=3 {
        house.put(number, Lazy).await;
        assert_eq!(up_to(&mut inside, number).await, [number]);
        nothing(outside.next(10)).await;
        // Who begins now is shown no more.
        nothing(house.subscribe(plans(), Durable, Some(Position(0))).await.next(10)).await;
    }
    assert_eq!(house.record.crash().ends().borrow().visible, Position(0), "it was brought to disk");
    house.record.sync();
    assert_eq!(up_to(&mut outside, 3).await, [1, 2, 3]);
}

/// More than a subscriber may be behind, and more than the log keeps for those who follow it.
#[tokio::test]
async fn who_is_too_slow_reads_on_from_the_record() {
    let mut house = House::new();
    let mut slow = [house.subscribe(plans(), Visible, None).await, house.subscribe(plans(), Durable, None).await];
    let mut number = 0;
    for (rows, is_handed_out) in [(300, true), (1_500, false), (10, true)] {
        let first = number + 1;
        for _ in 0..rows {
            number += 1;
            house.put(number, Lazy).await;
            if is_handed_out {
                tokio::task::yield_now().await;
            }
        }
        let [inside, outside] = &mut slow;
        assert_eq!(up_to(inside, number).await, (first..=number).collect::<Vec<_>>());
        // What was missed comes to disk after it was missed.
        nothing(outside.next(10)).await;
        house.record.sync();
        assert_eq!(up_to(outside, number).await, (first..=number).collect::<Vec<_>>());
    }
}

/// What hands out rows is too slow itself, while none of those whom it misses has anything to do.
#[tokio::test]
async fn what_was_handed_to_nobody_is_read_from_the_record_once_it_may_be_shown() {
    let mut house = House::new();
    let mut inside = house.subscribe(plans(), Visible, None).await;
    let mut outside = house.subscribe(plans(), Durable, None).await;
    nothing(inside.next(1)).await;
    nothing(outside.next(1)).await;
    house.put(1, Lazy).await;
    for id in 1..=2_000 {
        house.write("acme", vec![sent(&topic("news"), id)], Lazy).await;
    }
    assert_eq!(up_to(&mut inside, 1).await, [1]);
    nothing(outside.next(1)).await;
    house.record.sync();
    assert_eq!(up_to(&mut outside, 1).await, [1]);
}

#[tokio::test]
async fn a_cursor_that_is_too_old_or_of_another_record_is_answered_with_where_to_go_on() {
    let mut house = House::new();
    let mut slow = house.subscribe(plans(), Durable, None).await;
    for number in 1..=400 {
        house.put(number, Barrier).await;
    }
    house.record.trim(Position(700), 10_000).await.unwrap();
    let place = |lost: Lost| match lost {
        Lost::Resync(at) => at,
        Lost::Store(error) => panic!("{error}"),
    };
    let end = house.end();
    // It was behind when what it had not seen was thrown away.
    assert_eq!(place(soon(slow.next(10)).await.unwrap_err()), end);
    for after in [Position(0), Position(699), end.next()] {
        let lost = house.subscriptions.subscribe(&tenant("acme"), plans(), Durable, Some(after)).await.unwrap_err();
        assert_eq!(place(lost), end, "{after:?}");
    }
    let mut kept = house.subscribe(plans(), Durable, Some(Position(700))).await;
    assert_eq!(up_to(&mut kept, 400).await, (351..=400).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_thousand_subscribers_are_told_of_each_row_and_leave_nothing_behind() {
    let mut house = House::new();
    let mut readers = Vec::new();
    for number in 0..1_000 {
        let watermark = if number % 2 == 0 { Visible } else { Durable };
        let mut one = house.subscribe(plans(), watermark, None).await;
        readers.push(tokio::spawn(async move { up_to(&mut one, 50).await }));
    }
    assert_eq!(house.subscriptions.places(), 2);
    for number in 1..=50 {
        house.put(number, if number % 5 == 0 { Barrier } else { Lazy }).await;
        tokio::task::yield_now().await;
    }
    for reader in readers {
        assert_eq!(soon(reader).await.unwrap(), (1..=50).collect::<Vec<_>>());
    }
    assert_eq!(house.subscriptions.places(), 0);
}

#[tokio::test]
async fn each_is_told_what_concerns_it_and_no_more() {
    let mut house = House::new();
    house.write("acme", vec![sent(&topic("news"), 1), sent(&mailbox("bob"), 2)], Barrier).await;
    let mut id = 2;
    for channel in [topic("news"), mailbox("bob"), topic("more/news"), mailbox("eve")] {
        let mut one = house.subscribe(of(channel.clone()), Visible, None).await;
        for (whose, other) in [("beta", &channel), ("acme", &topic("bob")), ("acme", &mailbox("bo"))] {
            id += 1;
            house.write(whose, vec![sent(other, id)], Barrier).await;
        }
        house.put(1, Barrier).await;
        nothing(one.next(1)).await;
        id += 1;
        let place = house.write("acme", vec![sent(&channel, id)], Lazy).await;
        assert_eq!(soon(one.next(1)).await.unwrap()[0].position, place, "{channel:?}");
        // And what was sent meanwhile, to who was away.
        let mut again = house.subscribe(of(channel), Visible, Some(Position(place.0 - 1))).await;
        assert_eq!(soon(again.next(9)).await.unwrap()[0].position, place);
    }
}

#[tokio::test]
async fn what_is_let_go_of_a_mailbox_is_news_for_another_may_have_it() {
    let mut house = House::new();
    let bob = || "bob".parse().unwrap();
    let by = Taker { run: run_id(1), step: StepPath::root(), attempt: 1, part: 0 };
    let last = house.write("acme", (1..=4).map(|id| sent(&mailbox("bob"), id)).collect(), Barrier).await;
    let (messages, places) = (1..=3).map(|id| (Revision(id), Position(last.0 - 4 + id))).unzip();
    let taken = Delta::Taken { agent: bob(), messages, places, by: by.clone() };
    let mut waiting = house.subscribe(Interest::Mailbox(bob()), Visible, None).await;
    house.write("acme", vec![taken], Barrier).await;
    nothing(waiting.next(1)).await;
    for delta in [
        Delta::Processed { agent: bob(), message: Revision(1) },
        Delta::Buried { agent: bob(), message: Revision(2), reason: "wrong".into(), at: at(1) },
        Delta::Revived { agent: bob(), message: Revision(2) },
        Delta::Released { by, at: at(2) },
    ] {
        house.write("acme", vec![delta.clone()], Barrier).await;
        assert_eq!(soon(waiting.next(1)).await.unwrap()[0].delta, delta);
    }
}

/// How far a run came is told of every append, also of those that leave no row in the log.
#[tokio::test]
async fn a_run_is_told_of_as_far_as_it_is_on_disk() {
    let mut house = House::new();
    let length = |rows: Vec<Arc<Logged>>| match &rows[..] {
        [row] => match &row.delta {
            Delta::Run(mark) => mark.seq.0,
            other => panic!("{other:?}"),
        },
        rows => panic!("{rows:?}"),
    };
    // It is followed before there is anything of it.
    let mut early = house.subscribe(Interest::Run(run_id(1)), Durable, None).await;
    nothing(early.next(1)).await;
    let append = house.owners[0].append(3);
    house.record.append(append, Lazy).await.unwrap();
    assert_eq!(house.end(), Position(0), "it left no row");
    let mut late = house.subscribe(Interest::Run(run_id(1)), Durable, None).await;
    nothing(early.next(1)).await;
    nothing(late.next(1)).await;
    let crashed = house.record.crash();
    assert!(crashed.run(&tenant("acme"), run_id(1)).await.unwrap().is_none(), "it was brought to disk");
    house.record.sync();
    for one in [&mut early, &mut late] {
        assert_eq!(length(soon(one.next(1)).await.unwrap()), 3);
    }
    // More than may be missed: there is one thing to look at.
    for _ in 0..2_000 {
        let append = house.owners[0].append(1);
        house.record.append(append, Lazy).await.unwrap();
        tokio::task::yield_now().await;
    }
    let append = house.owners[1].append(1);
    house.record.append(append, Barrier).await.unwrap();
    for one in [&mut early, &mut late] {
        let mut last = 0;
        while last < 2_003 {
            let next = length(soon(one.next(1)).await.unwrap());
            assert!(next > last, "{next} after {last}");
            last = next;
        }
    }
    nothing(early.next(1)).await;
}
