//! What people do with what starts runs by itself: schedules, and subscriptions with their dead letters.

use std::sync::Arc;

use ltmc_model::Position;
use ltmc_model::agent::AgentRef;
use ltmc_model::manifest::Manifest;
use ltmc_model::run::State;
use ltmc_model::trigger::{Stage, Verdict};

use crate::case::{dropped, nothing};
use crate::house::{FAIL, House, admin, schedule, subscription};

dropped! {
    a_schedule_is_paused:
        of ["orchestration/src/schedules.rs: pause"],
        before nothing,
        ask async |house: Arc<House>| house.schedules.pause(&admin(), &schedule()).await,
        again ["conflict"],
        done async |house: Arc<House>| house.scheduled().await.is_some_and(|row| row.paused.is_some());
    a_schedule_is_continued:
        of ["orchestration/src/schedules.rs: go_on"],
        before |house| async move { house.schedules.pause(&admin(), &schedule()).await.unwrap() }.boxed(),
        ask async |house: Arc<House>| house.schedules.go_on(&admin(), &schedule()).await,
        again ["conflict"],
        done async |house: Arc<House>| house.scheduled().await.is_some_and(|row| row.paused.is_none());
    a_schedule_is_run_now:
        of ["orchestration/src/schedules.rs: run_now"],
        before nothing,
        ask async |house: Arc<House>| house.schedules.run_now(&admin(), &schedule(), None).await.map(drop),
        again [],
        done async |house: Arc<House>| {
            let (runs, row) = (house.all_runs().await, house.scheduled().await.unwrap());
            let is_done = |state: State| state == State::Completed;
            row.started == runs.len() as u64 && !runs.is_empty() && runs.iter().all(|run| is_done(run.state))
        };
    a_schedule_is_run_now_that_can_be_asked_for_again:
        of ["orchestration/src/schedules.rs: run_now"],
        before nothing,
        ask async |house: Arc<House>| {
            house.schedules.run_now(&admin(), &schedule(), Some("once".into())).await.map(drop)
        },
        again [],
        done async |house: Arc<House>| {
            let (runs, row) = (house.all_runs().await, house.scheduled().await.unwrap());
            row.started == 1 && runs.iter().map(|run| run.state).collect::<Vec<_>>() == [State::Completed]
        };
    a_subscription_is_put:
        of ["orchestration/src/triggers.rs: put"],
        before nothing,
        ask async |house: Arc<House>| house.subscribe().await,
        again [],
        done async |house: Arc<House>| {
            house.publish("x").await;
            house.settle().await;
            let runs = house.all_runs().await;
            house.subscribed().await.is_some_and(|row| row.started == 1)
                && runs.iter().map(|run| run.state).collect::<Vec<_>>() == [State::Completed]
        };
    a_subscription_is_deleted:
        of ["orchestration/src/triggers.rs: delete"],
        before |house| async move { with_a_dead_letter(&house).await }.boxed(),
        ask async |house: Arc<House>| house.triggers.delete(&admin(), &subscription()).await,
        again ["not-found"],
        whole async |house: Arc<House>| house.subscribed().await.is_some() != house.arrivals().await.is_empty(),
        done async |house: Arc<House>| {
            house.publish("x").await;
            house.settle().await;
            house.subscribed().await.is_none() && house.all_runs().await.len() == 1
        };
    what_an_agent_asks_to_be_woken_by_is_accepted:
        of ["orchestration/src/triggers.rs: accept"],
        before |house| async move {
            let asks = vec![serde_json::json!({"topic": "news"})];
            house.push("woken", Some(Manifest { subscriptions: asks, ..Manifest::default() })).await;
        }.boxed(),
        ask async |house: Arc<House>| {
            let woken = AgentRef { name: "woken".parse().unwrap(), digest: None };
            house.triggers.accept(&admin(), &woken).await.map(drop)
        },
        again [],
        done async |house: Arc<House>| {
            house.publish("x").await;
            house.settle().await;
            house.all_runs().await.len() == 1
        };
    a_subscription_is_paused:
        of ["orchestration/src/triggers.rs: pause", "orchestration/src/triggers.rs: change"],
        before |house| async move { house.subscribe().await.unwrap() }.boxed(),
        ask async |house: Arc<House>| house.triggers.pause(&admin(), &subscription()).await,
        again ["conflict"],
        done async |house: Arc<House>| {
            house.publish("x").await;
            house.settle().await;
            house.subscribed().await.is_some_and(|row| row.paused.is_some()) && house.all_runs().await.is_empty()
        };
    /// What was published meanwhile starts its run at once, not as time goes by.
    a_subscription_is_continued:
        of ["orchestration/src/triggers.rs: go_on", "orchestration/src/triggers.rs: change"],
        before |house| async move {
            house.subscribe().await.unwrap();
            house.triggers.pause(&admin(), &subscription()).await.unwrap();
            house.publish("x").await;
        }.boxed(),
        ask async |house: Arc<House>| house.triggers.go_on(&admin(), &subscription()).await,
        again ["conflict"],
        whole async |house: Arc<House>| {
            let is_on = house.subscribed().await.is_some_and(|row| row.paused.is_none());
            is_on == (house.all_runs().await.len() == 1)
        },
        done async |house: Arc<House>| {
            let runs = house.all_runs().await;
            house.subscribed().await.is_some_and(|row| row.paused.is_none() && row.started == 1)
                && runs.iter().map(|run| run.state).collect::<Vec<_>>() == [State::Completed]
        };
    /// As often as it was asked for and done, the event starts a run again.
    a_topic_is_looked_through_anew:
        of ["orchestration/src/triggers.rs: replay"],
        before |house| async move {
            house.subscribe().await.unwrap();
            house.publish("x").await;
        }.boxed(),
        ask async |house: Arc<House>| {
            house.triggers.replay(&admin(), &subscription(), Position(0), true).await
        },
        again [],
        whole async |house: Arc<House>| has_started(&house, 1..=2, State::Completed).await,
        done async |house: Arc<House>| {
            has_started(&house, 2..=3, State::Completed).await && house.arrivals().await.is_empty()
        };
    /// It fails again, for it is given the same to do.
    a_dead_letter_is_released:
        of ["orchestration/src/triggers.rs: settle"],
        before |house| async move { with_a_dead_letter(&house).await }.boxed(),
        ask async |house: Arc<House>| settle(&house, Verdict::Release).await,
        again [],
        whole async |house: Arc<House>| has_started(&house, 1..=2, State::Failed).await,
        done async |house: Arc<House>| {
            has_started(&house, 2..=3, State::Failed).await && house.subscribed().await.unwrap().dead == 1
        };
    a_dead_letter_is_skipped:
        of ["orchestration/src/triggers.rs: settle"],
        before |house| async move { with_a_dead_letter(&house).await }.boxed(),
        ask async |house: Arc<House>| settle(&house, Verdict::Skip).await,
        again ["not-found"],
        done async |house: Arc<House>| {
            has_started(&house, 1..=1, State::Failed).await && house.subscribed().await.unwrap().dead == 0
        };
}

/// Puts a subscription, and has an event fail.
async fn with_a_dead_letter(house: &House) {
    house.subscribe().await.unwrap();
    house.publish(FAIL).await;
    house.settle().await;
    let arrivals = house.arrivals().await;
    assert_eq!(arrivals.iter().map(|one| one.stage).collect::<Vec<_>>(), [Stage::Parked]);
    *house.dead.lock().unwrap() = Some(arrivals[0].position);
}

async fn settle(house: &House, verdict: Verdict) -> Result<(), ltmc_tenancy::Error> {
    let position = house.dead.lock().unwrap().expect("there is a dead letter");
    house.triggers.settle(&admin(), &subscription(), position, verdict).await
}

/// Whether so many runs were started, all of which ended so, and as many as the subscription says.
async fn has_started(house: &House, many: std::ops::RangeInclusive<usize>, all: State) -> bool {
    let (runs, row) = (house.all_runs().await, house.subscribed().await.unwrap());
    many.contains(&runs.len()) && row.started == runs.len() as u64 && runs.iter().all(|run| run.state == all)
}
