//! Every use case that changes anything, dropped at every await point.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ltmc_context::clients::Owner;
use ltmc_model::agent::Carry;
use ltmc_model::call::memory::{Put, Update};
use ltmc_model::caller::Role;
use ltmc_model::memory::{Drawer, Precondition, Scope};
use ltmc_model::merge::Merge;
use ltmc_model::run::State;
use ltmc_model::{Digest, RunId, Seq};
use ltmc_orchestration::{Changes, ForkFrom, ForkRequest};
use ltmc_ports::testing::sample;
use ltmc_ports::{Durability, ReadCatalog as _, ReadJournal as _, ReadMemory as _, WriteJournal as _};
use ltmc_tenancy::Error;
use ltmc_tenancy::access::NewKey;

use crate::house::{
    FAIL, House, LETTER, LONG, admin, caps, cut, echo, first, flow, in_paused_time, newest, operator, schedule, second,
    tenant,
};

/// More polls than any use case takes.
const MANY: usize = 400;

/// Something that is done in a house.
type Asks<T> = fn(Arc<House>) -> BoxFuture<'static, T>;

/// A use case.
struct Case {
    /// What stands there before; nothing more than in every house, unless said.
    before: Asks<()>,
    /// What is asked for.
    ask: Asks<Result<(), Error>>,
    /// What a retry may be answered where the first was done already.
    again: &'static [&'static str],
    /// Whether all that was asked for is there, after a retry.
    done: Asks<bool>,
}

/// What an error says of itself.
fn code(error: &Error) -> &'static str {
    match error {
        Error::NotFound { .. } => "not-found",
        Error::Conflict { .. } => "conflict",
        _ => "another",
    }
}

/// Asks for it, and drops what was asked after 0, 1, 2, … polls, until it is answered.
fn dropped_everywhere(name: &str, case: &Case) {
    let mut cuts = 0;
    for polls in 0.. {
        assert!(polls < MANY, "{name}: it is not done after {MANY} polls");
        let answered = in_paused_time(async {
            let house = House::new().await;
            (case.before)(house.clone()).await;
            house.settle().await;
            house.agrees(&format!("{name}, before")).await;
            let reader = tokio::spawn({
                let house = house.clone();
                // So many times that it is at it longer than any of these takes.
                async move { cut(house.read_on(), 2 * MANY).await }
            });
            let first = cut((case.ask)(house.clone()), polls).await;
            let when = format!("{name}, dropped after {polls} polls");
            reader.await.unwrap();
            house.settle().await;
            house.agrees(&when).await;
            if let Some(first) = &first {
                assert!(first.is_ok(), "{name}, not dropped: {first:?}");
            }
            let retry = tokio::time::timeout(std::time::Duration::from_secs(3_600), (case.ask)(house.clone())).await;
            match retry.unwrap_or_else(|_| panic!("{when}: a retry is not answered")) {
                Ok(()) => {}
                Err(error) => assert!(case.again.contains(&code(&error)), "{when}: a retry gives {error:?}"),
            }
            house.settle().await;
            house.agrees(&format!("{when}, and asked again")).await;
            assert!((case.done)(house).await, "{when}: a retry does not give what the first would have given");
            first.is_some()
        });
        if answered {
            break;
        }
        cuts += 1;
    }
    assert!(cuts >= 2, "{name}: it was dropped at {cuts} points only");
}

fn nothing(_: Arc<House>) -> BoxFuture<'static, ()> {
    async {}.boxed()
}

/// A test for each case.
macro_rules! dropped {
    ($($(#[$about:meta])* $name:ident: before $before:expr, ask $ask:expr, again $again:expr, done $done:expr;)*) => {
        $(
            $(#[$about])*
            #[test]
            fn $name() {
                let (ask, done): (Asks<Result<(), Error>>, Asks<bool>) =
                    (|house| async move { $ask(house).await }.boxed(), |house| async move { $done(house).await }.boxed());
                dropped_everywhere(stringify!($name), &Case { before: $before, ask, again: &$again, done });
            }
        )*
    };
}

dropped! {
    a_tenant_is_made:
        before nothing,
        ask async |house: Arc<House>| house.access.create_tenant(&operator(), sample::tenant("newcomers")).await.map(drop),
        again ["conflict"],
        done async |house: Arc<House>| house.record.tenant(&sample::tenant("newcomers")).await.unwrap().is_some();
    a_key_is_made:
        before nothing,
        ask async |house: Arc<House>| {
            let new = NewKey { tenant: None, role: Role::Viewer, expires_at: None };
            let (key, text) = house.access.create_key(&admin(), new).await?;
            house.texts.lock().unwrap().insert(key.id, text);
            Ok(())
        },
        again [],
        done async |house: Arc<House>| house.texts.lock().unwrap().len() >= 2;
    a_key_is_taken_back:
        before nothing,
        ask async |house: Arc<House>| house.access.revoke_key(&admin(), &house.key).await,
        again [],
        done async |house: Arc<House>| {
            let text = house.texts.lock().unwrap()[&house.key].clone();
            house.access.authenticate(&text).await.is_err()
        };
    a_ceiling_is_set:
        before nothing,
        ask async |house: Arc<House>| {
            let mut ceiling = house.recorded_ceiling().await;
            ceiling.capabilities = caps(&["log"]);
            house.access.set_ceiling(&operator(), &tenant(), ceiling).await
        },
        again [],
        done async |house: Arc<House>| {
            let in_force = house.authority.in_force(&tenant(), &echo(), &first()).await.unwrap();
            !in_force.allows(&caps(&["memory:read:global"])[0]) && in_force.allows(&caps(&["log"])[0])
        };
    an_agent_is_pushed:
        before nothing,
        ask async |house: Arc<House>| {
            house.agents.push(&admin(), echo(), Bytes::from_static(b"second"), None).await.map(drop)
        },
        again [],
        done async |house: Arc<House>| {
            let agent = house.record.agent(&tenant(), &echo(), None).await.unwrap();
            let pushed = agent.is_some_and(|agent| agent.digest == second());
            // It asks for nothing more: it takes over what the first was granted, in the same commit.
            let granted = house.record.grants(&tenant(), &echo(), &second()).await.unwrap().capabilities;
            pushed && granted == caps(&["log", "memory:read:*"])
        };
    an_agent_is_deleted:
        before nothing,
        ask async |house: Arc<House>| house.agents.delete(&admin(), &echo()).await,
        again ["not-found"],
        done async |house: Arc<House>| house.record.agent(&tenant(), &echo(), None).await.unwrap().is_none();
    grants_are_set:
        before nothing,
        ask async |house: Arc<House>| {
            house.agents.set_grants(&admin(), &newest(), caps(&["memory:write:*"]), Carry::Never).await
        },
        again [],
        done async |house: Arc<House>| {
            house.record.grants(&tenant(), &echo(), &first()).await.unwrap().capabilities == caps(&["memory:write:*"])
        };
    a_grant_is_taken_back:
        before nothing,
        ask async |house: Arc<House>| house.agents.revoke_grant(&admin(), &echo(), &caps(&["memory:read:*"])[0]).await,
        again ["not-found"],
        done async |house: Arc<House>| house.record.grants(&tenant(), &echo(), &first()).await.unwrap().capabilities == caps(&["log"]);
    a_workflow_is_put:
        before nothing,
        ask async |house: Arc<House>| {
            house.workflows.put(&admin(), flow(), "name: flow\nflow: {agent: echo}".to_owned()).await.map(drop)
        },
        again [],
        done async |house: Arc<House>| {
            let stored = house.record.workflow(&tenant(), &flow()).await.unwrap();
            stored.is_some_and(|stored| !stored.source.contains("sequence"))
        };
    a_schedule_is_paused:
        before nothing,
        ask async |house: Arc<House>| house.schedules.pause(&admin(), &schedule()).await,
        again ["conflict"],
        done async |house: Arc<House>| house.scheduled().await.is_some_and(|row| row.paused.is_some());
    a_schedule_is_continued:
        before |house| async move { house.schedules.pause(&admin(), &schedule()).await.unwrap() }.boxed(),
        ask async |house: Arc<House>| house.schedules.go_on(&admin(), &schedule()).await,
        again ["conflict"],
        done async |house: Arc<House>| house.scheduled().await.is_some_and(|row| row.paused.is_none());
    a_schedule_is_run_now:
        before nothing,
        ask async |house: Arc<House>| house.schedules.run_now(&admin(), &schedule(), None).await.map(drop),
        again [],
        done async |house: Arc<House>| {
            let (runs, row) = (house.all_runs().await, house.scheduled().await.unwrap());
            let is_done = |state: State| state == State::Completed;
            row.started == runs.len() as u64 && !runs.is_empty() && runs.iter().all(|run| is_done(run.state))
        };
    a_workflow_is_deleted:
        before nothing,
        ask async |house: Arc<House>| house.workflows.delete(&admin(), &flow()).await,
        again ["not-found"],
        done async |house: Arc<House>| house.record.workflow(&tenant(), &flow()).await.unwrap().is_none();
    a_value_is_put:
        before nothing,
        ask async |house: Arc<House>| {
            let (scope, key, value) = (Scope::Global, "plan".to_owned(), Bytes::from_static(b"1"));
            let put = Put { scope, key, value, precondition: Precondition::Any, ttl_ms: None };
            let reply = house.clients.call(&admin(), &Owner::default(), put).await?;
            assert!(reply.is_ok(), "{reply:?}");
            Ok(())
        },
        again [],
        done async |house: Arc<House>| {
            house.record.get(&tenant(), &Drawer::Global, "plan", sample::at(0)).await.unwrap().is_some()
        };
    a_dead_letter_is_sent_again:
        before nothing,
        ask async |house: Arc<House>| house.clients.revive(&admin(), LETTER).await,
        again ["not-found"],
        done async |house: Arc<House>| house.letters().await == 0;
    a_dead_letter_is_thrown_away:
        before nothing,
        ask async |house: Arc<House>| house.clients.discard(&admin(), LETTER).await,
        again ["not-found"],
        done async |house: Arc<House>| house.letters().await == 0;
    /// It ends with its client, wherever that went away; a second one is a call of its own.
    a_call_is_made:
        before nothing,
        ask async |house: Arc<House>| {
            let started = house.call("in", None).await?;
            house.wait(&started).await.unwrap();
            Ok(())
        },
        again [],
        done async |house: Arc<House>| {
            let runs = house.all_runs().await;
            let ended = |state| runs.iter().filter(|run| run.state == state).count();
            runs.len() <= 2 && ended(State::Completed) >= 1 && ended(State::Completed) + ended(State::Cancelled) == runs.len()
        };
    a_call_is_made_that_can_be_asked_for_again:
        before nothing,
        ask async |house: Arc<House>| {
            let started = house.call("in", Some("once")).await?;
            house.wait(&started).await.unwrap();
            Ok(())
        },
        again [],
        done async |house: Arc<House>| {
            house.all_runs().await.iter().map(|run| run.state).collect::<Vec<_>>() == [State::Completed]
        };
    a_workflow_is_run:
        before nothing,
        ask async |house: Arc<House>| {
            let started = house.start("once").await?;
            house.wait(&started).await.unwrap();
            Ok(())
        },
        again [],
        done async |house: Arc<House>| {
            house.all_runs().await.iter().map(|run| run.state).collect::<Vec<_>>() == [State::Completed]
        };
    /// It fails again, for it is given the same to do.
    a_run_is_taken_up_again:
        before |house| async move { drop(house.call(FAIL, Some("once")).await.unwrap()) }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.all_runs().await[0].id;
            house.runs.resume(&admin(), run).await
        },
        again [],
        done async |house: Arc<House>| {
            let run = house.all_runs().await[0].clone();
            let (view, _) = house.runs.journal(&admin(), run.id, Seq(0), 1_000).await.unwrap();
            let resumed = view.iter().filter(|placed| placed.kind == "run-resumed").count();
            run.state == State::Failed && (1..=2).contains(&resumed)
        };
    /// It fails again, for it is given the same to do.
    a_run_is_forked:
        before |house| async move { drop(house.call(FAIL, Some("once")).await.unwrap()) }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.all_runs().await.last().unwrap().id;
            let again = ForkRequest {
                from: ForkFrom::Step { step: "0".into(), cancel: false },
                changes: Changes::default(),
                idempotency: Some("again".into()),
                request_digest: Digest([1; 32]),
            };
            let forked = house.runs.fork(&admin(), run, again).await?;
            house.wait(&forked).await.unwrap_err();
            Ok(())
        },
        again [],
        done async |house: Arc<House>| {
            house.all_runs().await.iter().map(|run| run.state).collect::<Vec<_>>() == [State::Failed, State::Failed]
        };
    a_paused_run_is_continued:
        before |house| async move {
            let run = house.call(LONG, Some("once")).await.unwrap().run;
            house.runs.pause(&admin(), run).await.unwrap();
        }.boxed(),
        ask async |house: Arc<House>| {
            let run = house.all_runs().await[0].id;
            house.runs.go_on_with(&admin(), run).await
        },
        again ["conflict"],
        done async |house: Arc<House>| {
            let run = house.all_runs().await[0].clone();
            let (view, _) = house.runs.journal(&admin(), run.id, Seq(0), 1_000).await.unwrap();
            let continued = view.iter().filter(|placed| placed.kind == "run-continued").count();
            run.state == State::Completed && continued == 1
        };
}

#[test]
fn a_run_is_paused_also_where_who_asked_for_it_does_not_wait() {
    for polls in 1..MANY {
        let answered = in_paused_time(async {
            let house = House::new().await;
            let run = house.call(LONG, Some("once")).await.unwrap().run;
            let first = cut(house.runs.pause(&admin(), run), polls).await;
            house.settle().await;
            house.agrees(&format!("paused, dropped after {polls} polls")).await;
            assert_eq!(house.all_runs().await[0].state, State::Paused, "dropped after {polls} polls");
            first.is_some()
        });
        if answered {
            return;
        }
    }
    panic!("it is not done after {MANY} polls");
}

#[test]
fn a_run_is_cancelled_also_where_who_asked_for_it_does_not_wait() {
    for polls in 1..MANY {
        let answered = in_paused_time(async {
            let house = House::new().await;
            let started = house.call(LONG, Some("once")).await.unwrap();
            let run = started.run;
            let first = cut(house.runs.cancel(&admin(), run), polls).await;
            house.settle().await;
            house.agrees(&format!("cancelled, dropped after {polls} polls")).await;
            assert_eq!(house.all_runs().await[0].state, State::Cancelled, "dropped after {polls} polls");
            first.is_some()
        });
        if answered {
            return;
        }
    }
    panic!("it is not done after {MANY} polls");
}

/// A reader that is dropped leaves nothing in the caches that is older than what was answered.
#[test]
fn who_reads_while_something_is_taken_back_may_be_dropped_anywhere() {
    for polls in 0..40 {
        for head_start in 0..12 {
            in_paused_time(async {
                let house = House::new().await;
                let reader = tokio::spawn({
                    let house = house.clone();
                    async move { cut(house.read_on(), polls).await }
                });
                for _ in 0..head_start {
                    tokio::task::yield_now().await;
                }
                let key = house.key.clone();
                house.access.revoke_key(&admin(), &key).await.unwrap();
                house.agents.revoke_grant(&admin(), &echo(), &caps(&["log"])[0]).await.unwrap();
                let when = format!("a reader dropped after {polls} polls, {head_start} ahead");
                // Whoever comes with a key that was taken back is written down by a task of the host's.
                house.settle().await;
                house.agrees(&when).await;
                reader.await.unwrap();
                house.settle().await;
                house.agrees(&when).await;
            });
        }
    }
}

#[test]
fn a_refusal_is_in_the_ledger_though_its_client_is_gone() {
    in_paused_time(async {
        let house = House::new().await;
        let viewer = ltmc_model::caller::Caller { role: Role::Viewer, ..admin() };
        assert!(cut(house.access.revoke_key(&viewer, &house.key), 1).await.is_none());
        house.settle().await;
        let ledger = house.record.entries(&tenant(), RunId::ledger(), Seq(0), 100).await.unwrap();
        let refused = ledger.iter().any(|placed| format!("{:?}", placed.entry.event).contains("Refused"));
        assert!(refused);
    });
}

/// A run for which there is no room is not written as one that goes on.
#[test]
fn what_finds_no_place_writes_nothing() {
    in_paused_time(async {
        let house = House::new().await;
        drop(house.call(FAIL, Some("once")).await.unwrap());
        house.settle().await;
        let before = house.all_runs().await;
        house.runs.stop(std::time::Duration::ZERO).await;
        let refused = house.runs.resume(&admin(), before[0].id).await;
        assert!(matches!(refused, Err(Error::Busy { .. })), "{refused:?}");
        assert!(matches!(house.call("in", Some("twice")).await, Err(Error::Busy { .. })));
        house.settle().await;
        assert_eq!(house.all_runs().await, before);
        house.agrees("after a stop").await;
    });
}

/// Each decides on what the other leaves.
#[test]
fn two_who_take_back_different_grants_at_once_take_back_both() {
    in_paused_time(async {
        let house = House::new().await;
        let (by, agent, grants) = (admin(), echo(), caps(&["log", "memory:read:*"]));
        let (one, other) = tokio::join!(
            house.agents.revoke_grant(&by, &agent, &grants[0]),
            house.agents.revoke_grant(&by, &agent, &grants[1])
        );
        assert!(one.is_ok() && other.is_ok(), "{one:?}, {other:?}");
        assert_eq!(house.record.grants(&tenant(), &echo(), &first()).await.unwrap().capabilities, []);
        house.agrees("at the end").await;
    });
}

/// Of two who handle the same dead letter one does, and the other is told that it is none any more.
#[test]
fn a_dead_letter_is_handled_once() {
    for revives_first in [true, false] {
        in_paused_time(async {
            let (house, by) = (House::new().await, admin());
            let (revive, discard) = (house.clients.revive(&by, LETTER), house.clients.discard(&by, LETTER));
            let (revived, discarded) = match revives_first {
                true => tokio::join!(revive, discard),
                false => {
                    let (discarded, revived) = tokio::join!(discard, revive);
                    (revived, discarded)
                }
            };
            let there = house.record.context(|context| context.mail.len());
            match (&revived, &discarded) {
                (Ok(()), Err(refused)) => assert_eq!((code(refused), there), ("not-found", 1)),
                (Err(refused), Ok(())) => assert_eq!((code(refused), there), ("not-found", 0)),
                both => panic!("{both:?}"),
            }
        });
    }
}

/// A client's change that another's comes before, at whatever moment, is decided anew on what that left.
#[test]
fn a_client_that_is_overtaken_decides_anew() {
    let (mut before, mut after) = (0, 0);
    for head_start in 0..40 {
        in_paused_time(async {
            let house = House::new().await;
            // The older of the two, whenever it comes.
            let revision = house.record.next_revision();
            let client = tokio::spawn({
                let house = house.clone();
                async move {
                    let (scope, key) = (Scope::Global, "count".to_owned());
                    let add = Update { scope, key, merge: Merge::Increment(1), ttl_ms: None };
                    house.clients.call(&admin(), &Owner::default(), add).await
                }
            });
            for _ in 0..head_start {
                tokio::task::yield_now().await;
            }
            let mut owner = sample::Owner::new("acme", 2);
            owner.row.state = State::Completed;
            let change = sample::put(&Drawer::Global, "count", revision, "10");
            let other = house.record.append(owner.remember(vec![change]), Durability::Barrier).await;
            let item = client.await.unwrap().unwrap_or_else(|e| panic!("{head_start} ahead: {e:?}")).unwrap();
            let there = house.record.get(&tenant(), &Drawer::Global, "count", sample::at(0)).await.unwrap().unwrap();
            assert_eq!(item, there);
            match other {
                Ok(()) => {
                    before += 1;
                    assert_eq!(there.value, "11", "{head_start} ahead");
                }
                Err(_) => {
                    after += 1;
                    assert_eq!(there.value, "1", "{head_start} ahead");
                }
            }
        });
    }
    assert!(before > 1 && after > 0, "{before} came before, {after} after");
}
