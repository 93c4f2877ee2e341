//! Room: of a tenant that has none for more runs nothing is read, at a start or when its runs are due; others go on meanwhile.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ltmc_model::caller::{Caller, Role};
use ltmc_model::failure::Failure;
use ltmc_model::run::State;
use ltmc_model::{Payload, TenantId};
use ltmc_ports::ReadJournal as _;
use ltmc_ports::journal::RunFilter;
use ltmc_ports::testing::{MemoryRecord, sample};

use crate::guest::{Guest, Script, agent, may_pass};
use crate::host::{Host, Request, World, in_paused_time, tenant};

/// Fails once, and an hour later is at work for two.
const DOCUMENT: &str = "name: patient\nflow: {agent: late, retry: {attempts: 3, backoff: 1h, max: 1h}}";
const HOUR: Duration = Duration::from_secs(60 * 60);
const SECOND: Duration = Duration::from_secs(1);
/// More than are read at once.
const MANY: usize = 110;

fn beta() -> TenantId {
    sample::tenant("beta")
}

fn author(of: &TenantId) -> Caller {
    Caller { tenant: of.clone(), key: "abcdefghijkl".parse().unwrap(), role: Role::Author }
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
