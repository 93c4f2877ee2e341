//! What people do with sessions: open them, speak in them, end turns, hand them on, take them back, fork and close them.

use std::sync::Arc;

use bytes::Bytes;
use ltmc_context::clients::Owner;
use ltmc_model::call::memory::Put;
use ltmc_model::caller::Role;
use ltmc_model::journal::{Act, Change, Event};
use ltmc_model::memory::{Drawer, Precondition, Scope};
use ltmc_model::run::{State, Target};
use ltmc_model::session::{IfBusy, Part, Stage, Standing};
use ltmc_model::tenancy::Key;
use ltmc_model::{KeyId, SessionId, TenantId};
use ltmc_model::{RunId, Seq};
use ltmc_orchestration::Closing;
use ltmc_ports::testing::sample;
use ltmc_ports::{ReadJournal as _, ReadMemory as _, WriteCatalog as _};

use crate::case::{dropped, nothing};
use crate::house::{HANG, House, LONG, admin, flow, newest, settings, tenant};

dropped! {
    /// Whoever asks again opens another one.
    a_session_is_opened:
        of ["orchestration/src/sessions.rs: open"],
        before nothing,
        ask async |house: Arc<House>| {
            let settings = settings(Target::Agent(newest()), IfBusy::Enqueue);
            house.sessions.open(&admin(), settings, None).await.map(drop)
        },
        again [],
        whole async |house: Arc<House>| house.all_sessions().await.len() <= 1,
        done async |house: Arc<House>| {
            let sessions = house.all_sessions().await;
            let is_right = sessions.iter().all(|session| session.standing == Standing::Open && session.is_idle());
            (1..=2).contains(&sessions.len()) && is_right
        };
    something_is_said:
        of ["orchestration/src/sessions.rs: say", "orchestration/src/runs/begin.rs: begin_recorded"],
        before |house| async move { drop(house.open(IfBusy::Enqueue).await) }.boxed(),
        ask async |house: Arc<House>| {
            let said = house.say("in", "once").await?;
            house.wait(&said.started).await.unwrap();
            Ok(())
        },
        again [],
        done async |house: Arc<House>| ended(&house).await == [State::Completed];
    /// It waits for the turn at work.
    something_is_said_in_a_session_that_is_busy:
        of ["orchestration/src/sessions.rs: say", "orchestration/src/runs/begin.rs: begin_later"],
        during |house| async move {
            house.open(IfBusy::Enqueue).await;
            drop(house.say(LONG, "first").await.unwrap());
        }.boxed(),
        ask async |house: Arc<House>| house.say("in", "once").await.map(drop),
        again [],
        whole async |house: Arc<House>| {
            let stages = stages(&house).await;
            stages == [Stage::Active] || stages == [Stage::Active, Stage::Queued]
        },
        done async |house: Arc<House>| ended(&house).await == [State::Completed; 2];
    /// The turn at work is ended, and what waits with it: by the host, and not as time goes by.
    something_is_said_that_interrupts:
        of ["orchestration/src/sessions.rs: say"],
        during |house| async move {
            house.open(IfBusy::Interrupt).await;
            drop(house.say(HANG, "first").await.unwrap());
        }.boxed(),
        ask async |house: Arc<House>| {
            let said = house.say("in", "once").await?;
            house.wait(&said.started).await.unwrap();
            Ok(())
        },
        again [],
        whole async |house: Arc<House>| {
            let ended = ended(&house).await;
            ended == [State::Running] || ended == [State::Cancelled, State::Completed]
        },
        done async |house: Arc<House>| ended(&house).await == [State::Cancelled, State::Completed];
    /// A turn may take so long: who says it is gone, and it is ended all the same when that is over.
    something_is_said_that_may_not_take_long:
        of ["orchestration/src/sessions.rs: say"],
        before |house| async move {
            let settings = settings(Target::Agent(newest()), IfBusy::Enqueue);
            let settings = ltmc_model::session::Settings { turn: 500, ..settings };
            house.sessions.open(&admin(), settings, None).await.unwrap();
        }.boxed(),
        ask async |house: Arc<House>| {
            let said = house.say(LONG, "once").await?;
            house.wait(&said.started).await.unwrap_err();
            Ok(())
        },
        again [],
        whole async |house: Arc<House>| {
            let ended = ended(&house).await;
            ended.is_empty() || ended == [State::Cancelled]
        },
        done async |house: Arc<House>| ended(&house).await == [State::Cancelled];
    the_turn_at_work_is_ended:
        of ["orchestration/src/sessions.rs: cancel_turn"],
        during |house| async move {
            house.open(IfBusy::Enqueue).await;
            drop(house.say(HANG, "first").await.unwrap());
        }.boxed(),
        ask async |house: Arc<House>| {
            let id = house.session().await.id;
            house.sessions.cancel_turn(&admin(), &id, 1).await.map(drop)
        },
        again ["conflict"],
        done async |house: Arc<House>| ended(&house).await == [State::Cancelled];
    /// The turn before it is paused, and goes on having the session.
    a_turn_that_waits_is_ended:
        of ["orchestration/src/sessions.rs: cancel_turn", "orchestration/src/stop.rs: end"],
        before |house| async move {
            house.open(IfBusy::Enqueue).await;
            let first = house.say(HANG, "first").await.unwrap();
            house.say("in", "once").await.unwrap();
            house.runs.pause(&admin(), first.started.run).await.unwrap();
        }.boxed(),
        ask async |house: Arc<House>| {
            let id = house.session().await.id;
            house.sessions.cancel_turn(&admin(), &id, 2).await.map(drop)
        },
        again ["conflict"],
        done async |house: Arc<House>| ended(&house).await == [State::Paused, State::Cancelled];
    /// Whoever asks again is told that who holds it is no other.
    a_conversation_is_handed_on:
        of ["orchestration/src/sessions.rs: hand_over"],
        before |house| async move {
            house.push("other", None).await;
            house.flows("{hand-off: {start: echo, among: [echo, other]}}").await;
            house.sessions.open(&admin(), settings(Target::Workflow(flow()), IfBusy::Enqueue), None).await.unwrap();
        }.boxed(),
        ask async |house: Arc<House>| {
            let (id, to) = (house.session().await.id, "other".parse().unwrap());
            house.sessions.hand_over(&admin(), &id, to, "so".into()).await.map(drop)
        },
        again ["invalid"],
        done async |house: Arc<House>| {
            let holder = house.session().await.holder;
            let is_it = |change: &Change| matches!(change, Change::SessionHandedOver { .. });
            holder.is_some_and(|holder| holder.agent.as_str() == "other") && acts(&house, is_it).await == 1
        };
    /// Another key takes part.
    a_key_is_let_into_a_session:
        of ["orchestration/src/sessions.rs: set_part"],
        before |house| async move {
            let key = Key {
                id: other(),
                tenant: tenant(),
                role: Role::Caller,
                hash: [2; 32],
                created_at: sample::at(0),
                expires_at: None,
                revoked_at: None,
            };
            let act = Act { by: None, change: Change::KeyCreated(key) };
            house.record.act(&TenantId::host(), sample::at(0), act).await.unwrap();
            house.open(IfBusy::Enqueue).await;
        }.boxed(),
        ask async |house: Arc<House>| {
            let id = house.session().await.id;
            house.sessions.set_part(&admin(), &id, other(), Some(Part::Observer)).await.map(drop)
        },
        again [],
        done async |house: Arc<House>| house.session().await.part_of(&other()) == Some(Part::Observer);
    /// The turn at work comes to its end.
    a_session_is_closed:
        of ["orchestration/src/sessions.rs: close"],
        during |house| async move {
            house.open(IfBusy::Enqueue).await;
            drop(house.say(LONG, "first").await.unwrap());
        }.boxed(),
        ask async |house: Arc<House>| {
            let id = house.session().await.id;
            house.sessions.close(&admin(), &id, Closing::Drain).await.map(drop)
        },
        again ["conflict"],
        done async |house: Arc<House>| {
            house.session().await.standing == Standing::Closed && ended(&house).await == [State::Completed]
        };
    /// The turn at work is ended, and what waits.
    a_session_is_closed_at_once:
        of ["orchestration/src/sessions.rs: close"],
        during |house| async move {
            house.open(IfBusy::Enqueue).await;
            drop(house.say(HANG, "first").await.unwrap());
            drop(house.say("in", "once").await.unwrap());
        }.boxed(),
        ask async |house: Arc<House>| {
            let id = house.session().await.id;
            house.sessions.close(&admin(), &id, Closing::Cancel).await.map(drop)
        },
        again ["conflict"],
        whole async |house: Arc<House>| {
            let is_open = house.session().await.standing == Standing::Open;
            let ended = ended(&house).await;
            if is_open { ended == [State::Running, State::Waiting] } else { ended == [State::Cancelled; 2] }
        },
        done async |house: Arc<House>| {
            house.session().await.standing == Standing::Closed && ended(&house).await == [State::Cancelled; 2]
        };
    /// Its memory, and which turns count, go back together.
    a_session_is_taken_back:
        of ["orchestration/src/rewind.rs: rewind"],
        before |house| async move { with_a_memory(&house).await }.boxed(),
        ask async |house: Arc<House>| {
            let id = house.session().await.id;
            house.sessions.rewind(&admin(), &id, 1).await.map(drop)
        },
        again [],
        whole async |house: Arc<House>| {
            let session = house.session().await.id;
            let is_undone = house.turns(&session).await[1].0.undone;
            kept(&house, &session).await == if is_undone { ["first"].as_slice() } else { &["first", "second"] }
        },
        done async |house: Arc<House>| {
            let session = house.session().await.id;
            let undone: Vec<bool> = house.turns(&session).await.iter().map(|(turn, _)| turn.undone).collect();
            undone == [false, true] && kept(&house, &session).await == ["first"]
        };
    /// Whoever asks again has another fork. Each has what was said, and its memory, from the beginning.
    a_session_is_forked:
        of ["orchestration/src/rewind.rs: fork"],
        before |house| async move { with_a_memory(&house).await }.boxed(),
        ask async |house: Arc<House>| {
            let id = house.session().await.id;
            house.sessions.fork(&admin(), &id, Some(1), None, None).await.map(drop)
        },
        again [],
        whole async |house: Arc<House>| are_whole(&house, 0..=1).await,
        done async |house: Arc<House>| are_whole(&house, 1..=2).await;
}

fn other() -> KeyId {
    "otherotherot".parse().unwrap()
}

/// Where the runs of the session's turns stand.
async fn ended(house: &House) -> Vec<State> {
    let id = house.session().await.id;
    house.turns(&id).await.into_iter().map(|(_, state)| state).collect()
}

async fn stages(house: &House) -> Vec<Stage> {
    let id = house.session().await.id;
    house.turns(&id).await.into_iter().map(|(turn, _)| turn.stage).collect()
}

/// A session of two turns, each with something put into its memory while it was the last.
async fn with_a_memory(house: &House) {
    let id = house.open(IfBusy::Enqueue).await;
    for said in ["first", "second"] {
        let turn = house.say(said, said).await.unwrap();
        house.wait(&turn.started).await.unwrap();
        let put = Put {
            scope: Scope::Session,
            key: said.into(),
            value: Bytes::from_static(b"1"),
            precondition: Precondition::Any,
            ttl_ms: None,
        };
        let of = Owner { session: Some(id.clone()), agent: None };
        house.clients.call(&admin(), &of, put).await.unwrap().unwrap();
    }
    assert_eq!(kept(house, &id).await, ["first", "second"]);
}

/// The keys of a session's memory.
async fn kept(house: &House, id: &SessionId) -> Vec<String> {
    let drawer = Drawer::Session(id.clone());
    let page = house.record.list(&tenant(), &drawer, "", None, 10, sample::at(0)).await.unwrap();
    page.items.into_iter().map(|item| item.key).collect()
}

/// Whether there are so many forks of the session, each with the first turn and the memory of it.
async fn are_whole(house: &House, many: std::ops::RangeInclusive<usize>) -> bool {
    let mut forks = house.all_sessions().await;
    forks.retain(|session| session.copied > 0);
    let mut is_whole = many.contains(&forks.len());
    for fork in forks {
        let turns = house.turns(&fork.id).await;
        is_whole &= turns.len() == 1 && kept(house, &fork.id).await == ["first"];
    }
    is_whole
}

/// How many such acts are in the tenant's ledger.
async fn acts(house: &House, is_it: impl Fn(&Change) -> bool) -> usize {
    let ledger = house.record.entries(&tenant(), RunId::ledger(), Seq(0), 1_000).await.unwrap();
    let acts = ledger.iter().filter(|placed| matches!(&placed.entry.event, Event::Act(act) if is_it(&act.change)));
    acts.count()
}
