//! What every record does with schedules.

use std::sync::Arc;

use ltmc_model::journal::{Act, Change};
use ltmc_model::run::State;
use ltmc_model::schedule::{Cron, MAX_OF_A_TENANT, Outcome, Overlap, Passed, Planned, ScheduleId, Timing, Trouble};
use ltmc_model::{Digest, KeyId, TenantId, Timestamp};

use super::{Fixture, Store};
use crate::schedules::{Coming, LastStart, Paused, ScheduledStart, StoredSchedule, Ticked};
use crate::testing::sample::{Owner, at, run_id, tenant};
use crate::{
    Append, Changes, Durability, Expect, Kind, ReadJournal as _, ReadSchedules as _, WriteCatalog as _,
    WriteJournal as _, WriteSchedules as _,
};

const MINUTE: u64 = 60_000;

fn key(id: &str) -> KeyId {
    id.parse().unwrap()
}

fn author() -> KeyId {
    key("authorauthor")
}

fn id(workflow: &str, number: u32) -> ScheduleId {
    ScheduleId { workflow: workflow.parse().unwrap(), number }
}

/// What comes so many minutes after the start of the tests' time, called by its name.
fn planned(name: &str, minutes: u64) -> Planned {
    let cron: Cron = "* * * * *".parse().unwrap();
    let timing = Timing::new(cron, "UTC".parse().unwrap(), Overlap::Queue, Timing::CATCH_UP);
    Planned { digest: Digest::of(name.as_bytes()), timing, next: at(minutes * MINUTE) }
}

fn put(workflow: &str, schedules: &[Planned]) -> Change {
    let digest = Digest::of(workflow.as_bytes());
    Change::WorkflowPut {
        name: workflow.parse().unwrap(),
        source: workflow.into(),
        digest,
        schedules: schedules.to_vec(),
        triggers: Vec::new(),
    }
}

async fn act<S: Store>(store: &S, of: &str, by: Option<&KeyId>, change: Change) {
    store.act(&tenant(of), at(7), Act { by: by.cloned(), change }).await.unwrap();
}

async fn one<S: Store>(store: &S, workflow: &str, number: u32) -> Option<StoredSchedule> {
    store.schedule(&tenant("acme"), &id(workflow, number)).await.unwrap()
}

/// The first run's entries, by the tick at `due`, where the next one is a minute later.
fn started(number: u64, schedule: &StoredSchedule, is_alone: bool) -> Append {
    let start = ScheduledStart {
        id: schedule.id.clone(),
        digest: schedule.digest,
        tick: schedule.next,
        due: Some(dealt(schedule, 1, Passed::default(), None)),
        is_alone,
    };
    Append { scheduled: Some(start), ..Owner::new("acme", number).append(1) }
}

/// What became of what is due, where the next tick is so many minutes later.
fn dealt(schedule: &StoredSchedule, minutes: u64, passed: Passed, trouble: Option<Trouble>) -> Ticked {
    let next = Timestamp::from_millis(schedule.next.millis() + minutes * MINUTE);
    Ticked { due: schedule.next, next, passed, trouble }
}

/// Schedules follow their document.
pub async fn schedules_follow_their_document<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    act(&*store, "acme", Some(&author()), put("report", &[planned("a", 1), planned("b", 2)])).await;
    act(&*store, "acme", None, put("clean", &[planned("a", 3)])).await;
    act(&*store, "beta", None, put("report", &[planned("a", 4)])).await;
    let store = fixture.crash(store).await;
    let acme = tenant("acme");
    let wanted = StoredSchedule {
        tenant: acme.clone(),
        id: id("report", 2),
        digest: Digest::of(b"b"),
        timing: planned("b", 2).timing,
        by: Some(author()),
        next: at(2 * MINUTE),
        paused: None,
        last: None,
        started: 0,
        skipped: 0,
        missed: 0,
        trouble: None,
    };
    assert_eq!(one(&*store, "report", 2).await, Some(wanted));
    let ids = async |of: Option<&str>, after: Option<ScheduleId>, limit| -> Vec<String> {
        let of = of.map(|of| of.parse().unwrap());
        let found = store.schedules(&acme, of.as_ref(), after.as_ref(), limit).await.unwrap();
        found.into_iter().map(|row| row.id.to_string()).collect()
    };
    assert_eq!(ids(None, None, 10).await, ["clean/1", "report/1", "report/2"]);
    assert_eq!(ids(None, Some(id("clean", 1)), 1).await, ["report/1"]);
    assert_eq!(ids(Some("report"), Some(id("report", 1)), 10).await, ["report/2"]);
    act(&*store, "acme", Some(&author()), put("report", &[planned("c", 5)])).await;
    assert_eq!(ids(None, None, 10).await, ["clean/1", "report/1"]);
    assert_eq!(one(&*store, "report", 1).await.unwrap().next, at(5 * MINUTE));
    act(&*store, "acme", None, Change::WorkflowDeleted { name: "report".parse().unwrap() }).await;
    act(&*store, "acme", None, put("clean", &[])).await;
    let store = fixture.crash(store).await;
    assert!(store.schedules(&acme, None, None, 10).await.unwrap().is_empty());
    assert_eq!(store.schedules(&tenant("beta"), None, None, 10).await.unwrap().len(), 1, "another tenant's stay");
}

/// A schedule that stays the same goes on as it was.
pub async fn a_schedule_that_stays_the_same_goes_on_as_it_was<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    act(&*store, "acme", Some(&author()), put("report", &[planned("a", 1), planned("b", 1), planned("c", 1)])).await;
    let a = one(&*store, "report", 1).await.unwrap();
    store.append(started(1, &a, false), Durability::Barrier).await.unwrap();
    let pause = |number, digest: &[u8], why: Option<&str>| Change::SchedulePaused {
        workflow: "report".parse().unwrap(),
        number,
        digest: Digest::of(digest),
        why: why.map(str::to_owned),
    };
    act(&*store, "acme", Some(&author()), pause(2, b"b", None)).await;
    act(&*store, "acme", None, pause(3, b"c", Some("its key was taken back"))).await;
    let set_aside = Paused { at: at(7), by: None, why: Some("its key was taken back".into()) };
    assert_eq!(one(&*store, "report", 3).await.unwrap().paused, Some(set_aside));
    let other = key("otherother00");
    act(
        &*store,
        "acme",
        Some(&other),
        put("report", &[planned("new", 9), planned("c", 9), planned("b", 9), planned("a", 9)]),
    )
    .await;
    let store = fixture.crash(store).await;
    let now = one(&*store, "report", 4).await.unwrap();
    let kept = StoredSchedule { id: id("report", 4), by: Some(other.clone()), ..a.clone() };
    let last = Some(LastStart { run: run_id(1), tick: a.next });
    assert_eq!(now, StoredSchedule { next: at(2 * MINUTE), last, started: 1, ..kept }, "its number is another");
    let paused = one(&*store, "report", 3).await.unwrap();
    assert_eq!(paused.paused, Some(Paused { at: at(7), by: Some(author()), why: None }), "a person's pause stays");
    let lifted = one(&*store, "report", 2).await.unwrap();
    assert_eq!((lifted.paused, lifted.next, lifted.by), (None, at(9 * MINUTE), Some(other)), "the host's does not");
    assert_eq!(one(&*store, "report", 1).await.unwrap().started, 0);
}

/// A tick starts one run: of two that are to be started by it the second is refused, and leaves nothing.
pub async fn a_tick_starts_one_run<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    act(&*store, "acme", Some(&author()), put("report", &[planned("a", 1)])).await;
    let due = one(&*store, "report", 1).await.unwrap();
    let (first, second) = tokio::join!(
        store.append(started(1, &due, false), Durability::Barrier),
        store.append(started(2, &due, false), Durability::Barrier)
    );
    let ends = [&first, &second];
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1, "{ends:?}");
    let refused = if first.is_ok() { second } else { first };
    assert_eq!(refused.unwrap_err().kind, Kind::Conflict);
    let now = one(&*store, "report", 1).await.unwrap();
    let run = now.last.unwrap().run;
    assert_eq!((now.next, now.started, now.last.unwrap().tick), (at(2 * MINUTE), 1, due.next));
    let runs =
        store.runs(&tenant("acme"), &crate::journal::RunFilter { limit: 10, ..Default::default() }).await.unwrap();
    assert_eq!(runs.iter().map(|row| row.id).collect::<Vec<_>>(), [run]);
    let store = fixture.crash(store).await;
    assert_eq!(store.append(started(3, &due, false), Durability::Barrier).await.unwrap_err().kind, Kind::Conflict);
    // What somebody asks for beside the ticks moves none of them.
    let asked_for = ScheduledStart { id: due.id.clone(), digest: due.digest, tick: at(5), due: None, is_alone: false };
    let append = Append { scheduled: Some(asked_for.clone()), ..Owner::new("acme", 4).append(1) };
    store.append(append, Durability::Barrier).await.unwrap();
    let asked = one(&*store, "report", 1).await.unwrap();
    let last = Some(LastStart { run: run_id(4), tick: at(5) });
    assert_eq!(asked, StoredSchedule { started: 2, last, ..now });
    let other = ScheduledStart { digest: Digest::of(b"another"), ..asked_for };
    let append = Append { scheduled: Some(other), ..Owner::new("acme", 5).append(1) };
    assert_eq!(store.append(append, Durability::Barrier).await.unwrap_err().kind, Kind::Conflict);
}

/// A start that is to be alone is refused until the run before is over.
pub async fn a_start_that_is_to_be_alone_waits_for_the_run_before<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    act(&*store, "acme", Some(&author()), put("report", &[planned("a", 1)])).await;
    let mut first = Owner::new("acme", 1);
    let due = one(&*store, "report", 1).await.unwrap();
    let append = Append { scheduled: started(1, &due, true).scheduled, ..first.append(1) };
    store.append(append, Durability::Lazy).await.unwrap();
    let due = one(&*store, "report", 1).await.unwrap();
    assert_eq!(store.append(started(2, &due, true), Durability::Lazy).await.unwrap_err().kind, Kind::Conflict);
    first.row.state = State::Completed;
    store.append(first.append(1), Durability::Lazy).await.unwrap();
    store.append(started(3, &due, true), Durability::Lazy).await.unwrap();
    let due = one(&*store, "report", 1).await.unwrap();
    store.append(started(4, &due, false), Durability::Lazy).await.unwrap();
}

/// Ticks that start nothing are dealt with once.
pub async fn ticks_that_start_nothing_are_dealt_with_once<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let acme = tenant("acme");
    act(&*store, "acme", Some(&author()), put("report", &[planned("a", 1)])).await;
    let due = one(&*store, "report", 1).await.unwrap();
    let waits = Trouble::new(due.next, Outcome::Waits, "there is no room");
    let noted = dealt(&due, 0, Passed::default(), Some(waits.clone()));
    assert!(store.tick(&acme, &due.id, due.digest, noted).await.unwrap());
    assert_eq!(one(&*store, "report", 1).await.unwrap(), StoredSchedule { trouble: Some(waits), ..due.clone() });
    let missed = Trouble::new(due.next, Outcome::Missed, "there was no room");
    let ticked = dealt(&due, 3, Passed { skipped: 2, missed: 1 }, Some(missed.clone()));
    assert!(!store.tick(&acme, &due.id, Digest::of(b"another"), ticked.clone()).await.unwrap());
    assert!(!store.tick(&tenant("beta"), &due.id, due.digest, ticked.clone()).await.unwrap());
    assert!(store.tick(&acme, &due.id, due.digest, ticked.clone()).await.unwrap());
    assert!(!store.tick(&acme, &due.id, due.digest, ticked).await.unwrap(), "a second time");
    assert_eq!(store.append(started(1, &due, false), Durability::Barrier).await.unwrap_err().kind, Kind::Conflict);
    let now = one(&*store, "report", 1).await.unwrap();
    let next = at(4 * MINUTE);
    let wanted = StoredSchedule { next, skipped: 2, missed: 1, trouble: Some(missed), ..due };
    assert_eq!(now, wanted);
    // An act is on disk, with what was written before it.
    act(&*store, "acme", None, put("other", &[])).await;
    let store = fixture.crash(store).await;
    assert_eq!(one(&*store, "report", 1).await.unwrap(), wanted);
}

/// Paused schedules start nothing, until they are continued in somebody's name.
pub async fn paused_schedules_start_nothing<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let acme = tenant("acme");
    act(&*store, "acme", Some(&author()), put("report", &[planned("a", 1)])).await;
    let due = one(&*store, "report", 1).await.unwrap();
    let expecting = |is_paused, digest: &[u8]| {
        let expect = Expect::Schedule { id: id("report", 1), digest: Digest::of(digest), is_paused };
        Changes { deltas: Vec::new(), expects: vec![expect] }
    };
    let pause =
        Change::SchedulePaused { workflow: "report".parse().unwrap(), number: 1, digest: due.digest, why: None };
    let pause = Act { by: Some(author()), change: pause };
    store.act_with(&acme, at(8), pause.clone(), expecting(false, b"a")).await.unwrap();
    for (is_paused, digest) in [(false, &b"a"[..]), (true, b"b")] {
        let again = store.act_with(&acme, at(8), pause.clone(), expecting(is_paused, digest)).await;
        assert_eq!(again.unwrap_err().kind, Kind::Stale);
    }
    let store = fixture.crash(store).await;
    assert_eq!(store.append(started(1, &due, false), Durability::Barrier).await.unwrap_err().kind, Kind::Conflict);
    assert!(!store.tick(&acme, &due.id, due.digest, dealt(&due, 1, Passed::default(), None)).await.unwrap());
    assert!(store.due(&acme, None, 10).await.unwrap().is_empty());
    assert!(store.coming(None, 10).await.unwrap().is_empty());
    let asked_for = ScheduledStart { id: due.id.clone(), digest: due.digest, tick: at(5), due: None, is_alone: false };
    let append = Append { scheduled: Some(asked_for), ..Owner::new("acme", 2).append(1) };
    store.append(append, Durability::Barrier).await.unwrap();
    let (workflow, next, other) = ("report".parse().unwrap(), at(6 * MINUTE), key("otherother00"));
    let go_on = Change::ScheduleContinued { workflow, number: 1, digest: due.digest, next };
    store.act_with(&acme, at(9), Act { by: Some(other.clone()), change: go_on }, expecting(true, b"a")).await.unwrap();
    let now = one(&*store, "report", 1).await.unwrap();
    assert_eq!((now.paused.clone(), now.next, now.by.clone()), (None, next, Some(other)));
    store.append(started(3, &now, false), Durability::Barrier).await.unwrap();
}

/// Schedules stand in the order in which they come, tenant by tenant.
pub async fn schedules_stand_in_the_order_in_which_they_come<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    act(&*store, "acme", None, put("b", &[planned("1", 3), planned("2", 1)])).await;
    act(&*store, "acme", None, put("a", &[planned("1", 3)])).await;
    act(&*store, "beta", None, put("a", &[planned("1", 2)])).await;
    let (acme, beta) = (tenant("acme"), tenant("beta"));
    let due = async |of: &TenantId, after: Option<Coming>, limit| -> Vec<Coming> {
        store.due(of, after.as_ref(), limit).await.unwrap().iter().map(StoredSchedule::place).collect()
    };
    let place = |workflow, number, minutes: u64| Coming { next: at(minutes * MINUTE), id: id(workflow, number) };
    let all = [place("b", 2, 1), place("a", 1, 3), place("b", 1, 3)];
    assert_eq!(due(&acme, None, 10).await, all);
    assert_eq!(due(&acme, None, 2).await, all[..2]);
    assert_eq!(due(&acme, Some(all[1].clone()), 10).await, all[2..]);
    assert_eq!(due(&beta, None, 10).await, [place("a", 1, 2)]);
    let coming = [(acme.clone(), at(MINUTE)), (beta, at(2 * MINUTE))];
    assert_eq!(store.coming(None, 10).await.unwrap(), coming);
    assert_eq!(store.coming(None, 1).await.unwrap(), coming[..1]);
    assert_eq!(store.coming(Some(&acme), 10).await.unwrap(), coming[1..]);
}

/// A tenant has so many schedules and no more.
pub async fn a_tenant_has_so_many_schedules<F: Fixture>(fixture: &F) {
    let store: Arc<F::Store> = fixture.fresh().await;
    let acme = tenant("acme");
    let put_all = async |workflow: &str, count: u32| {
        let schedules: Vec<Planned> = (0..count).map(|n| planned(&n.to_string(), 1)).collect();
        let expects = vec![Expect::Schedules { of: workflow.parse().unwrap(), more: count }];
        let act = Act { by: None, change: put(workflow, &schedules) };
        store.act_with(&acme, at(1), act, Changes { deltas: Vec::new(), expects }).await
    };
    put_all("many", MAX_OF_A_TENANT - 1).await.unwrap();
    assert_eq!(put_all("others", 2).await.unwrap_err().kind, Kind::Stale);
    put_all("others", 1).await.unwrap();
    // Its own are not counted twice.
    put_all("many", MAX_OF_A_TENANT - 1).await.unwrap();
    assert_eq!(put_all("many", MAX_OF_A_TENANT).await.unwrap_err().kind, Kind::Stale);
    assert_eq!(store.schedules(&acme, None, None, 2_000).await.unwrap().len(), MAX_OF_A_TENANT as usize);
}
