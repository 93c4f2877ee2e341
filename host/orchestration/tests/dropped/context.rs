//! What clients do with shared context: memory, the graph, notes, messages, and agents' states.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ltmc_context::clients::Owner;
use ltmc_context::state_people::{Mend, Of};
use ltmc_model::call::graph::{Relate, Unrelate};
use ltmc_model::call::memory::{Delete, Put, Touch, Update};
use ltmc_model::call::messages::{Draft, Publish, Send};
use ltmc_model::call::recall::{Forget, Remember};
use ltmc_model::call::{Call, HostCall};
use ltmc_model::delta::{Delta, MemoryChange, MemoryValue};
use ltmc_model::graph::{Entity, Relation};
use ltmc_model::journal::{Act, Change, Event};
use ltmc_model::manifest::Manifest;
use ltmc_model::memory::{Drawer, Item, Precondition, Scope};
use ltmc_model::merge::Merge;
use ltmc_model::run::State;
use ltmc_model::state::{self, Declared, Kept};
use ltmc_model::{AgentName, Digest, Payload, Position, RunId, Seq};
use ltmc_ports::testing::sample;
use ltmc_ports::{
    Bus as _, Changes, Durability, ReadFacts as _, ReadJournal as _, ReadMemory as _, ReadNotes as _,
    WriteCatalog as _, WriteJournal as _,
};
use ltmc_tenancy::Error;
use serde_json::json;
use tokio::time::Instant;

use crate::case::{code, dropped, nothing};
use crate::house::{House, LETTER, admin, echo, in_paused_time, tenant};

dropped! {
    a_value_is_put:
        of ["context/src/clients.rs: call", "context/src/clients.rs: any_call", "context/src/clients.rs: act", "call memory.put"],
        before nothing,
        ask async |house: Arc<House>| asked(&house, put("plan", "1")).await.map(drop),
        again [],
        done async |house: Arc<House>| held(&house, "plan").await.is_some_and(|item| item.value == "1");
    a_value_is_deleted:
        of ["context/src/clients.rs: call", "call memory.delete"],
        before |house| async move { asked(&house, put("plan", "1")).await.unwrap(); }.boxed(),
        ask async |house: Arc<House>| {
            let (scope, key, precondition) = (Scope::Global, "plan".to_owned(), Precondition::Any);
            asked(&house, Delete { scope, key, precondition }).await.map(drop)
        },
        again [],
        done async |house: Arc<House>| {
            held(&house, "plan").await.is_none() && acts(&house, "memory.delete").await == 1
        };
    /// Each that is done counts once: as often as the ledger says.
    a_value_is_counted_up:
        of ["context/src/clients.rs: call", "call memory.update"],
        before nothing,
        ask async |house: Arc<House>| asked(&house, more()).await.map(drop),
        again [],
        whole async |house: Arc<House>| number(&house).await == acts(&house, "memory.update").await,
        done async |house: Arc<House>| {
            let number = number(&house).await;
            (1..=2).contains(&number) && number == acts(&house, "memory.update").await
        };
    a_value_is_given_time_to_live:
        of ["context/src/clients.rs: call", "call memory.touch"],
        before |house| async move { asked(&house, put("plan", "1")).await.unwrap(); }.boxed(),
        ask async |house: Arc<House>| {
            let (scope, key, day) = (Scope::Global, "plan".to_owned(), 24 * 60 * 60 * 1_000);
            asked(&house, Touch { scope, key, ttl_ms: Some(day) }).await.map(drop)
        },
        again [],
        done async |house: Arc<House>| held(&house, "plan").await.is_some_and(|item| item.expires_at.is_some());
    a_fact_is_told:
        of ["context/src/clients.rs: call", "call graph.relate"],
        before nothing,
        ask async |house: Arc<House>| asked(&house, relate()).await.map(drop),
        again [],
        done async |house: Arc<House>| holds(&house).await;
    a_fact_is_ended:
        of ["context/src/clients.rs: call", "call graph.unrelate"],
        before |house| async move { asked(&house, relate()).await.unwrap(); }.boxed(),
        ask async |house: Arc<House>| {
            let Relate { subject, relation, object, .. } = relate();
            asked(&house, Unrelate { subject, relation, object, valid_to: None }).await.map(drop)
        },
        again [],
        done async |house: Arc<House>| !holds(&house).await && acts(&house, "graph.unrelate").await == 1;
    a_note_is_kept:
        of ["context/src/clients.rs: call", "call recall.remember"],
        before nothing,
        ask async |house: Arc<House>| asked(&house, remember()).await.map(drop),
        again [],
        done async |house: Arc<House>| house.notes.note(&tenant(), "n").await.unwrap().is_some();
    a_note_is_forgotten:
        of ["context/src/clients.rs: call", "call recall.forget"],
        before |house| async move { asked(&house, remember()).await.unwrap(); }.boxed(),
        ask async |house: Arc<House>| asked(&house, Forget { id: "n".into() }).await.map(drop),
        again [],
        done async |house: Arc<House>| {
            house.notes.note(&tenant(), "n").await.unwrap().is_none() && acts(&house, "recall.forget").await == 1
        };
    a_message_is_sent:
        of ["context/src/clients.rs: call", "call messages.send"],
        before nothing,
        ask async |house: Arc<House>| asked(&house, send()).await.map(drop),
        again [],
        whole async |house: Arc<House>| mail(&house) == acts(&house, "messages.send").await,
        done async |house: Arc<House>| {
            (1..=2).contains(&mail(&house)) && mail(&house) == acts(&house, "messages.send").await
        };
    an_event_is_published:
        of ["context/src/clients.rs: call", "call messages.publish"],
        before nothing,
        ask async |house: Arc<House>| asked(&house, publish()).await.map(drop),
        again [],
        whole async |house: Arc<House>| events(&house).await == acts(&house, "messages.publish").await,
        done async |house: Arc<House>| {
            let events = events(&house).await;
            (1..=2).contains(&events) && events == acts(&house, "messages.publish").await
        };
    /// All of it is there as often as the ledger says, or none of it is.
    a_transaction_is_made:
        of ["context/src/clients.rs: transact", "context/src/clients.rs: act"],
        before |house| async move { asked(&house, put("old", "1")).await.unwrap(); }.boxed(),
        ask async |house: Arc<House>| {
            let (scope, key, precondition) = (Scope::Global, "old".to_owned(), Precondition::Any);
            let calls: [Call; 7] = [
                put("plan", "1").into(),
                more().into(),
                relate().into(),
                remember().into(),
                send().into(),
                publish().into(),
                Delete { scope, key, precondition }.into(),
            ];
            let begun = Instant::now();
            let calls = calls.into_iter().map(|call| (Owner::default(), call)).collect();
            let done = house.clients.transact(&admin(), calls).await?;
            assert_eq!(begun.elapsed(), Duration::ZERO, "a lock is waited for that nobody has");
            assert_eq!(done.unwrap().len(), 7);
            Ok(())
        },
        again [],
        whole async |house: Arc<House>| times_done(&house).await.is_some_and(|times| times <= 1),
        done async |house: Arc<House>| times_done(&house).await.is_some_and(|times| (1..=2).contains(&times));
    /// Nothing of it is there where one of its calls is refused, whenever it is given up.
    a_transaction_is_made_that_is_refused:
        of ["context/src/clients.rs: transact"],
        before nothing,
        ask async |house: Arc<House>| {
            let refused = Put { precondition: Precondition::Absent, ..put("plan", "2") };
            let calls: [Call; 3] = [put("plan", "1").into(), more().into(), refused.into()];
            let calls = calls.into_iter().map(|call| (Owner::default(), call)).collect();
            let begun = Instant::now();
            let (which, _) = house.clients.transact(&admin(), calls).await?.unwrap_err();
            assert_eq!(begun.elapsed(), Duration::ZERO, "a lock is waited for that nobody has");
            assert_eq!(which, 2);
            Ok(())
        },
        again [],
        whole async |house: Arc<House>| times_done(&house).await == Some(0) && held(&house, "plan").await.is_none(),
        done async |house: Arc<House>| {
            // Nobody has what it had locked.
            asked(&house, put("plan", "3")).await.unwrap();
            asked(&house, more()).await.unwrap();
            number(&house).await == 1
        };
    a_state_is_set:
        of ["context/src/state_people.rs: mend_state", "context/src/clients.rs: act"],
        before |house| async move { house.push("job", Some(declaring())).await }.boxed(),
        ask async |house: Arc<House>| {
            let set = Mend::Set { state: "off".into(), data: json!({}) };
            let view = house.clients.mend_state(&admin(), &of(), set, "a test".into()).await?;
            assert_eq!(view.kept.unwrap().state, "off");
            Ok(())
        },
        again [],
        whole async |house: Arc<House>| state_of(&house).await.is_some() == (acts(&house, "state.set").await == 1),
        done async |house: Arc<House>| state_of(&house).await.is_some_and(|kept| kept.state == "off");
    a_state_is_released:
        of ["context/src/state_people.rs: mend_state"],
        before |house| async move {
            house.push("job", Some(declaring())).await;
            let declared = Declared::of(&declaring()).unwrap().unwrap();
            let machine = declared.declaration.first(sample::at(0).millis());
            let kept = Kept { quarantined: Some("a test".into()), ..declared.kept(machine, None, sample::at(0)) };
            let (drawer, key, revision) =
                (state::drawer(&job()), declared.key(None).unwrap(), house.record.next_revision(&tenant()));
            let value = Some(MemoryValue { bytes: kept.to_bytes(), expires_at: None });
            let deltas = vec![Delta::Memory(MemoryChange { drawer, key, revision, value, trail: None })];
            let change = Change::Context { call: "left".into(), about: String::new(), request: Digest([0; 32]) };
            let changes = Changes { deltas, expects: Vec::new() };
            house.record.act_with(&tenant(), sample::at(0), Act { by: None, change }, changes).await.unwrap();
        }.boxed(),
        ask async |house: Arc<House>| {
            house.clients.mend_state(&admin(), &of(), Mend::Release, "a test".into()).await.map(drop)
        },
        again ["conflict"],
        whole async |house: Arc<House>| {
            let is_released = state_of(&house).await.is_some_and(|kept| kept.quarantined.is_none());
            is_released == (acts(&house, "state.release").await == 1)
        },
        done async |house: Arc<House>| {
            let is_released = state_of(&house).await.is_some_and(|kept| kept.quarantined.is_none());
            is_released && acts(&house, "state.release").await == 1
        };
    a_dead_letter_is_sent_again:
        of ["context/src/clients.rs: revive", "context/src/clients.rs: act"],
        before nothing,
        ask async |house: Arc<House>| house.clients.revive(&admin(), LETTER).await,
        again ["not-found"],
        done async |house: Arc<House>| house.letters().await == 0;
    a_dead_letter_is_thrown_away:
        of ["context/src/clients.rs: discard", "context/src/clients.rs: act"],
        before nothing,
        ask async |house: Arc<House>| house.clients.discard(&admin(), LETTER).await,
        again ["not-found"],
        done async |house: Arc<House>| house.letters().await == 0;
}

/// Makes a call, which is refused by nothing and waits for nobody.
async fn asked<C: HostCall>(house: &House, call: C) -> Result<C::Reply, Error> {
    let begun = Instant::now();
    let reply = house.clients.call(&admin(), &Owner::default(), call).await?;
    // Locks are advice: who does not get one goes on without it after a while, and time passes only for who waits.
    assert_eq!(begun.elapsed(), Duration::ZERO, "a lock is waited for that nobody has");
    Ok(reply.unwrap_or_else(|refusal| panic!("{refusal:?}")))
}

fn put(key: &str, value: &'static str) -> Put {
    let (scope, key, value) = (Scope::Global, key.to_owned(), Bytes::from_static(value.as_bytes()));
    Put { scope, key, value, precondition: Precondition::Any, ttl_ms: None }
}

/// One more than there was.
fn more() -> Update {
    Update { scope: Scope::Global, key: "count".into(), merge: Merge::Increment(1), ttl_ms: None }
}

fn relate() -> Relate {
    let (subject, relation): (Entity, Relation) = ("a.md".parse().unwrap(), "links-to".parse().unwrap());
    Relate { subject, relation, object: "b.md".parse().unwrap(), properties: String::new(), valid_from: None }
}

fn remember() -> Remember {
    Remember { id: "n".into(), text: "a note".into(), metadata: BTreeMap::new() }
}

fn send() -> Send {
    Send { to: echo(), event: draft() }
}

fn publish() -> Publish {
    Publish { topic: "news".parse().unwrap(), event: draft() }
}

fn draft() -> Draft {
    Draft { kind: "t".into(), subject: None, data: Payload::text("x"), given: None }
}

/// What a key of the tenant's memory holds.
async fn held(house: &House, key: &str) -> Option<Item> {
    house.record.get(&tenant(), &Drawer::Global, key, sample::at(0)).await.unwrap()
}

/// How often it was counted.
async fn number(house: &House) -> usize {
    let item = held(house, "count").await;
    item.map_or(0, |item| std::str::from_utf8(&item.value).unwrap().parse().unwrap())
}

async fn holds(house: &House) -> bool {
    let Relate { subject, relation, object, .. } = relate();
    house.record.holding(&tenant(), &subject, &relation, &object).await.unwrap().is_some()
}

/// How many messages are in the mailbox, besides the dead letter.
fn mail(house: &House) -> usize {
    house.record.context(|context| context.mail.values().filter(|kept| kept.message.id != LETTER).count())
}

async fn events(house: &House) -> usize {
    house.record.events(&tenant(), &"news".parse().unwrap(), Position(0), 100).await.unwrap().events.len()
}

/// How many calls of this name are in the tenant's ledger.
async fn acts(house: &House, name: &str) -> usize {
    let ledger = house.record.entries(&tenant(), RunId::ledger(), Seq(0), 1_000).await.unwrap();
    let is_one = |event: &Event| match event {
        Event::Act(act) => matches!(&act.change, Change::Context { call, .. } if call == name),
        _ => false,
    };
    ledger.iter().filter(|placed| is_one(&placed.entry.event)).count()
}

/// How often the transaction was done: none where something of it was done more often than something else.
async fn times_done(house: &House) -> Option<usize> {
    let times = acts(house, "transaction").await;
    let each = [number(house).await, mail(house), events(house).await];
    let is_done = times > 0;
    let once = [
        held(house, "plan").await.is_some(),
        held(house, "old").await.is_none(),
        holds(house).await,
        house.notes.note(&tenant(), "n").await.unwrap().is_some(),
    ];
    // Where nothing was put before, it is not there either way.
    let had_old = acts(house, "memory.put").await > 0;
    let agrees = once.iter().zip([true, had_old, true, true]).all(|(is, counts)| !counts || *is == is_done);
    (each == [times; 3] && agrees).then_some(times)
}

fn job() -> AgentName {
    "job".parse().unwrap()
}

fn of() -> Of {
    Of { agent: job(), session: None }
}

/// An agent with states.
fn declaring() -> Manifest {
    let state = json!({
        "version": 1, "initial": "on", "states": {"on": {}, "off": {}},
        "transitions": [{"from": "on", "to": "off", "on": "end"}, {"from": "off", "to": "on", "on": "begin"}],
    });
    Manifest { state: Some(state), ..Manifest::default() }
}

/// What is kept of its state.
async fn state_of(house: &House) -> Option<Kept> {
    let page = house.record.list(&tenant(), &state::drawer(&job()), "", None, 10, sample::at(0)).await.unwrap();
    page.items.first().map(|item| Kept::from_bytes(&item.value).unwrap())
}

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

#[test]
fn a_client_that_is_overtaken_decides_anew() {
    let (mut before, mut after) = (0, 0);
    for head_start in 0..40 {
        in_paused_time(async {
            let house = House::new().await;
            // The older of the two, whenever it comes.
            let revision = house.record.next_revision(&tenant());
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
