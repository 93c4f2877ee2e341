//! Sessions that are taken back, and forks of them: memory is as it was then, and what was done elsewhere is told.

use std::time::Duration;

use ltmc_model::call::coordination::HandOff;
use ltmc_model::call::session::History;
use ltmc_model::caller::Caller;
use ltmc_model::failure::Failure;
use ltmc_model::memory::Drawer;
use ltmc_model::run::Target;
use ltmc_model::session::{MAX_BACK, Session, Settings};
use ltmc_model::{Digest, Payload, SessionId, Timestamp};
use ltmc_orchestration::{Said, SayRequest};
use ltmc_ports::testing::MemoryRecord;
use ltmc_ports::{ReadMemory as _, ReadSessions as _};
use ltmc_tenancy::Error;

use crate::guest::{Guest, Script, agent, text};
use crate::host::{Host, World, caller, in_paused_time, tenant};

const DAY: u64 = 24 * 60 * 60 * 1000;
const DESK: &str = "name: desk\nflow: {hand-off: {start: notes, among: [notes, other], at-most: 4}}";

/// Does what it is told: `KEY=VALUE` in the session, `-KEY`, `elsewhere`, `hand`, `slow`; and says which turns it knows of.
async fn notes(guest: Guest) -> Result<Payload, Failure> {
    let said = text(&guest.job.input.bytes).to_owned();
    for word in said.split(' ') {
        match word.split_once('=') {
            Some((key, value)) => guest.put(key, value).await?,
            None if word == "slow" => guest.compute(60_000).await,
            None if word == "hand" && guest.job.agent.as_str() == "notes" => {
                guest.sure(HandOff { to: "other".parse().unwrap(), reason: "so".into(), passed: None }).await?;
                return Ok(Payload::text(""));
            }
            None => {
                if let Some(key) = word.strip_prefix('-') {
                    guest.delete(key).await?;
                }
            }
        }
    }
    let before = guest.sure(History { last: 50 }).await?;
    let turns: Vec<String> = before.iter().map(|it| it.turn.to_string()).collect();
    Ok(Payload::text(format!("{} [{}]", guest.job.agent, turns.join(","))))
}

fn scripts() -> Vec<Script> {
    ["notes", "other"].map(|name| agent(name, notes)).into()
}

fn settings() -> Settings {
    let with = Target::Workflow("desk".parse().unwrap());
    Settings { queue: 8, idle: DAY, turn: DAY, ..Settings::new(with) }
}

async fn host() -> (World, Host, SessionId) {
    let world = World::new(scripts());
    let host = world.host(&world.record(Some(DESK)).await, []);
    let id = host.sessions.open(&caller(), settings(), None).await.unwrap().id;
    (world, host, id)
}

async fn say(host: &Host, id: &SessionId, said: &str) -> String {
    let (input, request_digest) = (Payload::text(said.to_owned()), Digest::of(said.as_bytes()));
    let request = SayRequest { input, idempotency: None, request_digest, traceparent: None };
    let said = host.sessions.say(&caller(), id, request).await.unwrap();
    let answer = host.runs.wait(&caller(), &said.started, None).await.unwrap().unwrap().unwrap();
    text(&answer.bytes).to_owned()
}

async fn kept(record: &MemoryRecord, id: &SessionId) -> String {
    let drawer = Drawer::Session(id.clone());
    let page = record.list(&tenant(), &drawer, "", None, 100, Timestamp::from_millis(0)).await.unwrap();
    let items = page.items.iter().map(|item| format!("{}={}", item.key, text(&item.value)));
    items.collect::<Vec<_>>().join(" ")
}

async fn one(record: &MemoryRecord, id: &SessionId) -> Session {
    record.session(&tenant(), id).await.unwrap().unwrap()
}

#[test]
fn memory_is_as_it_was_after_the_turn_and_later_turns_count_no_more() {
    in_paused_time(async {
        let (_, host, id) = host().await;
        for said in ["a=1 b=1", "a=2 c=2", "-b", "a=4 b=4 hand", "d=5"] {
            say(&host, &id, said).await;
        }
        assert_eq!(kept(&host.record, &id).await, "a=4 b=4 c=2 d=5");
        assert_eq!(one(&host.record, &id).await.holder.unwrap().agent.as_str(), "other");
        let back = host.sessions.rewind(&caller(), &id, 3).await.unwrap();
        assert_eq!((back.keys, back.turns, back.session.holder), (3, 2, None));
        assert_eq!(kept(&host.record, &id).await, "a=2 c=2");
        assert_eq!(say(&host, &id, "e=6").await, "notes [1,2,3]", "who holds it is as it was, and so is what was said");
        let back = host.sessions.rewind(&caller(), &id, 1).await.unwrap();
        assert_eq!((back.keys, back.turns), (4, 3), "those that were undone before are not undone again");
        assert_eq!(kept(&host.record, &id).await, "a=1 b=1");
        let none = host.sessions.rewind(&caller(), &id, 0).await.unwrap();
        assert_eq!((none.turns, kept(&host.record, &id).await.as_str()), (1, ""));
        for undone in [1, 4] {
            assert!(
                matches!(host.sessions.rewind(&caller(), &id, undone).await, Err(Error::Invalid { .. })),
                "{undone}"
            );
        }
        assert!(matches!(host.sessions.rewind(&caller(), &id, 6).await, Err(Error::Invalid { .. })), "it is there");
    });
}

#[test]
fn a_fork_has_what_was_said_and_memory_of_then_and_goes_its_own_way() {
    in_paused_time(async {
        let (_, host, id) = host().await;
        for said in ["a=1", "a=2 hand", "a=3"] {
            say(&host, &id, said).await;
        }
        let at = async |at| host.sessions.fork(&caller(), &id, at, None, None).await;
        let (two, three) = (at(Some(2)).await.unwrap(), at(None).await.unwrap());
        assert_eq!((two.turns, two.copied, three.turns), (2, 2, 3));
        assert_eq!(
            (kept(&host.record, &two.id).await, kept(&host.record, &three.id).await),
            ("a=2".into(), "a=3".into())
        );
        assert_eq!(say(&host, &two.id, "a=4").await, "other [1,2]", "who held it then holds it there");
        let one_turn = at(Some(1)).await.unwrap();
        assert_eq!(say(&host, &one_turn.id, "b=1").await, "notes [1]");
        assert_eq!(
            (kept(&host.record, &id).await, kept(&host.record, &one_turn.id).await),
            ("a=3".into(), "a=1 b=1".into())
        );
        host.sessions.rewind(&caller(), &two.id, 2).await.unwrap();
        assert_eq!(kept(&host.record, &two.id).await, "a=2");
        assert!(
            matches!(host.sessions.rewind(&caller(), &two.id, 1).await, Err(Error::Invalid { .. })),
            "that was elsewhere"
        );
        assert!(matches!(at(Some(4)).await, Err(Error::Invalid { .. })));
        let history = host.sessions.history(&caller(), &two.id, 0, 10).await.unwrap();
        assert_eq!(history.iter().map(|turn| text(&turn.input.bytes)).collect::<Vec<_>>(), ["a=1", "a=2 hand", "a=4"]);
        assert!(history[2].turn.undone);
    });
}

#[test]
fn while_a_turn_is_at_work_nothing_is_taken_back_and_what_it_does_is_not_forked() {
    in_paused_time(async {
        let (_, host, id) = host().await;
        say(&host, &id, "a=1").await;
        let (input, request_digest) = (Payload::text("a=2 slow"), Digest::of(b"x"));
        let request = SayRequest { input, idempotency: None, request_digest, traceparent: None };
        host.sessions.say(&caller(), &id, request).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(matches!(host.sessions.rewind(&caller(), &id, 0).await, Err(Error::Busy { .. })));
        let fork = host.sessions.fork(&caller(), &id, None, Some("mine".into()), None).await.unwrap();
        assert_eq!((fork.turns, fork.settings.title.as_deref()), (1, Some("mine")));
        assert_eq!(kept(&host.record, &fork.id).await, "a=1");
    });
}

#[test]
fn it_is_known_of_so_many_turns_and_no_more() {
    in_paused_time(async {
        let (_, host, id) = host().await;
        for number in 1..=MAX_BACK + 5 {
            say(&host, &id, &format!("a={number}")).await;
        }
        assert!(matches!(host.sessions.rewind(&caller(), &id, 4).await, Err(Error::Invalid { .. })));
        host.sessions.rewind(&caller(), &id, 5).await.unwrap();
        assert_eq!(kept(&host.record, &id).await, "a=5");
    });
}

/// A turn that is said and not waited for.
async fn tell(host: &Host, id: &SessionId, by: &Caller, said: &str) -> Said {
    let (input, request_digest) = (Payload::text(said.to_owned()), Digest::of(said.as_bytes()));
    let request = SayRequest { input, idempotency: None, request_digest, traceparent: None };
    host.sessions.say(by, id, request).await.unwrap()
}

#[test]
fn turns_that_began_in_another_order_are_taken_back_in_that_order() {
    in_paused_time(async {
        let (_, host, id) = host().await;
        let other = Caller { key: "otherotherot".parse().unwrap(), ..caller() };
        // The fourth is another key's, and comes before the second and the third.
        let mut told = Vec::new();
        for (by, said) in [(&caller(), "l=1 slow"), (&caller(), "l=2"), (&caller(), "l=3 hand"), (&other, "l=4 m=4")] {
            told.push(tell(&host, &id, by, said).await);
        }
        let fork = host.sessions.fork(&other, &id, None, None, None).await.unwrap();
        assert_eq!((fork.turns, fork.queued), (0, 0), "what waits is nothing of a fork");
        let last = host.runs.wait(&caller(), &told[2].started, None).await.unwrap().unwrap().unwrap();
        assert_eq!(text(&last.bytes), "other [1,4,2]", "it is told what was over when it began");
        let fork = host.sessions.fork(&caller(), &id, Some(4), None, None).await.unwrap();
        assert_eq!(kept(&host.record, &fork.id).await, "l=4 m=4");
        let back = host.sessions.rewind(&caller(), &id, 2).await.unwrap();
        assert_eq!((back.turns, kept(&host.record, &id).await.as_str()), (1, "l=2 m=4"));
        let back = host.sessions.rewind(&caller(), &id, 1).await.unwrap();
        assert_eq!((back.turns, kept(&host.record, &id).await.as_str()), (2, "l=1"));
    });
}

#[test]
fn a_turn_that_never_began_says_nothing_of_who_held_the_conversation() {
    in_paused_time(async {
        let (_, host, id) = host().await;
        let first = tell(&host, &id, &caller(), "slow hand").await;
        let second = tell(&host, &id, &caller(), "never").await;
        host.sessions.cancel_turn(&caller(), &id, second.number).await.unwrap();
        host.runs.wait(&caller(), &first.started, None).await.unwrap().unwrap().unwrap();
        say(&host, &id, "a=3").await;
        let back = host.sessions.rewind(&caller(), &id, 1).await.unwrap();
        assert_eq!(back.session.holder.map(|holder| holder.agent.to_string()).as_deref(), Some("other"));
    });
}
