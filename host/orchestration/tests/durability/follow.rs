//! Whoever follows a run: told all of it, once, as it comes to disk, whoever drives it and wherever it was left off.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ltmc_model::call::{memory, messages};
use ltmc_model::memory::{Precondition, Scope};
use ltmc_model::run::State;
use ltmc_model::{Payload, Position, RunId, Seq};
use ltmc_orchestration::{Followed, Runs, Shown, Watch};
use ltmc_ports::ReadJournal as _;
use tokio::time::timeout;

use crate::guest::{agent, may_pass};
use crate::host::{Request, World, caller, in_paused_time, shown, tenant};

async fn watch(runs: &Runs, run: RunId, after: u64) -> Watch {
    runs.watch(&caller(), run, Seq(after)).await.unwrap()
}

/// What is told from here on, and how the run ended.
async fn to_the_end(watch: &mut Watch) -> (Vec<Shown>, State) {
    let mut told = Vec::new();
    loop {
        let next = timeout(Duration::from_secs(3_600), watch.next()).await.expect("there is more, or an end");
        match next.unwrap() {
            Followed::Entries(entries) => told.extend(entries),
            Followed::Over(state) => return (told, state),
        }
    }
}

#[test]
fn a_run_is_followed_as_it_comes_to_disk_and_nobody_who_follows_brings_it_there() {
    in_paused_time(async {
        let slow = agent("slow", |guest| async move {
            for _ in 0..3 {
                guest.count("count").await?;
                guest.checkpoint().await?;
                guest.compute(1_000).await;
            }
            Ok(Payload::text("done"))
        });
        let world = World::new([slow]);
        let host = world.host(&world.record(None).await, []);
        let run = host.start(&Request::call("slow")).await.unwrap().run;
        let mut follower = watch(&host.runs, run, 0).await;
        let early = timeout(Duration::from_millis(1_500), follower.next()).await;
        assert!(early.is_err(), "nothing is on disk: {early:?}");
        assert!(host.record.crash().run(&tenant(), run).await.unwrap().is_none(), "it was brought to disk");
        let so_far = shown(&host.journal(run).await);
        assert!(so_far.len() > 3, "it is visible: {so_far:?}");
        host.record.sync();
        match follower.next().await.unwrap() {
            Followed::Entries(told) => assert_eq!(told, so_far),
            Followed::Over(state) => panic!("it is {state:?}"),
        }
        let (rest, state) = to_the_end(&mut follower).await;
        let whole = shown(&host.journal(run).await);
        assert_eq!((&[so_far, rest].concat(), state), (&whole, State::Completed));
        // Whoever comes back is told the rest of it.
        for after in 0..=whole.len() {
            let (told, state) = to_the_end(&mut watch(&host.runs, run, after as u64).await).await;
            assert_eq!((&told[..], state), (&whole[after..], State::Completed));
        }
    });
}

/// Guests see what others did before it is on disk, for they are not outside; and they have it brought there no more than
/// others do.
#[test]
fn a_guest_that_waits_sees_what_is_visible_and_brings_nothing_to_disk() {
    in_paused_time(async {
        let came = Arc::new(AtomicU32::new(0));
        let told = came.clone();
        let waits = agent("waits", move |guest| {
            let told = told.clone();
            async move {
                let (scope, after) = (Scope::Global, Some(Position(0)));
                let changes = memory::Changes { scope, prefix: "plan".into(), after, limit: 9, wait_ms: 30_000 };
                assert_eq!(guest.sure(changes).await?.changes.len(), 1);
                told.fetch_add(1, Ordering::SeqCst);
                let receive = messages::Receive { limit: 1, wait_ms: 30_000 };
                assert_eq!(guest.sure(receive).await?.len(), 1);
                told.fetch_add(1, Ordering::SeqCst);
                guest.compute(60_000).await;
                Ok(Payload::text("done"))
            }
        });
        let writes = agent("writes", |guest| async move {
            let put = |key: &str| memory::Put {
                scope: Scope::Global,
                key: key.into(),
                value: "x".into(),
                precondition: Precondition::Any,
                ttl_ms: None,
            };
            guest.sure(put("plan")).await?;
            guest.checkpoint().await?;
            guest.compute(1_000).await;
            let event = messages::Draft { kind: "note".into(), subject: None, data: Payload::text("x"), given: None };
            guest.sure(messages::Send { to: "waits".parse().unwrap(), event }).await?;
            guest.checkpoint().await?;
            guest.compute(60_000).await;
            Ok(Payload::text("done"))
        });
        let world = World::new([waits, writes]);
        let host = world.host(&world.record(None).await, []);
        let request = |agent: &'static str| Request { key: Some(agent.into()), ..Request::call(agent) };
        let _waits = host.start(&request("waits")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _writes = host.start(&request("writes")).await.unwrap();
        for so_far in [1, 2] {
            tokio::time::sleep(Duration::from_millis(990)).await;
            assert_eq!(came.load(Ordering::SeqCst), so_far);
            let crashed = host.record.crash();
            let nothing = crashed.context(|context| context.log.is_empty());
            assert!(nothing && crashed.unfinished(None, 9).await.unwrap().is_empty(), "it was brought to disk");
        }
    });
}

#[test]
fn a_run_that_leaves_its_host_is_followed_on_where_another_takes_it_up() {
    in_paused_time(async {
        let flaky = agent("flaky", |guest| async move {
            if guest.job.attempt < 3 { Err(may_pass("not yet")) } else { Ok(Payload::text("done")) }
        });
        let world = World::new([flaky]);
        let document = "name: flaky\nflow: {agent: flaky, retry: {attempts: 9, backoff: 10m, max: 1h}}";
        let record = world.record(Some(document)).await;
        let (one, two) = (world.host(&record, []), world.host(&record, []));
        let run = one.start(&Request::workflow("flaky")).await.unwrap().run;
        let (mut here, mut there) = (watch(&one.runs, run, 0).await, watch(&two.runs, run, 0).await);
        one.runs.stop(Duration::from_secs(1)).await;
        assert_eq!(one.runs.alive(), 0);
        // It is suspended: whoever is there goes on with it when it is due.
        assert_eq!(two.runs.recover().await.unwrap().resumed, 0);
        let told = [to_the_end(&mut here).await, to_the_end(&mut there).await];
        let whole = shown(&record.entries(&tenant(), run, Seq(0), 1_000).await.unwrap());
        assert_eq!(told, [(whole.clone(), State::Completed), (whole, State::Completed)]);
    });
}
