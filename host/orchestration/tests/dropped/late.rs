//! Whoever asks for a run that is about to be taken up again waits for its end.

use std::time::Duration;

use ltmc_model::failure::Code;
use ltmc_model::run::State;

use crate::house::{House, LONG, admin, in_paused_time};

/// A host that died while a run was under way, and the next one on what is left.
async fn died() -> House {
    let house = House::new().await;
    let started = house.call(LONG, Some("once")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // What is accepted is on disk.
    assert!(house.runs.wait(&admin(), &started, Some(Duration::ZERO)).await.unwrap().is_none());
    House::over(house.record.crash())
}

#[test]
fn who_asks_before_it_is_taken_up_is_told_the_real_end() {
    for late in [0, 1, 500, 30_000] {
        in_paused_time(async {
            let next = died().await;
            let runs = next.runs.clone();
            let taking_up = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(late)).await;
                runs.recover().await.unwrap()
            });
            let started = next.call(LONG, Some("once")).await.unwrap();
            assert!(started.attached);
            assert_eq!(next.wait(&started).await.unwrap().bytes, LONG, "taken up after {late} ms");
            assert_eq!(taking_up.await.unwrap().resumed, 1);
            next.agrees("at the end").await;
            assert_eq!(next.all_runs().await.len(), 1);
        });
    }
}

#[test]
fn who_has_so_much_patience_waits_so_long_and_no_longer() {
    in_paused_time(async {
        let next = died().await;
        let started = next.call(LONG, Some("once")).await.unwrap();
        let begun = tokio::time::Instant::now();
        let waited = next.runs.wait(&admin(), &started, Some(Duration::from_secs(5))).await.unwrap();
        assert!(waited.is_none());
        assert_eq!(begun.elapsed().as_secs(), 5);
        assert!(next.runs.wait(&admin(), &started, Some(Duration::ZERO)).await.unwrap().is_none());
        next.runs.recover().await.unwrap();
        let waited = next.runs.wait(&admin(), &started, Some(Duration::from_secs(600))).await.unwrap();
        assert!(matches!(waited, Some(Ok(_))), "{waited:?}");
    });
}

/// Another host takes it up on the same record: its end is seen there.
#[test]
fn a_run_that_another_host_takes_up_is_waited_for_too() {
    in_paused_time(async {
        let next = died().await;
        let other = House::over(next.record.clone());
        let started = next.call(LONG, Some("once")).await.unwrap();
        let waiting = async { next.wait(&started).await.unwrap() };
        let working = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            other.runs.recover().await.unwrap()
        };
        let (end, recovered) = tokio::join!(waiting, working);
        assert_eq!((end.bytes.as_ref(), recovered.resumed), (LONG.as_bytes(), 1));
        assert_eq!(next.all_runs().await[0].state, State::Completed);
    });
}

/// Nobody waits for a host that stops.
#[test]
fn who_waits_when_the_host_stops_is_told_to_come_back() {
    in_paused_time(async {
        let next = died().await;
        let started = next.call(LONG, Some("once")).await.unwrap();
        let runs = next.runs.clone();
        let stopping = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            runs.stop(Duration::ZERO).await;
        };
        let (end, ()) = tokio::join!(next.wait(&started), stopping);
        let failure = end.unwrap_err();
        assert_eq!((failure.code, failure.retryable), (Code::Unavailable, true));
    });
}
