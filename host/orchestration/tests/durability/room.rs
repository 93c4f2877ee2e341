//! Room: of a tenant that has none for more runs nothing is read, at a start or when its runs are due; others go on meanwhile. So they do whatever one
//! tenant has of sessions about which nothing can be done, and of events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ltmc_model::caller::{Caller, Role};
use ltmc_model::delta::Delta;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Change};
use ltmc_model::message::{Channel, Event, Message};
use ltmc_model::run::{State, Target};
use ltmc_model::session::{IfBusy, Settings};
use ltmc_model::tenancy::Key;
use ltmc_model::trigger::{Feed, OnPoison, Planted, Trigger};
use ltmc_model::{Digest, Payload, Position, SessionId, TenantId};
use ltmc_orchestration::{Said, SayRequest};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::testing::{MemoryRecord, sample};
use ltmc_ports::{Changes, ReadJournal as _, ReadSessions as _, WriteCatalog as _, WriteJournal as _};

use crate::guest::{Guest, Script, agent, may_pass, text};
use crate::host::{Host, Line, Request, World, in_paused_time, tenant};

/// Fails once, and an hour later is at work for two.
const DOCUMENT: &str = "name: patient\nflow: {agent: late, retry: {attempts: 3, backoff: 1h, max: 1h}}";
const HOUR: Duration = Duration::from_secs(60 * 60);
const SECOND: Duration = Duration::from_secs(1);
/// More than are read at once.
const MANY: usize = 110;
/// More sessions than are read at once.
const STUCK: usize = 300;

fn beta() -> TenantId {
    sample::tenant("beta")
}

/// Each tenant's key is its own.
fn author(of: &TenantId) -> Caller {
    let key = if *of == beta() { "bbcdefghijkl" } else { "abcdefghijkl" };
    Caller { tenant: of.clone(), key: key.parse().unwrap(), role: Role::Author, cause: None }
}

/// Whose attempts began, in order.
type Began = Arc<Mutex<Vec<TenantId>>>;

fn late(began: &Began, works: Duration) -> Script {
    let began = began.clone();
    agent("late", move |guest: Guest| {
        let began = began.clone();
        async move {
            if guest.job.attempt == 1 {
                return Err::<Payload, Failure>(may_pass("not yet"));
            }
            began.lock().unwrap().push(guest.job.tenant.clone());
            guest.compute(u64::try_from(works.as_millis()).unwrap()).await;
            Ok(Payload::text("done"))
        }
    })
}

/// A host on which `many` of acme's runs wait, and then one of beta's.
async fn waiting(world: &World, many: usize) -> Host {
    let record = world.record(Some(DOCUMENT)).await;
    world.furnish(&record, &beta(), Some(DOCUMENT)).await;
    let host = world.host(&record, []);
    for (of, runs) in [(tenant(), many), (beta(), 1)] {
        let caller = author(&of);
        for number in 0..runs {
            let request = Request { key: Some(number.to_string()), ..Request::workflow("patient") };
            let started = host.start_as(&caller, &request).await.unwrap();
            assert_eq!(host.runs.wait(&caller, &started, Some(Duration::from_millis(1))).await.unwrap(), None);
        }
    }
    host
}

async fn over(record: &MemoryRecord, of: &TenantId) -> usize {
    let filter = RunFilter { limit: 1_000, ..RunFilter::default() };
    let runs = record.runs(of, &filter).await.unwrap();
    runs.iter().filter(|run| run.state == State::Completed).count()
}

#[test]
fn runs_that_are_due_go_on_tenants_in_turns_and_all_of_them_at_once() {
    in_paused_time(async {
        let began = Began::default();
        let world = World::new([late(&began, Duration::ZERO)]);
        let host = waiting(&world, MANY).await;
        // The last of them is due.
        tokio::time::sleep(HOUR + 2 * SECOND).await;
        let began = began.lock().unwrap().clone();
        assert_eq!((began.len(), over(&host.record, &tenant()).await), (MANY + 1, MANY));
    });
}

#[test]
fn a_tenant_s_backlog_lets_others_go_on_before_it() {
    in_paused_time(async {
        let began = Began::default();
        let world = World::new([late(&began, Duration::ZERO)]);
        let host = waiting(&world, MANY).await;
        let record = host.record.copy();
        drop(host);
        // Nobody is there when they become due.
        tokio::time::sleep(2 * HOUR).await;
        let _next = world.host(&record, []);
        tokio::time::sleep(SECOND).await;
        let began = began.lock().unwrap().clone();
        assert_eq!(began.len(), MANY + 1);
        let place = began.iter().position(|of| *of == beta()).unwrap();
        assert!(place <= 64, "it went on after {place} of acme's");
    });
}

#[test]
fn of_a_tenant_that_has_no_room_nothing_is_read_when_its_runs_are_due() {
    in_paused_time(async {
        let began = Began::default();
        let world = World::new([late(&began, 2 * HOUR)]).with_room(8);
        let host = waiting(&world, MANY).await;
        tokio::time::sleep(HOUR + SECOND).await;
        let (alive, read) = (host.runs.alive(), host.record.runs_read());
        assert!((2..8).contains(&alive), "{alive} of {MANY} have room");
        assert!(began.lock().unwrap().contains(&beta()), "and beta's is one of them");
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!((host.runs.alive(), host.record.runs_read()), (alive, read), "there is still no room");
        // Those have come to their end, and others have their room.
        tokio::time::sleep(2 * HOUR).await;
        assert_eq!(over(&host.record, &beta()).await, 1);
        assert!(over(&host.record, &tenant()).await > 0 && host.runs.alive() > 0);
    });
}

#[test]
fn a_start_reads_nothing_of_a_tenant_that_has_no_room_and_takes_up_all_in_the_end() {
    in_paused_time(async {
        let works = agent("late", async |guest: Guest| {
            guest.compute(60_000).await;
            Ok::<Payload, Failure>(Payload::text("done"))
        });
        let world = World::new([works]);
        let record = world.record(Some(DOCUMENT)).await;
        world.furnish(&record, &beta(), Some(DOCUMENT)).await;
        let host = world.host(&record, []);
        for (of, runs) in [(tenant(), MANY), (beta(), 1)] {
            for number in 0..runs {
                let request = Request { key: Some(number.to_string()), ..Request::workflow("patient") };
                host.start_as(&author(&of), &request).await.unwrap();
            }
        }
        tokio::time::sleep(SECOND).await;
        assert_eq!(host.runs.alive(), MANY + 1);
        let record = host.record.copy();
        drop(host);
        let world = world.with_room(64);
        let next = world.host(&record, []);
        let runs = next.runs.clone();
        let recovering = tokio::spawn(async move { runs.recover().await.unwrap() });
        tokio::time::sleep(SECOND / 2).await;
        let (alive, read) = (next.runs.alive(), record.runs_read());
        assert!((2..64).contains(&alive) && read > MANY as u64, "{alive} of {MANY} have room, {read} were read");
        tokio::time::sleep(50 * SECOND).await;
        assert_eq!((next.runs.alive(), record.runs_read()), (alive, read), "there is still no room");
        let recovered = recovering.await.unwrap();
        assert_eq!((recovered.resumed, recovered.left), (MANY + 1, 0));
        tokio::time::sleep(120 * SECOND).await;
        assert_eq!((over(&record, &tenant()).await, over(&record, &beta()).await), (MANY, 1));
        // All of them once, and then a page or two each time that some have come to their end.
        let most = MANY + 200 * (MANY / alive + 2);
        assert!(record.runs_read() <= most as u64, "{} rows were read", record.runs_read());
    });
}

/// Does something, and takes ten minutes over the next step; what it did is undone by `undo`.
const UNDONE: &str = "name: undone\nflow: {sequence: [{agent: begin, compensate: {agent: undo}}, {agent: dawdle}]}";

fn settings(with: &str, turn: Duration) -> Settings {
    let with = match with {
        "undone" => Target::Workflow("undone".parse().unwrap()),
        agent => Target::Agent(agent.parse().unwrap()),
    };
    let (turn, idle) = (u64::try_from(turn.as_millis()).unwrap(), 24 * 3_600_000);
    Settings { if_busy: IfBusy::Interrupt, queue: 8, idle, turn, ..Settings::new(with) }
}

async fn say(host: &Host, of: &TenantId, id: &SessionId, said: &str) -> Said {
    let request = SayRequest {
        input: Payload::text(said.to_owned()),
        idempotency: None,
        request_digest: Digest::of(said.as_bytes()),
        traceparent: None,
    };
    host.sessions.say(&author(of), id, request).await.unwrap()
}

/// Of one tenant more turns were interrupted than are read at once, and none of them comes to its end: what undoes them fails, or takes its time. That keeps
/// nobody else's turns from ending in time, nor its own.
#[test]
fn turns_that_cannot_be_undone_keep_no_other_session_waiting() {
    for takes in [Duration::ZERO, 5 * HOUR] {
        in_paused_time(async {
            let undo = agent("undo", move |guest: Guest| async move {
                guest.compute(u64::try_from(takes.as_millis()).unwrap()).await;
                Err::<Payload, Failure>(Failure::new(Code::AgentError, "it cannot be undone"))
            });
            let dawdle = agent("dawdle", async |guest: Guest| {
                if text(&guest.job.input.bytes) == "quick" {
                    return Ok::<Payload, Failure>(Payload::text("quick"));
                }
                guest.compute(24 * 3_600_000).await;
                Ok(Payload::text("done"))
            });
            let begin = agent("begin", async |guest: Guest| {
                guest.put("begun", "yes").await?;
                Ok::<Payload, Failure>(guest.job.input.clone())
            });
            let world = World::new([undo, dawdle, begin]);
            let record = world.record(Some(UNDONE)).await;
            world.furnish(&record, &beta(), Some(UNDONE)).await;
            let host = world.host(&record, []);
            let mut interrupted = Vec::new();
            for _ in 0..STUCK {
                let id = host.sessions.open(&author(&tenant()), settings("undone", 24 * HOUR), None).await.unwrap().id;
                interrupted.push((say(&host, &tenant(), &id, "long").await.started.run, id));
            }
            tokio::time::sleep(SECOND).await;
            for (_, id) in &interrupted {
                say(&host, &tenant(), id, "quick").await;
            }
            tokio::time::sleep(30 * SECOND).await;
            for of in [beta(), tenant()] {
                let id = host.sessions.open(&author(&of), settings("dawdle", 60 * SECOND), None).await.unwrap().id;
                say(&host, &of, &id, "long").await;
                tokio::time::sleep(90 * SECOND).await;
                let session = host.record.session(&of, &id).await.unwrap().unwrap();
                assert!(session.is_idle(), "its turn has taken too long, and was not ended: {session:?}");
            }
            let now = |run| async move { record.run(&tenant(), run).await.unwrap().unwrap().state };
            let first = now(interrupted[0].0).await;
            assert!(!first.is_final(), "the first of them was not to end: {first:?}");
        });
    }
}

/// A subscription of a topic's that every tenant has, by the key of [`author`].
async fn plant(record: &MemoryRecord, of: &TenantId, name: &str) {
    let trigger = Trigger {
        feed: Feed::Topic("orders".parse().unwrap()),
        filter: None,
        start: Target::Agent("late".parse().unwrap()),
        at_once: 4,
        on_poison: OnPoison::ParkKey,
        rate: None,
        gather: None,
    };
    let planted = Box::new(Planted { trigger, after: Position(0) });
    let change = Change::SubscriptionPut { id: name.parse().unwrap(), planted };
    record.act(of, sample::at(0), Act { by: Some(author(of).key), change }).await.unwrap();
}

/// An event that every subscription of the tenant's takes in.
async fn publish(record: &MemoryRecord, world: &World, of: &TenantId, id: &str) {
    let event = Event {
        id: id.to_owned(),
        source: "/shop".into(),
        kind: "order.paid".into(),
        subject: None,
        time: world.clock().now(),
        data: Payload::default(),
        attributes: BTreeMap::new(),
        trail: None,
    };
    let sent =
        Message { id: record.next_revision(&tenant()), channel: Channel::Topic("orders".parse().unwrap()), event };
    let change = Change::Context { call: "messages.publish".into(), about: "orders".into(), request: Digest::of(b"") };
    let act = Act { by: Some(author(of).key), change };
    record.act_with(of, world.clock().now(), act, Changes::blind(vec![Delta::Sent(sent)])).await.unwrap();
}

async fn started(record: &MemoryRecord, of: &TenantId) -> usize {
    record.runs(of, &RunFilter { limit: 10_000, ..RunFilter::default() }).await.unwrap().len()
}

/// A tenant has as many subscriptions as it may, each with events; and starting a run takes its time. Another one's events start theirs all the same, those
/// that were there before and those that come meanwhile.
#[test]
fn a_tenant_s_many_subscriptions_keep_no_other_s_events_waiting() {
    in_paused_time(async {
        let began = Began::default();
        let notes = began.clone();
        let late = agent("late", move |guest: Guest| {
            notes.lock().unwrap().push(guest.job.tenant.clone());
            async move { Ok::<Payload, Failure>(Payload::text("done")) }
        });
        let world = World::new([late]);
        let record = world.record(None).await;
        world.furnish(&record, &beta(), None).await;
        for (of, id, many) in [(tenant(), "abcdefghijkl", 200), (beta(), "bbcdefghijkl", 1)] {
            let key = Key {
                id: id.parse().unwrap(),
                tenant: of.clone(),
                role: Role::Author,
                hash: [1; 32],
                created_at: sample::at(0),
                expires_at: None,
                revoked_at: None,
            };
            let change = Change::KeyCreated(key);
            record.act(&TenantId::host(), sample::at(0), Act { by: None, change }).await.unwrap();
            for number in 0..many {
                plant(&record, &of, &format!("s{number}")).await;
            }
            publish(&record, &world, &of, "first").await;
        }
        let host = world.host_over(Line::new(&record, [], None).with_lag(SECOND));
        tokio::time::sleep(SECOND * 5 / 2).await;
        assert_eq!(started(&record, &beta()).await, 1);
        let of_acme = started(&record, &tenant()).await;
        assert!((1..150).contains(&of_acme), "{of_acme} of acme's were started meanwhile");
        publish(&record, &world, &beta(), "second").await;
        tokio::time::sleep(SECOND * 5 / 2).await;
        assert_eq!(started(&record, &beta()).await, 2);
        let of_acme = started(&record, &tenant()).await;
        assert!(of_acme < 200, "{of_acme} of acme's were started meanwhile");
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!((started(&record, &tenant()).await, started(&record, &beta()).await), (200, 2));
        assert_eq!(began.lock().unwrap().len(), 202);
        drop(host);
    });
}
