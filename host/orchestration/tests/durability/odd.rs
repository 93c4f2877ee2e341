//! What sessions and hand-offs make of what nobody should do: each gets its documented answer, and never a second turn at work, a second holder, or a queue
//! without end.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::call::coordination::HandOff;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Change};
use ltmc_model::run::{State, Target};
use ltmc_model::session::{IfBusy, Session, Settings, Stage};
use ltmc_model::{Digest, Payload, SessionId};
use ltmc_orchestration::{Said, SayRequest};
use ltmc_ports::testing::MemoryRecord;
use ltmc_ports::{ReadJournal as _, ReadMemory as _, ReadSessions as _, WriteCatalog as _};
use ltmc_tenancy::Error;

use crate::guest::{Guest, Script, agent, text};
use crate::host::{Host, World, caller, in_paused_time, tenant};

const MINUTE: Duration = Duration::from_secs(60);

/// Hands the conversation to whom the message names for it, as `one>two`; answers otherwise. `hangs` never answers.
async fn clerk(guest: Guest) -> Result<Payload, Failure> {
    let (me, said) = (guest.job.agent.to_string(), text(&guest.job.input.bytes).to_owned());
    if me == "hangs" {
        return std::future::pending().await;
    }
    let order = said.split(' ').find_map(|order| order.strip_prefix(&format!("{me}>")));
    let Some(to) = order else {
        guest.compute(20).await;
        let answered = guest.get("answered").await?.map_or(0, |item| text(&item.value).parse::<u32>().unwrap());
        guest.put("answered", (answered + 1).to_string()).await?;
        return Ok(Payload::text(format!("{me}: {said}")));
    };
    let asked = HandOff { to: to.parse().unwrap(), reason: "it is theirs".into(), passed: None };
    match guest.cross(asked).await? {
        Ok(()) => Ok(Payload::text("nobody's")),
        Err(refusal) => Ok(Payload::text(format!("{me} kept it: {refusal:?}"))),
    }
}

fn scripts() -> Vec<Script> {
    ["one", "two", "three", "hangs"].map(|name| agent(name, clerk)).into()
}

const DESK: &str =
    "name: desk\nflow: {hand-off: {start: one, among: [one, two, three, hangs], at-most: 5, per-pair: 3}}";

fn settings(if_busy: IfBusy) -> Settings {
    let with = Target::Workflow("desk".parse().unwrap());
    Settings { if_busy, turn: 10 * 60_000, ..Settings::new(with) }
}

async fn host(if_busy: IfBusy) -> (World, Arc<Host>, SessionId) {
    let world = World::new(scripts());
    let host = world.host(&world.record(Some(DESK)).await, []);
    let id = host.sessions.open(&caller(), settings(if_busy), None).await.unwrap().id;
    (world, Arc::new(host), id)
}

async fn say(host: &Host, id: &SessionId, said: &str) -> Result<Said, Error> {
    let (input, request_digest) = (Payload::text(said.to_owned()), Digest::of(said.as_bytes()));
    host.sessions.say(&caller(), id, SayRequest { input, idempotency: None, request_digest, traceparent: None }).await
}

async fn answer(host: &Host, said: &Said) -> Result<String, Failure> {
    let ended = host.runs.wait(&caller(), &said.started, None).await.unwrap().unwrap();
    ended.map(|answer| text(&answer.bytes).to_owned())
}

async fn told(host: &Host, id: &SessionId, said: &str) -> Result<String, Failure> {
    answer(host, &say(host, id, said).await.unwrap()).await
}

async fn one(record: &MemoryRecord, id: &SessionId) -> Session {
    record.session(&tenant(), id).await.unwrap().unwrap()
}

fn holder(session: &Session) -> Option<String> {
    session.holder.as_ref().map(|holder| holder.agent.to_string())
}

#[test]
fn a_ring_of_hand_offs_ends_where_it_may_not_go_on() {
    in_paused_time(async {
        let (_, host, id) = host(IfBusy::Enqueue).await;
        let came = told(&host, &id, "one>two two>three three>one").await.unwrap();
        // Five go, and the sixth is kept: there is one holder, who says so.
        assert!(came.starts_with("three kept it") && came.contains("at most 5 hand-offs"), "{came}");
        assert_eq!(holder(&one(&host.record, &id).await).as_deref(), Some("three"));
        assert_eq!(told(&host, &id, "hello").await.unwrap(), "three: hello");
    });
}

#[test]
fn one_who_hangs_has_the_conversation_until_its_turn_is_over_and_is_relieved_by_a_person() {
    in_paused_time(async {
        let (_, host, id) = host(IfBusy::Enqueue).await;
        let first = say(&host, &id, "one>hangs").await.unwrap();
        tokio::time::sleep(MINUTE).await;
        let second = say(&host, &id, "hello").await.unwrap();
        let busy = host.sessions.hand_over(&caller(), &id, "two".parse().unwrap(), "so".into()).await;
        assert!(matches!(busy, Err(Error::Busy { .. })), "{busy:?}");
        assert_eq!(answer(&host, &first).await.unwrap_err().code, Code::Cancelled);
        // The next turn is that one's, too, and has no longer.
        assert_eq!(answer(&host, &second).await.unwrap_err().code, Code::Cancelled);
        assert_eq!(holder(&one(&host.record, &id).await).as_deref(), Some("hangs"));
        host.sessions.hand_over(&caller(), &id, "two".parse().unwrap(), "it hangs".into()).await.unwrap();
        assert_eq!(told(&host, &id, "hello").await.unwrap(), "two: hello");
    });
}

#[test]
fn of_two_that_interrupt_at_once_one_is_done_and_no_two_are_at_work() {
    for lag in 0..20 {
        in_paused_time(async {
            let (_, host, id) = host(IfBusy::Interrupt).await;
            let first = say(&host, &id, "a").await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
            let both = [0, lag].map(|wait| {
                let (host, id) = (host.clone(), id.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                    say(&host, &id, &format!("b{wait}")).await.unwrap()
                })
            });
            let mut said = vec![first];
            for one in both {
                said.push(one.await.unwrap());
            }
            said.sort_by_key(|said| said.number);
            let mut ended = Vec::new();
            for said in &said {
                ended.push(answer(&host, said).await);
            }
            let last = ended.pop().unwrap();
            assert!(last.is_ok(), "after {lag} ms: {last:?}");
            let done = 1 + ended.iter().filter(|ended| ended.is_ok()).count();
            for ended in ended.into_iter().filter_map(Result::err) {
                assert!(ended.message.contains("interrupted by turn"), "{ended}");
                assert!(ended.message.contains(caller().key.as_str()), "whose message it was: {ended}");
            }
            let drawer = ltmc_model::memory::Drawer::Session(id.clone());
            let now = ltmc_model::Timestamp::from_millis(0);
            let counted = host.record.get(&tenant(), &drawer, "answered", now).await.unwrap().unwrap();
            assert_eq!(text(&counted.value), done.to_string(), "each that was done counted once");
        });
    }
}

#[test]
fn ten_thousand_messages_find_so_many_places() {
    in_paused_time(async {
        let (_, host, id) = host(IfBusy::Enqueue).await;
        let first = say(&host, &id, "one>hangs").await.unwrap();
        tokio::time::sleep(MINUTE).await;
        let (mut waits, mut refused) = (0, 0);
        for number in 0..10_000 {
            match say(&host, &id, &number.to_string()).await {
                Ok(said) if said.waits => waits += 1,
                Ok(said) => panic!("turn {} is at work beside another", said.number),
                Err(Error::Busy { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((waits, refused), (Settings::QUEUE, 10_000 - Settings::QUEUE));
        let session = one(&host.record, &id).await;
        assert_eq!((session.queued, session.turns, session.active.unwrap().run), (16, 17, first.started.run));
    });
}

#[test]
fn an_agent_that_was_deleted_takes_only_its_own_part_of_a_conversation_with_it() {
    in_paused_time(async {
        let (_, host, id) = host(IfBusy::Enqueue).await;
        let delete = async |name: &str| {
            let change = Change::AgentDeleted { name: name.parse().unwrap() };
            host.authority.act(&tenant(), None, change).await.unwrap();
        };
        delete("three").await;
        assert_eq!(told(&host, &id, "hello").await.unwrap(), "one: hello");
        let came = told(&host, &id, "one>three").await.unwrap();
        assert!(came.contains("one kept it: NotFound"), "{came}");
        assert_eq!(told(&host, &id, "one>two").await.unwrap(), "two: one>two");
        delete("two").await;
        assert_eq!(told(&host, &id, "hello").await.unwrap(), "one: hello", "it is with the first again");
        for name in ["one", "hangs"] {
            delete(name).await;
        }
        assert!(matches!(say(&host, &id, "hello").await, Err(Error::NotFound { .. })), "nobody is left");
    });
}

#[test]
fn whom_the_document_dropped_is_shown_as_the_holder_no_more() {
    in_paused_time(async {
        let (_, host, id) = host(IfBusy::Enqueue).await;
        told(&host, &id, "one>two").await.unwrap();
        let held = async || {
            let session = host.sessions.get(&caller(), &id).await.unwrap();
            host.sessions.holder(&session).await.unwrap().map(|holder| holder.to_string())
        };
        assert_eq!(held().await.as_deref(), Some("two"));
        let source = "name: desk\nflow: {hand-off: {start: one, among: [one, three]}}".to_owned();
        let (name, digest) = ("desk".parse().unwrap(), Digest::of(source.as_bytes()));
        let change = Change::WorkflowPut { name, source, digest, schedules: Vec::new(), triggers: Vec::new() };
        host.authority.act(&tenant(), None, change).await.unwrap();
        assert_eq!(held().await.as_deref(), Some("one"));
        assert_eq!(told(&host, &id, "hello").await.unwrap(), "one: hello");
        let history = host.sessions.history(&caller(), &id, 0, 10).await.unwrap();
        assert_eq!(history[1].first.as_ref().map(|agent| agent.as_str()), Some("one"), "who answered is told");
    });
}

#[test]
fn what_a_waiting_turn_is_advised_can_be_done() {
    in_paused_time(async {
        let (_, host, id) = host(IfBusy::Enqueue).await;
        say(&host, &id, "one>hangs").await.unwrap();
        let waits = say(&host, &id, "hello").await.unwrap();
        let why = host.runs.why(&caller(), waits.started.run).await.unwrap();
        let commands: Vec<_> = why.next.iter().map(|next| next.command.clone()).collect();
        assert_eq!(commands, [format!("ltmc session cancel {id} 2")]);
        host.sessions.cancel_turn(&caller(), &id, 2).await.unwrap();
        let turns = host.record.turns(&tenant(), &id, 0, 10).await.unwrap();
        assert_eq!(turns[1].stage, Stage::Over);
        let row = host.record.run(&tenant(), waits.started.run).await.unwrap().unwrap();
        assert_eq!(row.state, State::Cancelled);
    });
}

#[test]
fn the_same_request_forks_once_and_a_key_that_was_taken_back_takes_no_part() {
    in_paused_time(async {
        let (_, host, id) = host(IfBusy::Enqueue).await;
        told(&host, &id, "hello").await.unwrap();
        let gone = "gonegonegone".parse().unwrap();
        let change =
            Change::SessionPart { session: id.clone(), key: gone, part: Some(ltmc_model::session::Part::Observer) };
        host.record.act(&tenant(), ltmc_model::Timestamp::from_millis(1), Act { by: None, change }).await.unwrap();
        let fork = async |request: &str| {
            let request = Some(Digest::of(request.as_bytes()));
            host.sessions.fork(&caller(), &id, None, None, request).await.unwrap()
        };
        let (first, again, other) = (fork("a").await, fork("a").await, fork("b").await);
        assert!(first.id == again.id && first.id != other.id);
        assert!(first.settings.participants.is_empty() && first.turns == 1);
        let opens = async |request: &str| {
            let request = Some(Digest::of(request.as_bytes()));
            host.sessions.open(&caller(), settings(IfBusy::Reject), request).await.unwrap().id
        };
        assert!(opens("a").await == opens("a").await && opens("a").await != opens("b").await);
    });
}
