//! Sessions: one turn at a time, each message once, whoever dies in between.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::call::session::History;
use ltmc_model::caller::{Caller, Role};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Change};
use ltmc_model::memory::Drawer;
use ltmc_model::run::{State, Target};
use ltmc_model::session::{IfBusy, Part, Session, Settings, Stage, Standing};
use ltmc_model::tenancy::Key;
use ltmc_model::{Digest, Payload, RunId, SessionId, Timestamp};
use ltmc_orchestration::{Closing, Said, SayRequest};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::sessions::SessionFilter;
use ltmc_ports::testing::{Fault, MemoryRecord};
use ltmc_ports::{
    Durability, ReadJournal as _, ReadMemory as _, ReadSessions as _, WriteCatalog as _, WriteJournal as _,
};
use ltmc_tenancy::Error;

use crate::crash::{Left, every_way};
use crate::guest::{Guest, Script, agent, text};
use crate::host::{Host, Line, World, caller, in_paused_time, tenant};

const MINUTE: u64 = 60_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Writes down what it was told, in the session: it takes a while, and notices where somebody writes meanwhile.
async fn scribe(guest: Guest) -> Result<Payload, Failure> {
    let message = text(&guest.job.input.bytes).to_owned();
    let before = guest.get("log").await?.map_or_else(String::new, |item| text(&item.value).to_owned());
    guest.compute(if message.starts_with("long") { 10 * MINUTE } else { 5 }).await;
    guest.put("log", format!("{before}{message};")).await?;
    Ok(Payload::text(format!("{before}{message};")))
}

/// Writes one step, and takes long over the next.
const TWO: &str = "name: two\nflow: {sequence: [{agent: scribe}, {agent: dawdle}]}";

async fn dawdle(guest: Guest) -> Result<Payload, Failure> {
    guest.compute(10 * MINUTE).await;
    guest.put("dawdled", "yes").await?;
    Ok(Payload::text("done"))
}

/// Never comes back.
async fn hang(guest: Guest) -> Result<Payload, Failure> {
    if text(&guest.job.input.bytes).starts_with("hang") {
        std::future::pending::<()>().await;
    }
    guest.put("log", "went on").await?;
    Ok(guest.job.input.clone())
}

/// Tells what was said before, and what was answered.
async fn recount(guest: Guest) -> Result<Payload, Failure> {
    let before = guest.sure(History { last: 3 }).await?;
    let told = before.iter().map(|it| {
        let answer = it.answer.as_ref().map_or("-", |answer| text(&answer.bytes));
        format!("{}:{}={answer}", it.turn, text(&it.message.bytes))
    });
    let told = told.collect::<Vec<_>>().join(" ");
    guest.compute(5).await;
    match text(&guest.job.input.bytes) {
        "fail" => Err(Failure::new(Code::AgentError, "no")),
        _ => Ok(Payload::text(format!("[{told}]"))),
    }
}

fn scripts() -> [Script; 4] {
    [agent("scribe", scribe), agent("dawdle", dawdle), agent("hang", hang), agent("recount", recount)]
}

fn settings(with: &str, if_busy: IfBusy) -> Settings {
    let with = match with {
        "two" => Target::Workflow("two".parse().unwrap()),
        agent => Target::Agent(agent.parse().unwrap()),
    };
    let day = 24 * 60 * MINUTE;
    Settings { if_busy, queue: 8, idle: day, turn: day, ..Settings::new(with) }
}

async fn opened(host: &Host, settings: Settings) -> SessionId {
    host.sessions.open(&caller(), settings, None).await.unwrap().id
}

fn message(said: &str, key: Option<&str>) -> SayRequest {
    SayRequest {
        input: Payload::text(said.to_owned()),
        idempotency: key.map(str::to_owned),
        request_digest: Digest::of(said.as_bytes()),
        traceparent: None,
    }
}

async fn say(host: &Host, id: &SessionId, said: &str) -> Result<Said, Error> {
    host.sessions.say(&caller(), id, message(said, None)).await
}

async fn answer(host: &Host, said: &Said) -> Result<Payload, Failure> {
    host.runs.wait(&caller(), &said.started, None).await.unwrap().unwrap()
}

async fn one(record: &MemoryRecord, id: &SessionId) -> Session {
    record.session(&tenant(), id).await.unwrap().unwrap()
}

async fn state(record: &MemoryRecord, run: RunId) -> State {
    record.run(&tenant(), run).await.unwrap().unwrap().state
}

/// What a session's memory holds under a key.
async fn kept(record: &MemoryRecord, id: &SessionId, key: &str) -> Option<String> {
    let drawer = Drawer::Session(id.clone());
    let found = record.get(&tenant(), &drawer, key, Timestamp::from_millis(0)).await.unwrap();
    found.map(|item| text(&item.value).to_owned())
}

#[test]
fn a_message_that_comes_while_a_turn_is_at_work_waits_for_it() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(None).await, []);
        let id = opened(&host, settings("scribe", IfBusy::Enqueue)).await;
        let mut said = Vec::new();
        for message in ["long", "b", "c"] {
            said.push(say(&host, &id, message).await.unwrap());
        }
        assert_eq!(said.iter().map(|it| (it.number, it.waits)).collect::<Vec<_>>(), [(1, false), (2, true), (3, true)]);
        assert_eq!(host.runs.alive(), 1, "what waits is a row and nothing else");
        assert_eq!(answer(&host, &said[2]).await.unwrap(), Payload::text("long;b;c;"));
        let session = one(&host.record, &id).await;
        assert!(session.is_idle() && session.epoch.0 == 3, "{session:?}");
        let history = host.sessions.history(&caller(), &id, 0, 10).await.unwrap();
        let told: Vec<_> = history.iter().map(|it| (it.turn.number, text(&it.input.bytes), it.turn.stage)).collect();
        assert_eq!(told, [(1, "long", Stage::Over), (2, "b", Stage::Over), (3, "c", Stage::Over)]);
        assert!(history.iter().all(|it| matches!(it.result, Some(Ok(_)))));
    });
}

#[test]
fn a_busy_session_refuses_where_it_was_opened_so_and_where_its_queue_is_full() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(None).await, []);
        let id = opened(&host, settings("scribe", IfBusy::Reject)).await;
        let first = say(&host, &id, "long").await.unwrap();
        assert!(matches!(say(&host, &id, "b").await, Err(Error::Busy { .. })));
        answer(&host, &first).await.unwrap();
        answer(&host, &say(&host, &id, "c").await.unwrap()).await.unwrap();
        let id = opened(&host, Settings { queue: 2, ..settings("scribe", IfBusy::Enqueue) }).await;
        for message in ["long", "b", "c"] {
            say(&host, &id, message).await.unwrap();
        }
        let Err(Error::Busy { message, .. }) = say(&host, &id, "d").await else { panic!("its queue is full") };
        assert!(message.contains("as many turns wait as may: 2"), "{message}");
    });
}

#[test]
fn who_interrupts_ends_what_came_before_and_keeps_what_was_done() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(Some(TWO)).await, []);
        let id = opened(&host, settings("two", IfBusy::Interrupt)).await;
        let first = say(&host, &id, "a").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = say(&host, &id, "b").await.unwrap();
        let third = say(&host, &id, "c").await.unwrap();
        assert_eq!(answer(&host, &first).await.unwrap_err().code, Code::Cancelled);
        assert_eq!(answer(&host, &second).await.unwrap_err().code, Code::Cancelled);
        assert_eq!(answer(&host, &third).await.unwrap(), Payload::text("done"));
        let log = kept(&host.record, &id, "log").await.unwrap();
        assert!(log == "a;c;" || log == "a;b;c;", "what a step had done stays, and nobody's comes twice: {log}");
    });
}

/// The first step of the turn was done, and is gone with it.
#[test]
fn who_rolls_back_leaves_nothing_of_the_turn_before() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(Some(TWO)).await, []);
        for with in ["two", "scribe"] {
            let id = opened(&host, settings(with, IfBusy::Rollback)).await;
            let first = say(&host, &id, "long a").await.unwrap();
            tokio::time::sleep(Duration::from_secs(700)).await;
            let second = say(&host, &id, "long b").await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
            let third = say(&host, &id, "c").await.unwrap();
            let is_done = with == "scribe";
            assert_eq!(answer(&host, &first).await.is_ok(), is_done, "{with}");
            assert_eq!(answer(&host, &second).await.unwrap_err().code, Code::Cancelled);
            let given = answer(&host, &third).await.unwrap();
            let log = kept(&host.record, &id, "log").await.unwrap();
            match with {
                "two" => assert_eq!((given, log.as_str()), (Payload::text("done"), "c;")),
                _ => assert_eq!((given, log.as_str()), (Payload::text("long a;c;"), "long a;c;")),
            }
        }
    });
}

/// What a turn begins goes with it, and works in a session of its own.
#[test]
fn a_turn_that_is_rolled_back_ends_the_runs_that_it_began() {
    const STARTS: &str = "name: two\nflow: {sequence: [{workflow: other}, {agent: dawdle}]}\n---\nname: other\nflow: {sequence: \
                          [{agent: scribe}, {agent: dawdle}]}";
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(Some(STARTS)).await, []);
        let id = opened(&host, settings("two", IfBusy::Rollback)).await;
        let first = say(&host, &id, "a").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = say(&host, &id, "b").await.unwrap();
        assert_eq!(answer(&host, &first).await.unwrap_err().code, Code::Cancelled);
        assert_eq!(answer(&host, &second).await.unwrap(), Payload::text("done"));
        for (turn, came) in [(&first, State::Cancelled), (&second, State::Completed)] {
            let of = RunFilter { parent: Some(turn.started.run), limit: 10, ..RunFilter::default() };
            let [child] = &host.record.runs(&tenant(), &of).await.unwrap()[..] else { panic!("there is one") };
            assert_eq!(child.state, came);
            assert_ne!(child.session.to_string(), id.to_string());
        }
        assert_eq!(kept(&host.record, &id, "log").await, None, "nothing of it is in the session");
    });
}

/// What an interrupted turn did is undone before the next one begins.
#[test]
fn what_was_interrupted_is_undone_before_the_next_turn_begins() {
    const UNDONE: &str =
        "name: two\nflow: {sequence: [{agent: scribe, compensate: {agent: undo, with: $.input}}, {agent: dawdle}]}";
    in_paused_time(async {
        let undo = agent("undo", |guest: Guest| async move {
            guest.compute(5_000).await;
            let before = guest.get("log").await?.map_or_else(String::new, |item| text(&item.value).to_owned());
            guest.put("log", format!("{before}undone;")).await?;
            Ok(Payload::text("undone"))
        });
        let world = World::new(scripts().into_iter().chain([undo]));
        for if_busy in [IfBusy::Interrupt, IfBusy::Rollback] {
            let host = world.host(&world.record(Some(UNDONE)).await, []);
            let id = opened(&host, settings("two", if_busy)).await;
            let first = say(&host, &id, "a").await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let second = say(&host, &id, "b").await.unwrap();
            assert_eq!(answer(&host, &second).await.unwrap(), Payload::text("done"), "{if_busy}");
            assert_eq!(state(&host.record, first.started.run).await, State::Cancelled, "{if_busy}");
            let log = kept(&host.record, &id, "log").await.unwrap();
            let expected = if if_busy == IfBusy::Interrupt { "a;undone;b;" } else { "b;" };
            assert!(log == expected || log == "undone;b;", "{if_busy}: {log}");
        }
    });
}

/// However a turn hangs: it is ended when its time is over, and the next one comes. Where its run cannot even be ended, the
/// session is taken from it.
#[test]
fn a_hung_turn_does_not_hold_its_session_for_ever() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(None).await, []);
        let id = opened(&host, Settings { turn: MINUTE, ..settings("hang", IfBusy::Enqueue) }).await;
        let hung = say(&host, &id, "hang").await.unwrap();
        let next = say(&host, &id, "next").await.unwrap();
        assert_eq!(answer(&host, &next).await.unwrap(), Payload::text("next"));
        assert_eq!(state(&host.record, hung.started.run).await, State::Cancelled);
        assert_eq!(kept(&host.record, &id, "log").await.unwrap(), "went on");
    });
}

#[test]
fn a_session_expires_and_is_closed() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(None).await, []);
        let old = opened(&host, settings("scribe", IfBusy::Enqueue)).await;
        let closed = opened(&host, settings("scribe", IfBusy::Enqueue)).await;
        let first = say(&host, &closed, "long").await.unwrap();
        let second = say(&host, &closed, "b").await.unwrap();
        let closing = host.sessions.close(&caller(), &closed, Closing::Drain).await.unwrap();
        assert_eq!(closing.standing, Standing::Closing);
        let refused = |said: Result<Said, Error>| matches!(said, Err(Error::Conflict { code: "session-over", .. }));
        assert!(refused(say(&host, &closed, "c").await), "it takes no more");
        answer(&host, &first).await.unwrap();
        answer(&host, &second).await.unwrap();
        assert_eq!(one(&host.record, &closed).await.standing, Standing::Closed);
        tokio::time::sleep(2 * DAY).await;
        assert_eq!(one(&host.record, &old).await.standing, Standing::Expired);
        assert!(refused(say(&host, &old, "d").await));

        let id = opened(&host, settings("scribe", IfBusy::Enqueue)).await;
        let said = [say(&host, &id, "long").await.unwrap(), say(&host, &id, "b").await.unwrap()];
        host.sessions.close(&caller(), &id, Closing::Cancel).await.unwrap();
        for said in &said {
            assert_eq!(answer(&host, said).await.unwrap_err().code, Code::Cancelled);
        }
        assert_eq!(one(&host.record, &id).await.standing, Standing::Closed);
        assert_eq!(kept(&host.record, &id, "log").await, None);
    });
}

#[test]
fn a_turn_that_waits_can_be_cancelled_and_nobody_elses_run_works_in_the_session() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(None).await, []);
        let id = opened(&host, settings("scribe", IfBusy::Enqueue)).await;
        let said = [say(&host, &id, "long").await.unwrap(), say(&host, &id, "b").await.unwrap()];
        let last = say(&host, &id, "c").await.unwrap();
        let waiting = said[1].started.run;
        let why = host.runs.why(&caller(), waiting).await.unwrap();
        assert!(why.summary.contains("waits for its turn, number 2"), "{}", why.summary);
        assert!(matches!(host.runs.pause(&caller(), waiting).await, Err(Error::Conflict { .. })));
        host.sessions.cancel_turn(&caller(), &id, 2).await.unwrap();
        let Err(Error::Conflict { message, .. }) = host.runs.resume(&caller(), waiting).await else {
            panic!("its turn is over")
        };
        assert!(message.contains("say it again there"), "{message}");
        assert_eq!(state(&host.record, said[1].started.run).await, State::Cancelled);
        assert_eq!(answer(&host, &last).await.unwrap(), Payload::text("long;c;"));
        let call = ltmc_orchestration::CallRequest {
            agent: "scribe".parse().unwrap(),
            input: Payload::text("beside"),
            session: Some(id.clone()),
            idempotency: None,
            request_digest: Digest([0; 32]),
            traceparent: None,
            cancel_on_disconnect: false,
        };
        assert!(matches!(host.runs.call(&caller(), call).await, Err(Error::Conflict { .. })));
    });
}

/// A key of the role `caller` sees what it opened or takes part in, and an observer says nothing.
#[test]
fn who_takes_part_is_said_when_it_is_opened() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(None).await, []);
        let as_key = |key: &str| Caller { key: key.parse().unwrap(), role: Role::Caller, ..caller() };
        let [owner, helper, watcher, stranger] =
            ["ownerownerow", "helperhelper", "watcherwatch", "strangerstra"].map(as_key);
        for by in [&helper, &watcher] {
            let (id, role, created_at) = (by.key.clone(), Role::Caller, Timestamp::from_millis(0));
            let key = Key { id, tenant: tenant(), role, hash: [7; 32], created_at, expires_at: None, revoked_at: None };
            let made = Act { by: None, change: Change::KeyCreated(key) };
            host.record.act(&tenant(), created_at, made).await.unwrap();
        }
        let participants =
            [(helper.key.clone(), Part::Contributor), (watcher.key.clone(), Part::Observer)].into_iter().collect();
        let wanted = Settings { participants, ..settings("scribe", IfBusy::Enqueue) };
        let id = host.sessions.open(&owner, wanted, None).await.unwrap().id;
        for by in [&owner, &helper] {
            let said = host.sessions.say(by, &id, message("x", None)).await.unwrap();
            host.runs.wait(by, &said.started, None).await.unwrap().unwrap().unwrap();
        }
        let denied = host.sessions.say(&watcher, &id, message("x", None)).await;
        assert!(matches!(denied, Err(Error::Denied { .. })));
        assert_eq!(host.sessions.history(&watcher, &id, 0, 10).await.unwrap().len(), 2);
        let there = host.sessions.say(&stranger, &id, message("x", None)).await;
        assert!(matches!(there, Err(Error::NotFound { .. })), "to others it is not there");
        assert!(matches!(host.sessions.get(&stranger, &id).await, Err(Error::NotFound { .. })));
        let all = SessionFilter { limit: 10, ..SessionFilter::default() };
        assert_eq!(host.sessions.list(&stranger, all.clone()).await.unwrap(), []);
        assert_eq!(host.sessions.list(&watcher, all).await.unwrap().len(), 1);
        let closed = host.sessions.close(&helper, &id, Closing::Drain).await;
        assert!(matches!(closed, Err(Error::Denied { .. })), "who opened it closes it");
    });
}

/// The last turns that are over, in their order; one that failed has no answer, and who waits is not there yet.
#[test]
fn an_agent_is_told_what_was_said_before() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(None).await, []);
        let id = opened(&host, settings("recount", IfBusy::Enqueue)).await;
        let mut said = Vec::new();
        for message in ["a", "fail", "b", "c"] {
            said.push(say(&host, &id, message).await.unwrap());
        }
        let mut told = Vec::new();
        for said in &said {
            told.push(answer(&host, said).await.map_or_else(|_| "-".to_owned(), |it| text(&it.bytes).to_owned()));
        }
        assert_eq!(told[..3], ["[]", "-", "[1:a=[] 2:fail=-]"]);
        assert_eq!(told[3], format!("[1:a=[] 2:fail=- 3:b={}]", told[2]));
        let last = say(&host, &id, "d").await.unwrap();
        let given = answer(&host, &last).await.unwrap();
        assert!(text(&given.bytes).starts_with("[2:fail=- 3:b="), "the last three: {given:?}");
    });
}

/// What is said with a key is said once, whatever has become of the session.
#[test]
fn a_message_that_is_sent_again_is_no_second_turn() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(None).await, []);
        let id = opened(&host, settings("scribe", IfBusy::Enqueue)).await;
        let say = async |said: &str, key| host.sessions.say(&caller(), &id, message(said, Some(key))).await;
        let first = say("long", "one").await.unwrap();
        let second = say("b", "two").await.unwrap();
        for (key, said, number) in [("one", "long", 1), ("two", "b", 2)] {
            let again = say(said, key).await.unwrap();
            assert_eq!((again.number, again.started.attached), (number, true));
        }
        answer(&host, &second).await.unwrap();
        host.sessions.close(&caller(), &id, Closing::Drain).await.unwrap();
        assert_eq!(say("long", "one").await.unwrap().started.run, first.started.run);
        assert!(matches!(say("other", "one").await, Err(Error::Conflict { code: "idempotency-key-reused", .. })));
        assert_eq!(one(&host.record, &id).await.turns, 2);
    });
}

/// A host dies at every append of a session's life, right before or after it takes effect. What was acknowledged is a turn, each message
/// is one turn only, and they are done one after the other.
#[test]
fn a_session_lives_on_whenever_its_host_dies() {
    const MESSAGES: [&str; 4] = ["a", "b", "c", "d"];
    for at in 1.. {
        let mut crashed = false;
        for (how, left) in every_way() {
            crashed |= in_paused_time(one_life(at, how, left, &MESSAGES));
        }
        if !crashed {
            assert!(at > 8, "four turns are more than eight appends");
            break;
        }
    }
}

/// Whether the crash came.
async fn one_life(at: u64, how: Fault, left: Left, messages: &[&str]) -> bool {
    let world = World::new(scripts());
    let record = world.record(None).await;
    let id = opened(&world.host(&record, []), settings("scribe", IfBusy::Enqueue)).await;
    let host = world.host(&record, [(at, how)]);
    let talk = async |host: &Host| {
        for said in messages {
            // Whoever is not answered says it again, with the same key.
            drop(host.sessions.say(&caller(), &id, message(said, Some(said))).await);
        }
    };
    talk(&host).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let crashed = host.line.is_dead();
    let before = record.turns(&tenant(), &id, 0, 100).await.unwrap();
    let record = match left {
        Left::Synced => record.crash(),
        Left::All => record.copy(),
    };
    let late = host.line.undelivered();
    drop(host);
    let next = world.host(&record, []);
    next.runs.recover().await.unwrap();
    talk(&next).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let session = one(&record, &id).await;
    let what = format!("{at} {how:?} {left:?}: {session:?}, {before:?}");
    assert!(session.is_idle() && session.turns == 4 && session.epoch.0 == 4, "{what}");
    let turns = record.turns(&tenant(), &id, 0, 100).await.unwrap();
    for turn in &turns {
        assert_eq!((turn.stage, state(&record, turn.run).await), (Stage::Over, State::Completed), "{what}");
    }
    let history = next.sessions.history(&caller(), &id, 0, 10).await.unwrap();
    let said: String = history.iter().map(|it| format!("{};", text(&it.input.bytes))).collect();
    assert_eq!(kept(&record, &id, "log").await.unwrap(), said, "each once, one after the other; {what}");
    for late in late {
        let written = record.append(late, Durability::Lazy).await;
        assert!(written.is_err(), "a dead host's write came late and was taken; {what}");
    }
    let audit = record.verify().await.unwrap();
    assert!(audit.damage.is_empty(), "{audit:?}");
    crashed
}

/// Several hosts' worth of clients talk at once: each message is one turn, and no two are at work at once.
#[test]
fn many_who_talk_at_once_take_turns() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = Arc::new(world.host(&world.record(None).await, []));
        let id = opened(&host, Settings { queue: 64, ..settings("scribe", IfBusy::Enqueue) }).await;
        let talkers: Vec<_> = (0..32)
            .map(|number| {
                let (host, id) = (host.clone(), id.clone());
                tokio::spawn(async move {
                    let said = say(&host, &id, &number.to_string()).await.unwrap();
                    answer(&host, &said).await.unwrap();
                    said.number
                })
            })
            .collect();
        let mut numbers = Vec::new();
        for talker in talkers {
            numbers.push(talker.await.unwrap());
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=32).collect::<Vec<_>>());
        let log = kept(&host.record, &id, "log").await.unwrap();
        assert_eq!(log.matches(';').count(), 32, "nobody wrote over another: {log}");
    });
}

/// Whenever a message comes: a turn that is rolled back has left nothing, and one that has left something is done.
#[test]
fn what_is_rolled_back_has_left_nothing_whenever_the_message_comes() {
    for millis in 0..60 {
        in_paused_time(async {
            let world = World::new(scripts());
            let record = world.record(None).await;
            let host = world.host_over(Line::new(&record, [], None).with_lag(Duration::from_millis(7)));
            let id = opened(&host, settings("scribe", IfBusy::Rollback)).await;
            let first = say(&host, &id, "a").await.unwrap();
            tokio::time::sleep(Duration::from_millis(millis)).await;
            let second = say(&host, &id, "b").await.unwrap();
            answer(&host, &second).await.unwrap();
            let expected = match state(&host.record, first.started.run).await {
                State::Completed => "a;b;",
                _ => "b;",
            };
            assert_eq!(kept(&host.record, &id, "log").await.as_deref(), Some(expected), "after {millis} ms");
        });
    }
}
