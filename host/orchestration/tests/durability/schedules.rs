//! Schedules: each tick starts one run, whoever is there and whatever dies; what is not started is counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ltmc_model::caller::{Caller, Role};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Change, Event};
use ltmc_model::memory::{Precondition, Scope};
use ltmc_model::run::State;
use ltmc_model::schedule::{Outcome, Planned, ScheduleId, Trouble};
use ltmc_model::tenancy::Key;
use ltmc_model::workflow::Document;
use ltmc_model::{Digest, KeyId, Payload, Seq, Timestamp, call};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::schedules::StoredSchedule;
use ltmc_ports::testing::{Fault, MemoryRecord, sample};
use ltmc_ports::{Kind, ReadJournal as _, ReadSchedules as _, WriteCatalog as _};
use ltmc_tenancy::Error;

use crate::guest::{Guest, Script, agent, text};
use crate::host::{Host, World, caller, in_paused_time, tenant};
use crate::story::Story;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Every minute, with what else is said of it.
fn minutely(more: &str) -> String {
    document(&format!("schedule: \"* * * * *\"{more}"))
}

fn document(schedule: &str) -> String {
    format!(
        "name: report
on:
  - {{{schedule}, input: {{kind: daily}}}}
flow: {{agent: note, with: {{at: {{pick: $.run.scheduled-at, else: nobody}}, kind: $.input.kind}}}}"
    )
}

/// Notes once for each tick that it was called for; a second time is a failure. Takes `work`.
fn scripts(work: Duration) -> [Script; 1] {
    let note = move |guest: Guest| async move {
        let input: serde_json::Value = serde_json::from_slice(&guest.job.input.bytes).unwrap();
        assert_eq!(input["kind"], "daily");
        let key = input["at"].as_str().unwrap().replace([':', '.'], "-");
        let (scope, precondition) = (Scope::Agent, Precondition::Absent);
        let value = guest.job.run.to_string().into();
        let noted = guest.cross(call::memory::Put { scope, key, value, precondition, ttl_ms: None }).await?;
        noted.map_err(|refusal| Failure::new(Code::AgentError, format!("noted already: {refusal:?}")))?;
        tokio::time::sleep(work).await;
        Ok(Payload::json(&input["at"]))
    };
    [agent("note", note)]
}

fn one() -> ScheduleId {
    ScheduleId { workflow: "report".parse().unwrap(), number: 1 }
}

fn key(id: KeyId, role: Role) -> Key {
    let (tenant, created_at) = (tenant(), sample::at(0));
    Key { id, tenant, role, hash: [1; 32], created_at, expires_at: None, revoked_at: None }
}

async fn act(record: &MemoryRecord, by: Option<KeyId>, change: Change) {
    record.act(&tenant(), sample::at(0), Act { by, change }).await.unwrap();
}

/// A record with this document, which the caller's key has put at this moment.
async fn put(world: &World, source: &str) -> Arc<MemoryRecord> {
    let record = world.record(None).await;
    act(&record, None, Change::KeyCreated(key(caller().key, Role::Author))).await;
    put_again(world, &record, source, caller().key).await;
    record
}

async fn put_again(world: &World, record: &MemoryRecord, source: &str, by: KeyId) {
    let document = Document::parse(source, None).unwrap();
    let now = world.clock().now();
    let planned = document.schedules.iter().map(|schedule| Planned {
        digest: schedule.digest(),
        timing: schedule.timing.clone(),
        next: schedule.timing.next(now).unwrap(),
    });
    let (name, digest) = (document.name.clone(), Digest::of(source.as_bytes()));
    let schedules = planned.collect();
    act(
        record,
        Some(by),
        Change::WorkflowPut { name, source: source.to_owned(), digest, schedules, triggers: Vec::new() },
    )
    .await;
}

async fn row(record: &MemoryRecord) -> StoredSchedule {
    record.schedule(&tenant(), &one()).await.unwrap().unwrap()
}

/// Every run's tick and how it stands, by tick; no two have the same.
async fn runs(record: &MemoryRecord) -> BTreeMap<Timestamp, State> {
    let filter = RunFilter { limit: 10_000, ..RunFilter::default() };
    let mut found = BTreeMap::new();
    for run in record.runs(&tenant(), &filter).await.unwrap() {
        let journal = record.entries(&tenant(), run.id, Seq(0), 10_000).await.unwrap();
        Story::of(&journal);
        let Event::RunStarted(started) = &journal[0].entry.event else { panic!("a run begins with its start") };
        let scheduled = started.scheduled.as_ref().expect("a schedule started it");
        assert_eq!((scheduled.number, scheduled.asked_for, &started.by), (1, false, &caller().key));
        assert_eq!(text(&started.input.bytes), r#"{"kind":"daily"}"#, "nothing is hidden in its input");
        assert_eq!(found.insert(scheduled.tick, run.state), None, "a second run by the tick {}", scheduled.tick);
    }
    found
}

/// The first so many ticks of the schedule after the tests' time began.
async fn ticks(record: &MemoryRecord, count: usize) -> Vec<Timestamp> {
    row(record).await.timing.ticks(sample::at(0)).take(count).collect()
}

async fn all_done(record: &MemoryRecord, count: usize) {
    let wanted: BTreeMap<Timestamp, State> =
        ticks(record, count).await.into_iter().map(|tick| (tick, State::Completed)).collect();
    assert_eq!(runs(record).await, wanted);
}

#[test]
fn each_tick_starts_one_run_at_its_time() {
    in_paused_time(async {
        let world = World::new(scripts(Duration::from_millis(5)));
        let host = world.host(&put(&world, &minutely("")).await, []);
        tokio::time::sleep(MINUTE * 10).await;
        all_done(&host.record, 10).await;
        let row = row(&host.record).await;
        assert_eq!((row.started, row.skipped, row.missed, row.trouble), (10, 0, 0, None));
        let filter = RunFilter { limit: 100, ..RunFilter::default() };
        for run in host.record.runs(&tenant(), &filter).await.unwrap() {
            let late = run.created_at.millis() % 60_000;
            assert!(late < 1_000, "run {} began {late} ms late", run.id);
            let view = host.runs.get(&caller(), run.id).await.unwrap();
            assert_eq!(view.scheduled.unwrap().tick.millis(), run.created_at.millis() - late);
        }
    });
}

#[test]
fn each_tick_starts_one_run_wherever_a_host_dies() {
    /// How many ticks are watched.
    const TICKS: u32 = 3;
    let undisturbed = in_paused_time(async {
        let world = World::new(scripts(Duration::from_millis(5)));
        let host = world.host(&put(&world, &minutely("")).await, []);
        tokio::time::sleep(MINUTE * TICKS).await;
        host.line.appends()
    });
    assert!(undisturbed >= u64::from(TICKS) * 2, "{undisturbed} appends");
    for at in 1..=undisturbed {
        for how in [Fault::CrashBefore, Fault::CrashAfter, Fault::TimeOut, Fault::Refuse(Kind::Unavailable)] {
            for left_all in [false, true] {
                in_paused_time(async {
                    let world = World::new(scripts(Duration::from_millis(5)));
                    let first = world.host(&put(&world, &minutely("")).await, [(at, how)]);
                    let mut over = Duration::ZERO;
                    while over < MINUTE * TICKS && !first.line.is_dead() {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        over += Duration::from_secs(1);
                    }
                    let record = match (first.line.is_dead(), left_all) {
                        (true, false) => first.record.crash(),
                        (true, true) => first.record.copy(),
                        (false, _) => first.record.clone(),
                    };
                    drop(first);
                    let next = world.host(&record, []);
                    next.runs.recover().await.unwrap();
                    tokio::time::sleep(MINUTE * (TICKS + 1) - over).await;
                    all_done(&record, TICKS as usize + 1).await;
                });
            }
        }
    }
}

#[test]
fn of_two_hosts_one_starts_each_tick() {
    in_paused_time(async {
        let world = World::new(scripts(Duration::from_millis(5)));
        let record = put(&world, &minutely("")).await;
        // One of them takes its time over every other append.
        let delays = (1..200).step_by(2).map(|at| (at, Fault::Delay(Duration::from_millis(300))));
        let hosts = [world.host(&record, delays), world.host(&record, [])];
        tokio::time::sleep(MINUTE * 20).await;
        all_done(&record, 20).await;
        let ran = hosts.iter().map(|host| host.sandbox.ran().len()).sum::<usize>();
        assert_eq!(ran, 20, "nothing was begun twice");
    });
}

#[test]
fn the_newest_tick_that_nobody_was_there_for_is_made_up_for() {
    in_paused_time(async {
        let world = World::new(scripts(Duration::from_millis(5)));
        let record = put(&world, &document("schedule: \"@hourly\", catch-up: 90m")).await;
        tokio::time::sleep(HOUR * 5).await;
        let host = world.host(&record, []);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let all = ticks(&record, 6).await;
        assert_eq!(runs(&record).await.into_keys().collect::<Vec<_>>(), [all[4]]);
        let now = row(&record).await;
        assert_eq!((now.started, now.missed, now.next), (1, 4, all[5]));
        let told = now.trouble.unwrap();
        assert_eq!((told.outcome, told.why.as_str()), (Outcome::Missed, "no host was there in time"));
        // One that came too long ago is not.
        drop(host);
        let record = put(&world, &document("schedule: \"@hourly\", catch-up: 1m")).await;
        tokio::time::sleep(HOUR * 5).await;
        let _host = world.host(&record, []);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(runs(&record).await.is_empty());
        assert_eq!(row(&record).await.missed, 5);
    });
}

#[test]
fn a_schedule_comes_until_it_ends_and_no_more() {
    in_paused_time(async {
        let world = World::new(scripts(Duration::from_millis(5)));
        let until = world.clock().now().after(HOUR * 3);
        let record = put(&world, &document(&format!("schedule: \"@hourly\", until: \"{until}\""))).await;
        let host = world.host(&record, []);
        tokio::time::sleep(HOUR * 8).await;
        let row = row(&record).await;
        assert_eq!((row.started, row.missed, row.timing.until()), (3, 0, Some(until)));
        assert_eq!(runs(&record).await.len(), 3);
        drop(host);
        // Nor by a host that looks again.
        let _host = world.host(&record, []);
        tokio::time::sleep(HOUR * 8).await;
        assert_eq!(runs(&record).await.len(), 3);
    });
}

#[test]
fn while_a_run_is_under_way_ticks_are_passed_over_wait_or_start_beside_it() {
    // Each run takes two and a half minutes.
    let work = Duration::from_secs(150);
    let after = |overlap: &'static str| {
        in_paused_time(async move {
            let world = World::new(scripts(work));
            let host = world.host(&put(&world, &minutely(&format!(", overlap: {overlap}"))).await, []);
            tokio::time::sleep(MINUTE * 10).await;
            let all = ticks(&host.record, 10).await;
            let started: Vec<usize> =
                runs(&host.record).await.into_keys().map(|tick| all.iter().position(|t| *t == tick).unwrap()).collect();
            let row = row(&host.record).await;
            (started, row.started, row.skipped, row.missed, row.trouble.map(|trouble| trouble.outcome))
        })
    };
    let (started, count, skipped, missed, told) = after("skip");
    assert_eq!((started, count, skipped, missed), (vec![0, 3, 6, 9], 4, 6, 0));
    assert_eq!(told, Some(Outcome::Skipped));
    // The newest that waits is started when the run before is over.
    let (started, count, skipped, missed, _) = after("queue");
    assert_eq!((started, count, skipped, missed), (vec![0, 2, 5, 7], 4, 4, 0));
    let (started, count, skipped, missed, told) = after("parallel");
    assert_eq!((started, count, skipped, missed, told), ((0..10).collect(), 10, 0, 0, None));
}

#[test]
fn a_tick_that_the_record_does_not_take_waits_and_is_missed_in_the_end() {
    // A try a second: it is taken after five, and never.
    for (refused, wanted) in [(5, (1, 0)), (200, (0, 1))] {
        in_paused_time(async {
            let world = World::new(scripts(Duration::from_millis(5)));
            let record = put(&world, &document("schedule: \"@hourly\", catch-up: 1m")).await;
            let host = world.host(&record, (1..=refused).map(|at| (at, Fault::Refuse(Kind::OverQuota))));
            let tick = row(&record).await.next;
            tokio::time::sleep(tick.since(sample::at(0)) + Duration::from_secs(3)).await;
            let why = "the tenant has all that it may have on disk";
            assert_eq!(row(&record).await.trouble, Some(Trouble::new(tick, Outcome::Waits, why)));
            tokio::time::sleep(MINUTE * 2).await;
            let now = row(&record).await;
            assert_eq!((now.started, now.missed), wanted, "refused {refused} times");
            let missed = (refused == 200).then(|| Trouble::new(tick, Outcome::Missed, why));
            assert_eq!(now.trouble, missed);
            assert_eq!(host.runs.alive(), 0);
        });
    }
}

#[test]
fn a_schedule_whose_key_was_taken_back_is_set_aside_until_somebody_continues_it() {
    in_paused_time(async {
        let world = World::new(scripts(Duration::from_millis(5)));
        let record = put(&world, &minutely("")).await;
        let first = world.host(&record, []);
        tokio::time::sleep(MINUTE * 2).await;
        let revoked = Change::KeyRevoked { key: caller().key, at: world.clock().now() };
        act(&record, None, revoked).await;
        // A host believes for ten seconds what it knows of a key that another takes back: the next one knows nothing.
        drop(first);
        let host = world.host(&record, []);
        tokio::time::sleep(MINUTE * 3).await;
        all_done(&record, 2).await;
        let set_aside = row(&record).await;
        let paused = set_aside.paused.unwrap();
        assert_eq!((paused.by, paused.why.as_deref()), (None, Some("the key `abcdefghijkl` was taken back")));
        assert_eq!((set_aside.missed, set_aside.skipped), (0, 0));
        let other = Caller { key: "otherother00".parse().unwrap(), ..caller() };
        act(&record, None, Change::KeyCreated(key(other.key.clone(), Role::Author))).await;
        host.schedules.go_on(&other, &one()).await.unwrap();
        assert!(matches!(host.schedules.go_on(&other, &one()).await, Err(Error::Conflict { .. })));
        tokio::time::sleep(MINUTE).await;
        let now = row(&record).await;
        assert_eq!((now.started, now.paused, now.by), (3, None, Some(other.key.clone())));
        let run = record.run(&tenant(), now.last.unwrap().run).await.unwrap().unwrap();
        assert_eq!(run.by, other.key);
    });
}

#[test]
fn a_paused_schedule_starts_nothing_but_what_somebody_asks_for() {
    in_paused_time(async {
        let world = World::new(scripts(Duration::from_millis(5)));
        let record = put(&world, &minutely("")).await;
        let host = world.host(&record, []);
        host.schedules.pause(&caller(), &one()).await.unwrap();
        tokio::time::sleep(MINUTE * 5).await;
        assert!(runs(&record).await.is_empty());
        let asked = world.clock().now();
        let started = host.schedules.run_now(&caller(), &one(), Some("key".into())).await.unwrap();
        let again = host.schedules.run_now(&caller(), &one(), Some("key".into())).await.unwrap();
        assert_eq!(again.run, started.run, "the same key means the same run");
        let output = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap().unwrap();
        assert_eq!(text(&output.bytes), format!("\"{asked}\""));
        let now = row(&record).await;
        assert_eq!((now.started, now.missed, now.paused.is_some()), (1, 0, true));
        let missing = ScheduleId { number: 2, ..one() };
        assert!(matches!(host.schedules.run_now(&caller(), &missing, None).await, Err(Error::NotFound { .. })));
        let viewer = Caller { role: Role::Viewer, ..caller() };
        let refused = [
            host.schedules.run_now(&viewer, &one(), None).await.map(drop),
            host.schedules.pause(&viewer, &one()).await,
            host.schedules.go_on(&Caller { role: Role::Caller, ..caller() }, &one()).await,
        ];
        assert!(refused.iter().all(|end| matches!(end, Err(Error::Denied { .. }))), "{refused:?}");
        host.schedules.go_on(&caller(), &one()).await.unwrap();
        tokio::time::sleep(MINUTE).await;
        assert_eq!(row(&record).await.started, 2, "what came while it was paused is not made up for");
    });
}

/// Over the hour that comes twice and the one that never comes, by the clock of Berlin.
#[test]
fn ticks_come_as_the_clock_of_their_zone_is_changed() {
    for (begins, schedule, wanted) in [
        (
            "2027-10-30T22:30:00Z",
            "schedule: 30 2 * * *, zone: Europe/Berlin",
            &["2027-10-31T02:30:00+02:00[Europe/Berlin]"][..],
        ),
        (
            "2027-10-30T22:45:00Z",
            "schedule: 30 * * * *, zone: Europe/Berlin",
            &[
                "2027-10-31T01:30:00+02:00[Europe/Berlin]",
                "2027-10-31T02:30:00+02:00[Europe/Berlin]",
                "2027-10-31T02:30:00+01:00[Europe/Berlin]",
                "2027-10-31T03:30:00+01:00[Europe/Berlin]",
            ],
        ),
        (
            "2027-03-27T22:45:00Z",
            "schedule: 30 2 * * *, zone: Europe/Berlin",
            &["2027-03-28T03:00:00+02:00[Europe/Berlin]"],
        ),
    ] {
        in_paused_time(async {
            let begins: Timestamp = serde_json::from_value(begins.into()).unwrap();
            let world = World::new(scripts(Duration::from_millis(5))).beginning(begins);
            let host: Host = world.host(&put(&world, &document(schedule)).await, []);
            tokio::time::sleep(HOUR * 4).await;
            let zone = row(&host.record).await.timing.zone().clone();
            let started: Vec<String> = runs(&host.record).await.into_keys().map(|tick| zone.show(tick)).collect();
            assert_eq!(started, wanted, "{schedule}");
        });
    }
}

#[test]
fn a_document_that_is_replaced_or_deleted_starts_what_it_says_from_then_on() {
    in_paused_time(async {
        let world = World::new(scripts(Duration::from_millis(5)));
        let record = put(&world, &minutely("")).await;
        let host = world.host(&record, []);
        tokio::time::sleep(MINUTE * 2).await;
        put_again(&world, &record, &document("schedule: \"@hourly\""), caller().key).await;
        tokio::time::sleep(MINUTE * 10).await;
        assert_eq!(row(&record).await.started, 0);
        act(&record, None, Change::WorkflowDeleted { name: "report".parse().unwrap() }).await;
        tokio::time::sleep(HOUR * 3).await;
        assert_eq!(runs(&record).await.len(), 2);
        assert_eq!(host.runs.alive(), 0);
    });
}

/// What a caller may not start a caller may not start by a schedule either.
#[test]
fn run_now_asks_what_a_start_asks() {
    in_paused_time(async {
        for flow in ["{emit: {topic: news, type: said}}", "{wait: {topic: news}}"] {
            let world = World::new(scripts(Duration::from_millis(5)));
            let document = format!("name: report\non: [{{schedule: \"* * * * *\"}}]\nflow: {flow}");
            let record = put(&world, &document).await;
            let host = world.host(&record, []);
            let low = Caller { role: Role::Caller, ..caller() };
            let refused = host.schedules.run_now(&low, &one(), None).await.map(drop);
            assert!(matches!(refused, Err(Error::Denied { .. })), "{flow}: {refused:?}");
            assert!(runs(&record).await.is_empty(), "{flow}");
            host.schedules.run_now(&caller(), &one(), None).await.unwrap();
        }
    });
}
