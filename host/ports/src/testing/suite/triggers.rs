//! Subscriptions that start runs, as every record keeps them.

use ltmc_model::delta::Delta;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::gather::{Batch, Gather, Rate};
use ltmc_model::journal::{Act, Change, Entry, Event as Happened};
use ltmc_model::memory::Drawer;
use ltmc_model::message::{self, Channel, Event, Message, Trail};
use ltmc_model::run::{State, Target};
use ltmc_model::trigger::{
    CASCADE, Feed, MAX_OF_A_TENANT, OnPoison, Planted, Stage, Trigger, TriggerId, Verdict, Watched,
};
use ltmc_model::{KeyId, Payload, Position, Revision, Timestamp};

use super::{Fixture, Store};
use crate::cascades::{Made, ReadCascades as _};
use crate::testing::sample::{self, Owner, at, tenant};
use crate::triggers::{Arrival, ArrivalFilter, Found, Intake, MAX_REASON, StoredTrigger, TriggeredStart};
use crate::{
    Append, Changes, Durability, Expect, Kind, ReadTriggers as _, WriteCatalog as _, WriteJournal as _,
    WriteTriggers as _,
};

fn id(name: &str) -> TriggerId {
    name.parse().unwrap()
}

fn author() -> KeyId {
    "authorauthor".parse().unwrap()
}

fn trigger(topic: &str) -> Trigger {
    Trigger {
        feed: Feed::Topic(topic.parse().unwrap()),
        filter: None,
        start: Target::Agent("alice".parse().unwrap()),
        at_once: 2,
        on_poison: OnPoison::ParkKey,
        rate: None,
        gather: None,
    }
}

fn put(name: &str, trigger: Trigger) -> Change {
    Change::SubscriptionPut { id: id(name), planted: Box::new(Planted { trigger, after: Position(0) }) }
}

async fn act<S: Store>(store: &S, by: Option<&KeyId>, change: Change) {
    store.act(&tenant("acme"), at(7), Act { by: by.cloned(), change }).await.unwrap();
}

async fn one<S: Store>(store: &S, name: &str) -> Option<StoredTrigger> {
    store.trigger(&tenant("acme"), &id(name)).await.unwrap()
}

fn event(number: u64, key: &str) -> Event {
    Event {
        id: format!("e{number}"),
        source: "/shop".into(),
        kind: "k".into(),
        subject: None,
        time: at(number),
        data: Payload::text("x"),
        attributes: [(Event::KEY.to_owned(), key.to_owned())].into(),
        trail: None,
    }
}

fn intake(after: u64, upto: u64, found: Vec<(u64, Event, Option<&str>)>) -> Intake {
    let found = found.into_iter().map(|(position, event, dead)| Found {
        position: Position(position),
        key: event.key().to_owned(),
        event,
        dead: dead.map(str::to_owned),
    });
    let (after, upto) = (Position(after), Position(upto));
    Intake { after, upto, found: found.collect(), cascade: 100, at: at(9), trouble: None }
}

async fn take_in<S: Store>(store: &S, name: &str, intake: Intake) -> bool {
    let row = one(store, name).await.unwrap();
    store.take_in(&tenant("acme"), &id(name), row.digest, intake).await.unwrap()
}

/// The first entries of a run that this event starts.
fn started(owner: &mut Owner, row: &StoredTrigger, position: u64) -> Append {
    let start = TriggeredStart {
        id: row.id.clone(),
        digest: row.digest,
        position: Position(position),
        with: Vec::new(),
        dropped: Vec::new(),
        rate: row.trigger.rate,
    };
    Append { triggered: Some(start), ..owner.append(1) }
}

/// The same run's end.
fn ended(owner: &mut Owner, state: State) -> Append {
    let failure = Failure::new(Code::AgentError, "it broke".to_owned());
    let event = match state {
        State::Completed => Happened::RunCompleted { step: "0".parse().unwrap() },
        _ => Happened::RunFailed { failure },
    };
    let mut append = owner.write(vec![Entry { at: at(20), event }]);
    append.run.state = state;
    append
}

async fn stages<S: Store>(store: &S, name: &str) -> Vec<(u64, Stage)> {
    let filter = ArrivalFilter { of: Some(id(name)), limit: 100, ..ArrivalFilter::default() };
    let found = store.arrivals(&tenant("acme"), &filter).await.unwrap();
    found.into_iter().map(|one| (one.position.0, one.stage)).collect()
}

async fn startable<S: Store>(store: &S, name: &str) -> Vec<u64> {
    let found = store.startable(&tenant("acme"), &id(name), 100).await.unwrap();
    found.iter().map(|arrival| arrival.position.0).collect()
}

/// Subscriptions follow acts: put, changed, paused, continued, deleted, and with a workflow's document.
pub async fn subscriptions_follow_acts<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    act(&*store, Some(&author()), put("feed", trigger("t"))).await;
    let new = one(&*store, "feed").await.unwrap();
    assert_eq!((new.by.clone(), new.trigger.clone(), new.position), (Some(author()), trigger("t"), Position(0)));
    assert!(take_in(&*store, "feed", intake(0, 5, vec![(3, event(3, "a"), None)])).await);
    // Changed, it goes on from where it is; of another topic it begins anew.
    let other = Trigger { at_once: 1, ..trigger("t") };
    act(&*store, None, put("feed", other.clone())).await;
    let changed = one(&*store, "feed").await.unwrap();
    assert_eq!((changed.by, changed.trigger, changed.position, changed.waiting), (None, other, Position(5), 1));
    act(&*store, Some(&author()), Change::SubscriptionPaused { id: id("feed"), why: None }).await;
    let paused = one(&*store, "feed").await.unwrap().paused.unwrap();
    assert_eq!((paused.at, paused.by, paused.why), (at(7), Some(author()), None));
    act(&*store, Some(&author()), put("feed", trigger("t"))).await;
    assert!(one(&*store, "feed").await.unwrap().paused.is_some(), "what somebody paused stays so");
    act(&*store, Some(&author()), Change::SubscriptionContinued { id: id("feed") }).await;
    let on = one(&*store, "feed").await.unwrap();
    assert_eq!((on.paused, on.by), (None, Some(author())));
    act(&*store, None, put("feed", trigger("u"))).await;
    let anew = one(&*store, "feed").await.unwrap();
    assert_eq!((anew.position, anew.waiting), (Position(0), 0));
    // A document's have its name, and go with it.
    let of = |triggers: &[&str]| Change::WorkflowPut {
        name: "w".parse().unwrap(),
        source: "w".into(),
        digest: ltmc_model::Digest::of(b"w"),
        schedules: Vec::new(),
        triggers: triggers.iter().map(|t| Planted { trigger: trigger(t), after: Position(1) }).collect(),
    };
    act(&*store, Some(&author()), of(&["t", "u"])).await;
    let names = async |store: &F::Store| -> Vec<String> {
        store.triggers(&tenant("acme"), None, 10).await.unwrap().iter().map(|row| row.id.to_string()).collect()
    };
    assert_eq!(names(&store).await, ["feed", "w:1", "w:2"]);
    act(&*store, None, of(&["t"])).await;
    let store = fixture.crash(store).await;
    assert_eq!(names(&store).await, ["feed", "w:1"]);
    act(&*store, None, Change::WorkflowDeleted { name: "w".parse().unwrap() }).await;
    // An agent's go with it, and nobody else's.
    for name in ["alice@1", "alice@2", "alice-b@1"] {
        act(&*store, Some(&author()), put(name, trigger("t"))).await;
    }
    act(&*store, None, Change::AgentDeleted { name: "alice".parse().unwrap() }).await;
    let store = fixture.crash(store).await;
    assert_eq!(names(&store).await, ["alice-b@1", "feed"]);
    act(&*store, None, Change::SubscriptionDeleted { id: id("alice-b@1") }).await;
    act(&*store, None, Change::SubscriptionDeleted { id: id("feed") }).await;
    assert!(names(&store).await.is_empty());
    assert!(stages(&*store, "feed").await.is_empty());
}

/// Part of a topic is taken in once, and each event of a source and id once.
pub async fn what_came_is_taken_in_once<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    act(&*store, Some(&author()), put("feed", trigger("t"))).await;
    let first = intake(0, 4, vec![(2, event(2, "a"), None), (4, event(4, "b"), Some("loop"))]);
    assert!(take_in(&*store, "feed", first.clone()).await);
    assert!(!take_in(&*store, "feed", first).await, "from the same place a second time");
    assert!(take_in(&*store, "feed", intake(4, 9, vec![(7, event(2, "a"), None), (8, event(8, "a"), None)])).await);
    let row = one(&*store, "feed").await.unwrap();
    assert_eq!((row.position, row.waiting, row.dead, row.duplicates), (Position(9), 2, 1, 1));
    assert!(row.waiting_bytes > 0);
    assert_eq!(stages(&*store, "feed").await, [(2, Stage::Waiting), (4, Stage::Dead), (8, Stage::Waiting)]);
    let filter = ArrivalFilter { dead: true, limit: 10, ..ArrivalFilter::default() };
    let dead: Vec<Arrival> = store.arrivals(&tenant("acme"), &filter).await.unwrap();
    assert_eq!((dead.len(), dead[0].reason.as_deref(), &dead[0].event), (1, Some("loop"), &event(4, "b")));
    assert!(store.arrivals(&tenant("beta"), &filter).await.unwrap().is_empty());
    // What was taken in is there with what is on disk after it.
    act(&*store, None, put("other", trigger("t"))).await;
    let store = fixture.crash(store).await;
    assert_eq!(one(&*store, "feed").await.unwrap(), row);
    // Looked through anew, what was seen starts nothing, unless that is forgotten; what is there stays as it is.
    let replayed = |force| Change::SubscriptionReplayed { id: id("feed"), after: Position(3), force };
    act(&*store, None, replayed(false)).await;
    let again = one(&*store, "feed").await.unwrap();
    assert_eq!((again.position, again.replay_to), (Position(3), Position(9)));
    assert!(take_in(&*store, "feed", intake(3, 9, vec![(8, event(8, "a"), None)])).await);
    assert_eq!(one(&*store, "feed").await.unwrap().duplicates, 2);
    act(&*store, None, replayed(true)).await;
    assert!(take_in(&*store, "feed", intake(3, 9, vec![(5, event(5, "a"), None), (8, event(8, "a"), None)])).await);
    let row = one(&*store, "feed").await.unwrap();
    assert_eq!((row.duplicates, row.replay_to, row.waiting), (2, Position(9), 3));
    act(&*store, None, Change::SubscriptionPaused { id: id("feed"), why: None }).await;
    assert!(!take_in(&*store, "feed", intake(9, 12, vec![])).await, "it is paused");
}

/// An event starts one run, while its subscription allows it, in the order of its key.
pub async fn an_event_starts_one_run<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    act(&*store, Some(&author()), put("feed", trigger("t"))).await;
    let found = [(1, "a"), (2, "a"), (3, "b"), (4, "c")].map(|(n, key)| (n, event(n, key), None));
    assert!(take_in(&*store, "feed", intake(0, 4, found.into())).await);
    let row = one(&*store, "feed").await.unwrap();
    assert_eq!(startable(&*store, "feed").await, [1, 3, 4]);
    let mut owners: Vec<Owner> = (0..9).map(|number| Owner::new("acme", number)).collect();
    let refused = async |append: Append| store.append(append, Durability::Lazy).await.unwrap_err().kind;
    assert_eq!(refused(started(&mut owners[8], &row, 2)).await, Kind::Conflict, "an earlier one of its key is open");
    let other = StoredTrigger { digest: ltmc_model::Digest::of(b"other"), ..row.clone() };
    assert_eq!(refused(started(&mut owners[7], &other, 1)).await, Kind::Conflict);
    store.append(started(&mut owners[0], &row, 1), Durability::Lazy).await.unwrap();
    assert_eq!(refused(started(&mut owners[6], &row, 1)).await, Kind::Conflict, "a second run");
    store.append(started(&mut owners[1], &row, 3), Durability::Barrier).await.unwrap();
    assert_eq!(refused(started(&mut owners[5], &row, 4)).await, Kind::Conflict, "two are under way");
    let now = one(&*store, "feed").await.unwrap();
    assert_eq!((now.started, now.under_way, now.waiting), (2, 2, 2));
    let store = fixture.crash(store).await;
    // A run's end is the event's.
    store.append(ended(&mut owners[0], State::Completed), Durability::Lazy).await.unwrap();
    store.append(ended(&mut owners[1], State::Failed), Durability::Barrier).await.unwrap();
    assert_eq!(stages(&*store, "feed").await, [(2, Stage::Waiting), (3, Stage::Parked), (4, Stage::Waiting)]);
    let parked = store.parked(&tenant("acme"), &id("feed")).await.unwrap();
    assert_eq!(parked.into_iter().collect::<Vec<_>>(), [("b".to_owned(), 0)]);
    assert_eq!(startable(&*store, "feed").await, [2, 4]);
    let filter = ArrivalFilter { dead: true, limit: 10, ..ArrivalFilter::default() };
    let dead = store.arrivals(&tenant("acme"), &filter).await.unwrap();
    assert_eq!(dead[0].reason.as_deref(), Some("agent-error: it broke"));
    assert_eq!(dead[0].run, Some(owners[1].row.id));
    let store = fixture.crash(store).await;
    assert_eq!(stages(&*store, "feed").await.len(), 3);
}

/// Dead letters hold up their key, until somebody says what becomes of them.
pub async fn dead_letters_are_released_and_skipped<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let acme = tenant("acme");
    act(&*store, Some(&author()), put("feed", trigger("t"))).await;
    let found = [(1, "a"), (2, "a"), (3, "a")].map(|(n, key)| (n, event(n, key), None));
    assert!(take_in(&*store, "feed", intake(0, 3, found.into())).await);
    assert!(store.bury(&acme, &id("feed"), Position(1), "no such agent".into()).await.unwrap());
    assert!(!store.bury(&acme, &id("feed"), Position(1), "again".into()).await.unwrap());
    assert!(startable(&*store, "feed").await.is_empty());
    let parked = store.parked(&acme, &id("feed")).await.unwrap();
    assert_eq!(parked.into_iter().collect::<Vec<_>>(), [("a".to_owned(), 2)]);
    let settle = async |position, verdict| {
        let change = Change::DeadEventSettled { id: id("feed"), position: Position(position), verdict };
        let expects = vec![Expect::DeadEvent { id: id("feed"), position: Position(position) }];
        let changes = Changes { deltas: Vec::new(), expects };
        store.act_with(&acme, at(8), Act { by: Some(author()), change }, changes).await
    };
    assert_eq!(settle(2, Verdict::Skip).await.unwrap_err().kind, Kind::Stale, "it is none");
    settle(1, Verdict::Release).await.unwrap();
    assert_eq!(startable(&*store, "feed").await, [1]);
    assert!(store.bury(&acme, &id("feed"), Position(1), "still".into()).await.unwrap());
    settle(1, Verdict::Skip).await.unwrap();
    assert_eq!(startable(&*store, "feed").await, [2]);
    store.tell(&acme, &id("feed"), Some("there is no room".into())).await.unwrap();
    assert_eq!(one(&*store, "feed").await.unwrap().trouble.as_deref(), Some("there is no room"));
}

/// However long a reason or a trouble is, a bounded part of it is kept, cut between characters.
pub async fn what_is_told_of_events_is_bounded<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, long) = (tenant("acme"), "\u{e9}".repeat(MAX_REASON + 1));
    let kept = "\u{e9}".repeat(MAX_REASON);
    act(&*store, Some(&author()), put("feed", trigger("t"))).await;
    let found = vec![(1, event(1, "a"), Some(&*long)), (2, event(2, "b"), None), (3, event(3, "c"), None)];
    assert!(take_in(&*store, "feed", Intake { trouble: Some(long.clone()), ..intake(0, 3, found) }).await);
    assert_eq!(one(&*store, "feed").await.unwrap().trouble.as_deref(), Some(&*kept));
    assert!(store.bury(&acme, &id("feed"), Position(2), long.clone()).await.unwrap());
    let (row, mut owner) = (one(&*store, "feed").await.unwrap(), Owner::new("acme", 1));
    store.append(started(&mut owner, &row, 3), Durability::Lazy).await.unwrap();
    let event = Happened::RunFailed { failure: Failure::new(Code::AgentError, long.clone()) };
    let mut end = owner.write(vec![Entry { at: at(20), event }]);
    end.run.state = State::Failed;
    store.append(end, Durability::Lazy).await.unwrap();
    store.tell(&acme, &id("feed"), Some(long)).await.unwrap();
    assert_eq!(one(&*store, "feed").await.unwrap().trouble.as_deref(), Some(&*kept));
    let filter = ArrivalFilter { dead: true, limit: 10, ..ArrivalFilter::default() };
    let dead = store.arrivals(&acme, &filter).await.unwrap();
    let reasons: Vec<&str> = dead.iter().filter_map(|arrival| arrival.reason.as_deref()).collect();
    let of_run: String = format!("agent-error: {kept}").chars().take(MAX_REASON).collect();
    assert_eq!(reasons, [&*kept, &*kept, &*of_run]);
}

/// What is published makes the subscriptions of its topic due, and says how far they are behind.
pub async fn what_is_published_makes_subscriptions_due<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let acme = tenant("acme");
    for (name, topic) in [("a", "t"), ("b", "u"), ("c", "t")] {
        act(&*store, Some(&author()), put(name, trigger(topic))).await;
    }
    act(&*store, None, Change::SubscriptionPaused { id: id("c"), why: Some("why".into()) }).await;
    let due = async |store: &F::Store| -> Vec<String> {
        store.due_triggers(&acme, None, 10).await.unwrap().iter().map(|row| row.id.to_string()).collect()
    };
    assert!(due(&store).await.is_empty());
    let topic: message::Topic = "t".parse().unwrap();
    let sent = Delta::Sent(Message { id: Revision(1), channel: Channel::Topic(topic), event: event(1, "k") });
    let change = Change::Context { call: "c".into(), about: "a".into(), request: ltmc_model::Digest::of(b"") };
    store.act_with(&acme, at(8), Act { by: None, change }, Changes::blind(vec![sent])).await.unwrap();
    assert_eq!(due(&store).await, ["a"]);
    assert_eq!(store.lag(&acme, &id("a"), 10).await.unwrap(), 1);
    assert_eq!(store.lag(&acme, &id("b"), 10).await.unwrap(), 0);
    let newest = one(&*store, "a").await.unwrap().newest;
    assert!(take_in(&*store, "a", intake(0, newest.0, vec![(newest.0, event(1, "k"), None)])).await);
    assert_eq!((due(&store).await, store.lag(&acme, &id("a"), 10).await.unwrap()), (vec!["a".to_owned()], 0));
    let mut owner = Owner::new("acme", 1);
    let row = one(&*store, "a").await.unwrap();
    store.append(started(&mut owner, &row, newest.0), Durability::Barrier).await.unwrap();
    assert!(due(&store).await.is_empty());
    // One that is put later looks through what is there.
    act(&*store, Some(&author()), put("d", trigger("t"))).await;
    assert_eq!(due(&store).await, ["d"]);
    assert!(store.due_triggers(&acme, Some(&id("d")), 10).await.unwrap().is_empty());
    let tenants = store.triggered_tenants(None, 10).await.unwrap();
    assert_eq!(tenants, std::slice::from_ref(&acme), "others have nothing to do");
    assert!(store.triggered_tenants(Some(&acme), 10).await.unwrap().is_empty());
    act(&*store, None, Change::TenantDeleted { tenant: acme.clone() }).await;
    assert!(due(&store).await.is_empty() && store.triggered_tenants(None, 10).await.unwrap().is_empty());
}

/// A change of memory makes those subscriptions due that watch its key, and no others.
pub async fn what_changes_in_memory_makes_subscriptions_due<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let acme = tenant("acme");
    let watching = |scope: Option<&str>, owner: Option<&str>, prefix: &str| Trigger {
        feed: Feed::Memory(Watched::of(scope, owner, prefix).unwrap()),
        ..trigger("t")
    };
    for (name, watches) in [
        ("all", watching(None, None, "")),
        ("board", watching(None, None, "board/")),
        ("like", watching(None, None, "%")),
        ("alice", watching(Some("agent"), Some("alice"), "")),
        ("topic", trigger("t")),
    ] {
        act(&*store, Some(&author()), put(name, watches)).await;
    }
    let due = async |store: &F::Store| -> Vec<String> {
        store.due_triggers(&acme, None, 10).await.unwrap().iter().map(|row| row.id.to_string()).collect()
    };
    assert!(due(&store).await.is_empty() && store.watches_memory().await.unwrap());
    let change = async |delta: Delta| {
        let change = Change::Context { call: "c".into(), about: "a".into(), request: ltmc_model::Digest::of(b"") };
        store.act_with(&acme, at(8), Act { by: None, change }, Changes::blind(vec![delta])).await.unwrap();
    };
    let agent = Drawer::Agent("alice".parse().unwrap());
    change(Delta::Memory(sample::put(&agent, "board/a", Revision(21), "1"))).await;
    assert_eq!(due(&store).await, ["alice"]);
    change(Delta::Memory(sample::put(&Drawer::Global, "board/a", Revision(22), "1"))).await;
    assert_eq!(due(&store).await, ["alice", "all", "board"]);
    change(Delta::Memory(sample::delete(&Drawer::Global, "boar", Revision(23)))).await;
    for (name, lag) in [("all", 2), ("board", 1), ("alice", 1), ("like", 0), ("topic", 0)] {
        assert_eq!(store.lag(&acme, &id(name), 10).await.unwrap(), lag, "{name}");
    }
    let newest = one(&*store, "board").await.unwrap().newest;
    assert!(take_in(&*store, "board", intake(0, newest.0, vec![(newest.0, event(1, "k"), None)])).await);
    assert_eq!(store.lag(&acme, &id("board"), 10).await.unwrap(), 0);
    // One that watches something else from now on begins anew.
    act(&*store, Some(&author()), put("board", watching(None, None, "other/"))).await;
    assert!(stages(&*store, "board").await.is_empty());
    assert_eq!(one(&*store, "board").await.unwrap().position, Position(0));
}

/// Several events of a key start one run, as it was decided of those that wait, within the rate; its end is the end of all of them.
pub async fn events_that_were_gathered_start_one_run<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let gather = Some(Gather::Batch(Batch { events: 9, within: 1_000 }));
    let rate = Some(Rate { starts: 2, per: 60_000 });
    act(&*store, Some(&author()), put("feed", Trigger { gather, rate, at_once: 9, ..trigger("t") })).await;
    let found = [(1, "a"), (2, "a"), (3, "b"), (4, "a"), (5, "a"), (6, "c")].map(|(n, key)| (n, event(n, key), None));
    assert!(take_in(&*store, "feed", intake(0, 6, found.into())).await);
    let row = one(&*store, "feed").await.unwrap();
    let mut owners: Vec<Owner> = (0..9).map(|number| Owner::new("acme", number)).collect();
    let together = |owner: &mut Owner, position: u64, with: &[u64], dropped: &[u64]| {
        let mut append = started(owner, &row, position);
        if let Some(start) = &mut append.triggered {
            start.with = with.iter().map(|place| Position(*place)).collect();
            start.dropped = dropped.iter().map(|place| Position(*place)).collect();
        }
        append
    };
    let refused = async |append: Append| store.append(append, Durability::Lazy).await.unwrap_err().kind;
    assert_eq!(refused(together(&mut owners[8], 2, &[3], &[])).await, Kind::Conflict, "of another key");
    assert_eq!(refused(together(&mut owners[7], 2, &[7], &[])).await, Kind::Conflict, "it is not there");
    store.append(together(&mut owners[0], 4, &[1], &[2]), Durability::Lazy).await.unwrap();
    assert_eq!(
        stages(&*store, "feed").await,
        [(1, Stage::UnderWay), (3, Stage::Waiting), (4, Stage::UnderWay), (5, Stage::Waiting), (6, Stage::Waiting)]
    );
    assert_eq!(refused(together(&mut owners[6], 5, &[], &[])).await, Kind::Conflict, "one of its key is under way");
    store.append(together(&mut owners[1], 3, &[], &[]), Durability::Barrier).await.unwrap();
    let now = one(&*store, "feed").await.unwrap();
    assert_eq!((now.started, now.under_way, now.waiting, now.superseded), (2, 2, 2, 1));
    assert_eq!(refused(together(&mut owners[5], 6, &[], &[])).await, Kind::Conflict, "two began just now");
    let store = fixture.crash(store).await;
    let acme = tenant("acme");
    let ever = Timestamp::default();
    assert_eq!(store.started_since(&acme, &id("feed"), ever, 9).await.unwrap(), 2);
    assert_eq!(store.started_since(&acme, &id("feed"), ever, 1).await.unwrap(), 1);
    assert_eq!(store.started_since(&acme, &id("feed"), at(1_000_000), 9).await.unwrap(), 0);
    // A run's end is that of all its events.
    store.append(ended(&mut owners[0], State::Failed), Durability::Lazy).await.unwrap();
    store.append(ended(&mut owners[1], State::Completed), Durability::Barrier).await.unwrap();
    assert_eq!(
        stages(&*store, "feed").await,
        [(1, Stage::Parked), (4, Stage::Parked), (5, Stage::Waiting), (6, Stage::Waiting)]
    );
}

/// So many events follow from one, by whichever subscriptions, and no more; how many did is known for a day after the last.
pub async fn so_many_events_follow_from_one<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for name in ["feed", "other"] {
        act(&*store, Some(&author()), put(name, trigger("t"))).await;
    }
    let after = |number, root: &str| {
        let trail = Trail { correlation: root.into(), causation: "/s 1".into(), hops: 1, run: None };
        (number, Event { trail: Some(Box::new(trail)), ..event(number, "k") }, None)
    };
    let bounded = |from, to, found| Intake { cascade: 3, ..intake(from, to, found) };
    let found = vec![after(1, "/s a"), after(2, "/s b"), (3, event(3, "k"), None), after(4, "/s a")];
    assert!(take_in(&*store, "feed", bounded(0, 4, found)).await);
    assert!(take_in(&*store, "other", bounded(0, 6, vec![after(5, "/s a"), after(6, "/s a")])).await);
    assert!(take_in(&*store, "feed", bounded(4, 8, vec![after(7, "/s a"), after(8, "/s b")])).await);
    let dead = async |store: &F::Store| {
        let filter = ArrivalFilter { dead: true, limit: 10, ..ArrivalFilter::default() };
        let found = store.arrivals(&tenant("acme"), &filter).await.unwrap();
        found.into_iter().map(|one| (one.id.to_string(), one.position.0, one.reason.unwrap())).collect::<Vec<_>>()
    };
    let why = "budget: more than 3 events followed from the one that all of it began with, /s a".to_owned();
    let wanted = [("feed".to_owned(), 7, why.clone()), ("other".to_owned(), 6, why)];
    assert_eq!(dead(&store).await, wanted);
    // An act is on disk, and so is everything before it.
    act(&*store, Some(&author()), put("third", trigger("t"))).await;
    let store = fixture.crash(store).await;
    // A day later, what began with another event has it forgotten.
    let late = Intake {
        at: at(9).after(CASCADE).after(CASCADE),
        ..bounded(8, 20, vec![after(19, "/s c"), after(20, "/s a")])
    };
    assert!(take_in(&*store, "feed", late).await);
    assert_eq!(dead(&store).await, wanted);
}

/// What followed from an event is found: runs that it started, where it stands otherwise, and events that it led to.
pub async fn what_follows_from_an_event_is_found<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let acme = tenant("acme");
    for name in ["feed", "other"] {
        act(&*store, Some(&author()), put(name, trigger("t"))).await;
    }
    let topic: message::Topic = "t".parse().unwrap();
    let send = async |id: u64, event: Event| {
        let sent = Delta::Sent(Message { id: Revision(id), channel: Channel::Topic(topic.clone()), event });
        let change = Change::Context { call: "c".into(), about: "a".into(), request: ltmc_model::Digest::of(b"") };
        store.act_with(&acme, at(8), Act { by: None, change }, Changes::blind(vec![sent])).await.unwrap();
        store.event(&acme, Revision(id)).await.unwrap().unwrap()
    };
    let (name, first) = send(11, event(1, "k")).await;
    assert_eq!((&name, &first.event), (&topic, &event(1, "k")));
    let follows = |number| {
        let trail = Trail::after(&first.event).by(Owner::new("acme", 1).row.id);
        Event { trail: Some(Box::new(trail)), ..event(number, "k") }
    };
    let (_, second) = send(12, follows(2)).await;
    let (_, third) = send(13, follows(3)).await;
    assert_eq!(store.event(&tenant("beta"), Revision(11)).await.unwrap(), None);
    assert_eq!(store.event(&acme, Revision(14)).await.unwrap(), None);
    let following = async |after, limit| {
        let found = store.following(&acme, "/shop e1", after, limit).await.unwrap();
        found.into_iter().map(|(_, found)| found).collect::<Vec<_>>()
    };
    assert_eq!(following(Position(0), 10).await, [second.clone(), third.clone()]);
    assert_eq!((following(Position(0), 1).await, following(second.position, 9).await), (vec![second], vec![third]));
    assert!(store.following(&tenant("beta"), "/shop e1", Position(0), 9).await.unwrap().is_empty());
    let at_once = intake(0, first.position.0, vec![(first.position.0, event(1, "k"), None)]);
    assert!(take_in(&*store, "feed", at_once).await);
    let dead = intake(0, first.position.0, vec![(first.position.0, event(1, "k"), Some("loop"))]);
    assert!(take_in(&*store, "other", dead).await);
    let stands = |by: &str, stage, why: Option<&str>| Made {
        by: id(by),
        run: None,
        stands: Some((stage, why.map(str::to_owned))),
    };
    let other = stands("other", Stage::Dead, Some("loop"));
    let waits = stands("feed", Stage::Waiting, None);
    assert_eq!(store.made_of(&acme, first.position, 10).await.unwrap(), [waits, other.clone()]);
    let (row, mut owner) = (one(&*store, "feed").await.unwrap(), Owner::new("acme", 1));
    store.append(started(&mut owner, &row, first.position.0), Durability::Lazy).await.unwrap();
    let run = Made { by: id("feed"), run: Some(owner.row.id), stands: None };
    assert_eq!(store.made_of(&acme, first.position, 10).await.unwrap(), [run.clone(), other.clone()]);
    store.append(ended(&mut owner, State::Completed), Durability::Barrier).await.unwrap();
    let store = fixture.crash(store).await;
    assert_eq!(store.made_of(&acme, first.position, 10).await.unwrap(), [run, other]);
    assert!(store.made_of(&tenant("beta"), first.position, 10).await.unwrap().is_empty());
}

/// A tenant has so many subscriptions and no more.
pub async fn a_tenant_has_so_many_subscriptions<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let acme = tenant("acme");
    for number in 1..MAX_OF_A_TENANT {
        act(&*store, None, put(&format!("s{number}"), trigger("t"))).await;
    }
    let put_one = async |name: &str, of: Option<&str>, more| {
        let expects = vec![Expect::Subscriptions { of: of.map(|of| of.parse().unwrap()), more }];
        let changes = Changes { deltas: Vec::new(), expects };
        store.act_with(&acme, at(1), Act { by: None, change: put(name, trigger("t")) }, changes).await
    };
    assert_eq!(put_one("w:1", Some("w"), 2).await.unwrap_err().kind, Kind::Stale);
    put_one("w:1", Some("w"), 1).await.unwrap();
    // Its own are not counted twice.
    put_one("w:1", Some("w"), 1).await.unwrap();
    assert_eq!(put_one("more", None, 1).await.unwrap_err().kind, Kind::Stale);
    let expecting = async |name: &str, is_paused| {
        let changes = Changes { deltas: Vec::new(), expects: vec![Expect::Subscription { id: id(name), is_paused }] };
        let change = Change::SubscriptionPaused { id: id("s1"), why: None };
        store.act_with(&acme, at(1), Act { by: None, change }, changes).await.map_err(|error| error.kind)
    };
    assert_eq!(expecting("nobody", Some(false)).await, Err(Kind::Stale));
    assert_eq!(expecting("s1", None).await, Err(Kind::Stale));
    expecting("nobody", None).await.unwrap();
    assert_eq!(expecting("s1", Some(false)).await, Err(Kind::Stale));
    expecting("s1", Some(true)).await.unwrap();
}
