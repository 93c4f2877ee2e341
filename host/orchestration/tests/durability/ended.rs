//! Sessions that end: summed up by a last turn, and their memory kept, archived or forgotten, whoever dies in between.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::call::session::History;
use ltmc_model::caller::{Caller, Role};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Change};
use ltmc_model::memory::Drawer;
use ltmc_model::run::{State, Target};
use ltmc_model::session::{Keep, MAX_ARCHIVE, MAX_MOVED, Remains, Session, Settings, Stage, Standing};
use ltmc_model::tenancy::Key;
use ltmc_model::{Digest, Payload, SessionId, TenantId, Timestamp};
use ltmc_orchestration::{Closing, SayRequest};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::testing::{Fault, MemoryRecord};
use ltmc_ports::{
    Durability, ReadJournal as _, ReadMemory as _, ReadSessions as _, WriteCatalog as _, WriteJournal as _,
};
use ltmc_tenancy::Error;
use serde_json::Value;

use crate::crash::{Left, every_way};
use crate::guest::{Guest, Script, agent, text};
use crate::host::{Host, World, caller, in_paused_time, tenant};

const MINUTE: Duration = Duration::from_secs(60);

/// Notes what it was told; of `many` it notes so many keys, of `large` a value that no archive holds.
async fn notes(guest: Guest) -> Result<Payload, Failure> {
    let said = text(&guest.job.input.bytes).to_owned();
    match said.split_once('=') {
        Some(("many", count)) => {
            for number in 0..count.parse().unwrap() {
                guest.put(&format!("k{number:05}"), "x").await?;
            }
        }
        Some(("large", _)) => {
            for key in ["a", "b"] {
                guest.put(key, "x".repeat(MAX_ARCHIVE * 2 / 3)).await?;
            }
        }
        _ => guest.put("said", said.clone()).await?,
    }
    Ok(Payload::text(said))
}

/// Sums up what was said.
async fn editor(guest: Guest) -> Result<Payload, Failure> {
    guest.compute(5).await;
    let before = guest.sure(History { last: 50 }).await?;
    let said: Vec<_> = before.iter().map(|it| text(&it.message.bytes)).collect();
    guest.put("summary", said.join(", ")).await?;
    Ok(Payload::text(format!("{} said: {}", said.len(), said.join(", "))))
}

async fn fails(_: Guest) -> Result<Payload, Failure> {
    Err(Failure::new(Code::AgentError, "there is nothing to be said of it"))
}

async fn hangs(_: Guest) -> Result<Payload, Failure> {
    std::future::pending().await
}

fn scripts() -> [Script; 4] {
    [agent("notes", notes), agent("editor", editor), agent("fails", fails), agent("hangs", hangs)]
}

fn settings(summary: Option<&str>, keep: Keep) -> Settings {
    let summary = summary.map(|agent| agent.parse().unwrap());
    Settings { turn: 5 * 60_000, summary, keep, ..Settings::new(Target::Agent("notes".parse().unwrap())) }
}

/// A record that knows the key in whose name a session is summed up.
async fn record(world: &World) -> Arc<MemoryRecord> {
    let record = world.record(None).await;
    let key = Key {
        id: caller().key,
        tenant: tenant(),
        role: Role::Author,
        hash: [1; 32],
        created_at: Timestamp::from_millis(0),
        expires_at: None,
        revoked_at: None,
    };
    let act = Act { by: None, change: Change::KeyCreated(key) };
    record.act(&TenantId::host(), Timestamp::from_millis(0), act).await.unwrap();
    record
}

async fn say(host: &Host, by: &Caller, id: &SessionId, said: &str) -> Result<(), Error> {
    let (input, request_digest) = (Payload::text(said.to_owned()), Digest::of(said.as_bytes()));
    let request = SayRequest { input, idempotency: Some(said.into()), request_digest, traceparent: None };
    let said = host.sessions.say(by, id, request).await?;
    drop(host.runs.wait(by, &said.started, None).await?);
    Ok(())
}

async fn keys(record: &MemoryRecord, id: &SessionId) -> usize {
    let page = record.list(&tenant(), &Drawer::Session(id.clone()), "", None, 10_000, Timestamp::from_millis(0)).await;
    page.unwrap().items.len()
}

async fn one(record: &MemoryRecord, id: &SessionId) -> Session {
    record.session(&tenant(), id).await.unwrap().unwrap()
}

/// A session in which these were said, closed, and left alone for so long.
async fn closed(settings: Settings, said: &[&str], how: Closing, then: Duration) -> (Host, SessionId) {
    let world = World::new(scripts());
    let host = world.host(&record(&world).await, []);
    let id = host.sessions.open(&caller(), settings, None).await.unwrap().id;
    for said in said {
        say(&host, &caller(), &id, said).await.unwrap();
    }
    host.sessions.close(&caller(), &id, how).await.unwrap();
    tokio::time::sleep(then).await;
    (host, id)
}

#[test]
fn a_session_is_summed_up_by_its_last_turn() {
    in_paused_time(async {
        let (host, id) = closed(settings(Some("editor"), Keep::Always), &["a", "b"], Closing::Drain, MINUTE).await;
        let session = one(&host.record, &id).await;
        assert_eq!((session.standing, session.summary, session.memory), (Standing::Closed, Some(3), None));
        let history = host.sessions.history(&caller(), &id, 0, 10).await.unwrap();
        let answer = history[2].result.as_ref().unwrap().as_ref().unwrap();
        assert_eq!(text(&answer.bytes), "2 said: a, b");
        assert_eq!(keys(&host.record, &id).await, 2, "what the summary noted stays, too");
        assert!(matches!(say(&host, &caller(), &id, "c").await, Err(Error::Conflict { code: "session-over", .. })));
    });
}

#[test]
fn a_summary_that_cannot_be_made_keeps_no_session_open() {
    for (summary, turns) in [("fails", 2), ("hangs", 2), ("gone", 1)] {
        in_paused_time(async {
            let world = World::new(scripts());
            let record = record(&world).await;
            let host = world.host(&record, []);
            let wanted = settings(Some(if summary == "gone" { "fails" } else { summary }), Keep::Always);
            let id = host.sessions.open(&caller(), wanted, None).await.unwrap().id;
            say(&host, &caller(), &id, "a").await.unwrap();
            if summary == "gone" {
                let change = Change::AgentDeleted { name: "fails".parse().unwrap() };
                record.act(&tenant(), Timestamp::from_millis(1), Act { by: None, change }).await.unwrap();
            }
            host.sessions.close(&caller(), &id, Closing::Drain).await.unwrap();
            tokio::time::sleep(10 * MINUTE).await;
            let session = one(&host.record, &id).await;
            assert_eq!((session.standing, session.turns), (Standing::Closed, turns), "{summary}");
        });
    }
}

#[test]
fn nothing_is_summed_up_of_what_is_closed_at_once_or_in_which_nothing_was_said() {
    in_paused_time(async {
        for (said, how) in [(&["a"][..], Closing::Cancel), (&[], Closing::Drain)] {
            let (host, id) = closed(settings(Some("editor"), Keep::Always), said, how, MINUTE).await;
            let session = one(&host.record, &id).await;
            assert_eq!((session.standing, session.summary), (Standing::Closed, None));
        }
        // One that is being summed up is closed at once after all.
        let (host, id) = closed(settings(Some("hangs"), Keep::Always), &["a"], Closing::Drain, MINUTE).await;
        assert_eq!(one(&host.record, &id).await.standing, Standing::Closing);
        host.sessions.close(&caller(), &id, Closing::Cancel).await.unwrap();
        tokio::time::sleep(MINUTE).await;
        assert_eq!(one(&host.record, &id).await.standing, Standing::Closed);
    });
}

#[test]
fn memory_is_kept_for_a_time_archived_or_forgotten() {
    in_paused_time(async {
        let day = Keep::For(24 * 60 * 60_000);
        let (host, id) = closed(settings(None, day), &["a"], Closing::Drain, 23 * 60 * MINUTE).await;
        assert_eq!((keys(&host.record, &id).await, one(&host.record, &id).await.memory), (1, None));
        tokio::time::sleep(61 * MINUTE).await;
        assert_eq!((keys(&host.record, &id).await, one(&host.record, &id).await.memory), (0, Some(Remains::Forgotten)));
        let fork = host.sessions.fork(&caller(), &id, None, None, None).await;
        assert!(matches!(fork, Err(Error::Conflict { code: "session-over", .. })), "{fork:?}");

        let (host, id) = closed(settings(Some("editor"), Keep::Archive), &["a"], Closing::Drain, MINUTE).await;
        assert_eq!((keys(&host.record, &id).await, one(&host.record, &id).await.memory), (0, Some(Remains::Archived)));
        let archive = host.sessions.archive(&caller(), &id).await.unwrap().unwrap();
        let archive: Value = serde_json::from_str(&archive).unwrap();
        let held = archive["keys"].as_array().unwrap().iter().map(|it| (&it["key"], &it["value"]["text"]));
        assert_eq!(held.collect::<Vec<_>>(), [(&"said".into(), &"a".into()), (&"summary".into(), &"a".into())]);
        assert!(host.record.verify().await.unwrap().damage.is_empty());
    });
}

#[test]
fn memory_goes_piece_by_piece_and_what_no_archive_holds_stays() {
    in_paused_time(async {
        let many = format!("many={}", MAX_MOVED + 1);
        let (host, id) = closed(settings(None, Keep::Forget), &[&many], Closing::Drain, MINUTE).await;
        assert_eq!((keys(&host.record, &id).await, one(&host.record, &id).await.memory), (0, Some(Remains::Forgotten)));
        for (said, left) in [(many.as_str(), MAX_MOVED + 1), ("large=", 2)] {
            let (host, id) = closed(settings(None, Keep::Archive), &[said], Closing::Drain, MINUTE).await;
            let session = one(&host.record, &id).await;
            assert_eq!((keys(&host.record, &id).await, session.memory), (left, Some(Remains::TooLarge)));
        }
    });
}

#[test]
fn one_that_expires_is_not_summed_up_and_its_memory_goes_as_it_was_to() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&record(&world).await, []);
        let wanted = Settings { idle: 60_000, ..settings(Some("editor"), Keep::Forget) };
        let id = host.sessions.open(&caller(), wanted, None).await.unwrap().id;
        say(&host, &caller(), &id, "a").await.unwrap();
        tokio::time::sleep(2 * MINUTE).await;
        let session = one(&host.record, &id).await;
        assert_eq!((session.standing, session.turns), (Standing::Expired, 1));
        assert_eq!((keys(&host.record, &id).await, session.memory), (0, Some(Remains::Forgotten)));
    });
}

/// Takes its time, and then notes something in the session.
async fn patient(guest: Guest) -> Result<Payload, Failure> {
    guest.compute(10 * 60_000).await;
    guest.put("late", "yes").await?;
    Ok(Payload::text("done"))
}

/// What a turn left behind writes nothing into a session that was taken back to before that turn, or that is over.
#[test]
fn who_was_left_behind_comes_too_late() {
    const OUTER: &str =
        "name: outer\nflow: {workflow: inner, on-parent-end: abandon}\n---\nname: inner\nflow: {agent: patient}";
    for (what, is_late) in [("nothing", false), ("rewind", true), ("close", true)] {
        in_paused_time(async {
            let world = World::new([agent("patient", patient)]);
            let host = world.host(&world.record(Some(OUTER)).await, []);
            let wanted = Settings::new(Target::Workflow("outer".parse().unwrap()));
            let id = host.sessions.open(&caller(), wanted, None).await.unwrap().id;
            let (input, request_digest) = (Payload::text("go".to_owned()), Digest::of(b"go"));
            let request = SayRequest { input, idempotency: None, request_digest, traceparent: None };
            let turn = host.sessions.say(&caller(), &id, request).await.unwrap();
            tokio::time::sleep(MINUTE).await;
            host.sessions.cancel_turn(&caller(), &id, 1).await.unwrap();
            match what {
                "rewind" => drop(host.sessions.rewind(&caller(), &id, 0).await.unwrap()),
                "close" => drop(host.sessions.close(&caller(), &id, Closing::Drain).await.unwrap()),
                _ => {}
            }
            tokio::time::sleep(20 * MINUTE).await;
            let filter = RunFilter { parent: Some(turn.started.run), limit: 10, ..RunFilter::default() };
            let left = host.record.runs(&tenant(), &filter).await.unwrap()[0].clone();
            let (state, noted) = if is_late { (State::Failed, 0) } else { (State::Completed, 1) };
            assert_eq!((left.state, keys(&host.record, &id).await), (state, noted), "{what}");
        });
    }
}

/// A host dies at every append of a session's turns, its summary's included: there is one summary, and all of memory is in the archive, or none of it.
#[test]
fn a_session_ends_once_whenever_its_host_dies() {
    for at in 1.. {
        let mut crashed = false;
        for (how, left) in every_way() {
            crashed |= in_paused_time(one_end(at, how, left));
        }
        if !crashed {
            assert!(at > 6, "two turns and a summary are six appends");
            break;
        }
    }
}

/// Whether the crash came.
async fn one_end(at: u64, how: Fault, left: Left) -> bool {
    let world = World::new(scripts());
    let record = record(&world).await;
    let wanted = settings(Some("editor"), Keep::Archive);
    let id = world.host(&record, []).sessions.open(&caller(), wanted, None).await.unwrap().id;
    let live = async |host: &Host| {
        for said in ["a", "b"] {
            drop(tokio::time::timeout(MINUTE, say(host, &caller(), &id, said)).await);
        }
        // A host that died does nothing any more. Who is not answered closes it again.
        if host.line.is_dead() {
            return;
        }
        drop(tokio::time::timeout(MINUTE, host.sessions.close(&caller(), &id, Closing::Drain)).await);
    };
    let host = world.host(&record, [(at, how)]);
    live(&host).await;
    tokio::time::sleep(MINUTE).await;
    let crashed = host.line.is_dead();
    let record = match left {
        Left::Synced => record.crash(),
        Left::All => record.copy(),
    };
    let late = host.line.undelivered();
    drop(host);
    let next = world.host(&record, []);
    next.runs.recover().await.unwrap();
    live(&next).await;
    tokio::time::sleep(20 * MINUTE).await;
    let session = one(&record, &id).await;
    let what = format!("{at} {how:?} {left:?}: {session:?}");
    assert_eq!((session.standing, session.memory), (Standing::Closed, Some(Remains::Archived)), "{what}");
    let turns = record.turns(&tenant(), &id, 0, 10).await.unwrap();
    assert!(turns.iter().all(|turn| turn.stage == Stage::Over), "{what}");
    assert_eq!((session.turns, session.summary), (3, Some(3)), "{what}");
    let archive: Value = serde_json::from_str(&record.archive(&tenant(), &id).await.unwrap().unwrap()).unwrap();
    assert_eq!((&archive["keys"][1]["value"]["text"], keys(&record, &id).await), (&"a, b".into(), 0), "{what}");
    for late in late {
        assert!(record.append(late, Durability::Lazy).await.is_err(), "a dead host's write was taken; {what}");
    }
    let audit = record.verify().await.unwrap();
    assert!(audit.damage.is_empty(), "{audit:?}");
    crashed
}
