//! Conversations that go from agent to agent: one holds it, whoever dies in between.

use std::time::Duration;

use ltmc_model::call::coordination::{HandBack, HandOff, Received};
use ltmc_model::call::session::History;
use ltmc_model::effect::Refusal;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Event;
use ltmc_model::run::Target;
use ltmc_model::session::{IfBusy, Session, Settings};
use ltmc_model::{Digest, Payload, RunId, SessionId};
use ltmc_orchestration::{SayRequest, TurnView};
use ltmc_ports::testing::{Fault, MemoryRecord};
use ltmc_ports::{ReadJournal as _, ReadSessions as _};
use ltmc_tenancy::Error;

use crate::crash::{Case, Left, crash_at_every_step, every_way};
use crate::guest::{Guest, Script, agent, may_pass, text};
use crate::host::{Host, Request, World, caller, in_paused_time, tenant};

const DAY: u64 = 24 * 60 * 60 * 1000;

fn desk(more: &str) -> String {
    format!("name: desk\nflow: {{hand-off: {{start: triage, among: [triage, refunds, tech]{more}}}}}")
}

fn hand_off(to: &str, passed: Option<&str>) -> HandOff {
    HandOff { to: to.parse().unwrap(), reason: format!("it is for {to}"), passed: passed.map(Payload::text) }
}

/// Says who answers, how it came to that one, and what it was told of before.
async fn answer(guest: &Guest) -> Result<Payload, Failure> {
    let handed = guest.sure(Received).await?;
    let before = guest.sure(History { last: 10 }).await?;
    let handed = handed.map_or_else(
        || "-".to_owned(),
        |it| {
            format!(
                "{}({}){}",
                it.from,
                it.reason,
                it.passed.map_or_else(String::new, |it| format!("+{}", text(&it.bytes)))
            )
        },
    );
    let turns: Vec<String> = before.iter().map(|it| it.turn.to_string()).collect();
    guest.put(format!("{}/{}", guest.job.agent, text(&guest.job.input.bytes)), "answered").await?;
    Ok(Payload::text(format!("{} {handed} [{}]", guest.job.agent, turns.join(","))))
}

/// Does what the message says: `to AGENT [WHAT]`, `back`, or answers.
async fn clerk(guest: Guest) -> Result<Payload, Failure> {
    let said = text(&guest.job.input.bytes).to_owned();
    let me = guest.job.agent.as_str().to_owned();
    // Each word is for one holder: `triage>refunds`.
    for order in said.split(' ') {
        let Some((who, to)) = order.split_once('>') else { continue };
        let (to, passed) = to.split_once('+').map_or((to, None), |(to, passed)| (to, Some(passed)));
        let is_new = guest.get(order).await?.is_none();
        if who != me || !is_new {
            continue;
        }
        guest.put(order, "done").await?;
        let handed = match to {
            "back" => guest.cross(HandBack { reason: "it is not mine".into(), passed: None }).await?,
            to => guest.cross(hand_off(to, passed)).await?,
        };
        return match handed {
            Ok(()) => Ok(Payload::text("nobody's answer")),
            Err(refusal) => Ok(Payload::text(format!("{me} kept it: {refusal:?}"))),
        };
    }
    answer(&guest).await
}

/// Hands it on and then goes on as if it held it still; the first time it fails after that.
async fn stubborn(guest: Guest) -> Result<Payload, Failure> {
    guest.sure(hand_off("tech", None)).await?;
    let refused = guest.cross(Received).await?;
    assert!(matches!(&refused, Err(Refusal::Invalid(why)) if why.starts_with("fenced")), "{refused:?}");
    assert!(guest.cross(hand_off("refunds", None)).await?.is_err(), "once is all");
    if guest.job.attempt == 1 { Err(may_pass("not yet")) } else { Ok(Payload::text("nobody's")) }
}

fn scripts() -> Vec<Script> {
    ["triage", "refunds", "tech"].map(|name| agent(name, clerk)).into()
}

async fn ask(document: &str, scripts: Vec<Script>, message: &str) -> (Result<Payload, Failure>, Vec<(String, String)>) {
    let world = World::new(scripts);
    let host = world.host(&world.record(Some(document)).await, []);
    let request = Request { input: Payload::text(message.to_owned()), ..Request::workflow("desk") };
    let answer = host.ask(&request).await.unwrap();
    (answer, handed(&host, host.run().await.unwrap()).await)
}

/// From whom to whom a run's conversation went.
async fn handed(host: &Host, run: RunId) -> Vec<(String, String)> {
    let journal = host.journal(run).await;
    let events = journal.into_iter().filter_map(|placed| match placed.entry.event {
        Event::HandedOff(handed) => Some((handed.from.to_string(), handed.to.to_string())),
        _ => None,
    });
    events.collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
}

#[test]
fn the_receiver_goes_on_with_the_same_message_and_answers() {
    in_paused_time(async {
        let (answer, went) = ask(&desk(""), scripts(), "triage>refunds+4711 refunds>tech").await;
        assert_eq!(answer, Ok(Payload::text("tech refunds(it is for tech) []")));
        assert_eq!(went, pairs(&[("triage", "refunds"), ("refunds", "tech")]));
        let (answer, went) = ask(&desk(""), scripts(), "triage>refunds refunds>back").await;
        assert_eq!(answer, Ok(Payload::text("triage refunds(it is not mine) []")));
        assert_eq!(went, pairs(&[("triage", "refunds"), ("refunds", "triage")]));
        let (answer, _) = ask(&desk(""), scripts(), "triage>refunds+4711").await;
        assert_eq!(answer, Ok(Payload::text("refunds triage(it is for refunds)+4711 []")));
    });
}

#[test]
fn what_cannot_be_leaves_the_conversation_where_it_is() {
    in_paused_time(async {
        for (more, message, why) in [
            ("", "triage>triage", "nobody hands it to themselves"),
            ("", "triage>stranger", "`stranger` is none of `refunds`, `tech`"),
            ("", "triage>back", "nobody handed this conversation"),
            (", pass: summary", "triage>refunds", "pass one"),
            (", pass: {fields: [order]}", "triage>refunds+4711", "pass a JSON object"),
            (", per-pair: 1", "triage>refunds+a refunds>back triage>refunds+b", "at most 1 times"),
            (", at-most: 1", "triage>refunds refunds>tech", "at most 1 hand-offs"),
        ] {
            let (answer, _) = ask(&desk(more), scripts(), message).await;
            let said = text(&answer.as_ref().unwrap().bytes).to_owned();
            assert!(said.contains("kept it") && said.contains(why), "{message}: {said}");
        }
        // One that works in no conversation holds none.
        let lone = "name: desk\nflow: {agent: triage}";
        let (answer, _) = ask(lone, scripts(), "triage>refunds").await;
        assert!(text(&answer.unwrap().bytes).contains("it holds no conversation"));
    });
}

#[test]
fn fields_that_are_not_named_do_not_pass() {
    in_paused_time(async {
        let message = r#"triage>refunds+{"order":7,"card":"secret"}"#;
        let (answer, _) = ask(&desk(", pass: {fields: [order]}"), scripts(), message).await;
        assert_eq!(answer, Ok(Payload::text(r#"refunds triage(it is for refunds)+{"order":7} []"#)));
    });
}

#[test]
fn an_attempt_that_fails_has_handed_nothing_on_and_one_that_did_does_nothing_more() {
    in_paused_time(async {
        let scripts = vec![agent("triage", stubborn), agent("refunds", clerk), agent("tech", clerk)];
        let document = format!(
            "{}\n  retry: {{attempts: 2}}",
            desk("").replace("flow: {hand-off: ", "flow:\n  hand-off: ").trim_end_matches('}').to_owned() + "}"
        );
        let (answer, went) = ask(&document, scripts, "hello").await;
        assert_eq!(went, pairs(&[("triage", "tech")]), "once, of the attempt that succeeded");
        assert_eq!(answer, Ok(Payload::text("tech triage(it is for tech) []")));
    });
}

#[test]
fn a_receiver_that_fails_fails_the_turn_and_what_is_done_in_its_place_answers() {
    in_paused_time(async {
        let fails = |_: Guest| async { Err(Failure::new(Code::AgentError, "no")) };
        let scripts = || vec![agent("triage", clerk), agent("refunds", fails), agent("tech", clerk)];
        let (answer, went) = ask(&desk(""), scripts(), "triage>refunds").await;
        assert_eq!(answer.unwrap_err().code, Code::AgentError);
        assert_eq!(went, pairs(&[("triage", "refunds")]));
        let document = format!(
            "{}\n  fallback: [{{agent: tech, id: instead}}]",
            desk("").replace("flow: {hand-off: ", "flow:\n  hand-off: ").trim_end_matches('}').to_owned() + "}"
        );
        let (answer, _) = ask(&document, scripts(), "triage>refunds").await;
        assert_eq!(answer, Ok(Payload::text("tech - []")), "who stands in holds no conversation");
    });
}

#[test]
fn whoever_dies_in_between_there_is_one_holder_and_each_does_its_part_once() {
    let message = "triage>refunds+4711 refunds>back";
    let request = Request { input: Payload::text(message), ..Request::workflow("desk") };
    crash_at_every_step(&Case { request, document: Some(desk("")), scripts: scripts(), side_by_side: false });
}

fn settings(idle: u64) -> Settings {
    let with = Target::Workflow("desk".parse().unwrap());
    let (if_busy, title) = (IfBusy::Enqueue, None);
    Settings { if_busy, queue: 8, idle, turn: DAY, title, ..Settings::new(with) }
}

async fn opened(host: &Host) -> SessionId {
    host.sessions.open(&caller(), settings(DAY), None).await.unwrap().id
}

async fn say(host: &Host, id: &SessionId, said: &str) -> Result<Payload, Failure> {
    let input = Payload::text(said.to_owned());
    let request_digest = Digest::of(said.as_bytes());
    let request = SayRequest { input, idempotency: Some(said.into()), request_digest, traceparent: None };
    let said = host.sessions.say(&caller(), id, request).await.unwrap();
    host.runs.wait(&caller(), &said.started, None).await.unwrap().unwrap()
}

async fn one(record: &MemoryRecord, id: &SessionId) -> Session {
    record.session(&tenant(), id).await.unwrap().unwrap()
}

fn holder(session: &Session) -> Option<&str> {
    session.holder.as_ref().map(|holder| holder.agent.as_str())
}

fn said(answer: Result<Payload, Failure>) -> String {
    text(&answer.unwrap().bytes).to_owned()
}

#[test]
fn the_holder_stays_over_turns_and_knows_from_whom_it_has_the_conversation() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(Some(&desk(""))).await, []);
        let id = opened(&host).await;
        assert_eq!(said(say(&host, &id, "hello").await), "triage - []");
        assert_eq!(holder(&one(&host.record, &id).await), None);
        assert_eq!(said(say(&host, &id, "triage>refunds+4711").await), "refunds triage(it is for refunds)+4711 [1]");
        let session = one(&host.record, &id).await;
        assert_eq!((holder(&session), session.epoch.0), (Some("refunds"), 3), "two turns, and it was handed on");
        assert_eq!(said(say(&host, &id, "and then?").await), "refunds triage(it is for refunds)+4711 [1,2]");
        assert_eq!(said(say(&host, &id, "refunds>back").await), "triage refunds(it is not mine) [1,2,3]");
        let history = host.sessions.history(&caller(), &id, 0, 10).await.unwrap();
        let went = |turn: &TurnView| turn.hand_offs.iter().map(|it| it.to.to_string()).collect::<Vec<_>>();
        assert_eq!(
            history.iter().map(went).collect::<Vec<_>>(),
            [vec![], vec!["refunds".into()], vec![], vec!["triage".to_owned()]]
        );
        assert!(history[3].hand_offs[0].back);
    });
}

#[test]
fn a_receiver_is_told_what_passes_of_the_conversation_and_no_more() {
    in_paused_time(async {
        for (more, told) in [("", "[1,2,3]"), (", pass: {last: 2}", "[2,3]"), (", pass: summary", "[]")] {
            let world = World::new(scripts());
            let host = world.host(&world.record(Some(&desk(more))).await, []);
            let id = opened(&host).await;
            for message in ["a", "b", "c"] {
                say(&host, &id, message).await.unwrap();
            }
            let answer = said(say(&host, &id, "triage>refunds+s").await);
            assert!(answer.ends_with(told), "{more}: {answer}");
            // Later it knows what was said since.
            let later = said(say(&host, &id, "e").await);
            let told = told.replace("3]", "3,4]").replace("[]", "[4]");
            assert!(later.ends_with(&told), "{more}: {later}");
        }
    });
}

#[test]
fn a_person_hands_it_on_between_turns_and_nobody_else_does() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(Some(&desk(""))).await, []);
        let id = opened(&host).await;
        let to = async |to: &str| host.sessions.hand_over(&caller(), &id, to.parse().unwrap(), "so".into()).await;
        let wrong = to("triage").await.unwrap_err().to_string();
        assert!(wrong.contains("nobody hands it to themselves"), "{wrong}");
        assert!(to("stranger").await.unwrap_err().to_string().contains("is none of"));
        to("tech").await.unwrap();
        assert_eq!(said(say(&host, &id, "hello").await), "tech - []");
        let agent = Settings { with: Target::Agent("triage".parse().unwrap()), ..settings(DAY) };
        let lone = host.sessions.open(&caller(), agent, None).await.unwrap().id;
        let refused = host.sessions.hand_over(&caller(), &lone, "tech".parse().unwrap(), "so".into()).await;
        assert!(refused.unwrap_err().to_string().contains("is not handed on"));
        let apart = Settings { if_busy: IfBusy::Rollback, ..settings(DAY) };
        assert!(matches!(host.sessions.open(&caller(), apart, None).await, Err(Error::Invalid { .. })));
    });
}

#[test]
fn a_conversation_that_nobody_goes_on_with_is_with_the_first_holder_again() {
    in_paused_time(async {
        let world = World::new(scripts());
        let host = world.host(&world.record(Some(&desk(", idle: 1h"))).await, []);
        let id = opened(&host).await;
        say(&host, &id, "triage>refunds").await.unwrap();
        tokio::time::sleep(Duration::from_secs(3_500)).await;
        assert!(said(say(&host, &id, "soon").await).starts_with("refunds"));
        tokio::time::sleep(Duration::from_secs(3_700)).await;
        assert_eq!(said(say(&host, &id, "later").await), "triage - [1,2]");
        assert!(said(say(&host, &id, "and soon after").await).starts_with("triage"), "it is with that one for good");
        tokio::time::sleep(Duration::from_secs(3_700)).await;
        host.sessions.hand_over(&caller(), &id, "tech".parse().unwrap(), "so".into()).await.unwrap();
        assert!(said(say(&host, &id, "by a person").await).starts_with("tech"), "a person's word is no idleness");
    });
}

/// What is said in a session's life with hand-offs, and who answers.
const LIFE: [(&str, &str); 4] =
    [("a", "triage"), ("triage>refunds+4711", "refunds"), ("b", "refunds"), ("refunds>back", "triage")];

#[test]
fn a_session_has_one_holder_whenever_a_host_dies() {
    for at in 1.. {
        let mut crashed = false;
        for (how, left) in every_way() {
            crashed |= in_paused_time(one_life(at, how, left));
        }
        if !crashed {
            assert!(at > 8, "four turns are more than eight appends");
            break;
        }
    }
}

/// Whether the crash came.
async fn one_life(at: u64, how: Fault, left: Left) -> bool {
    let world = World::new(scripts());
    let record = world.record(Some(&desk(""))).await;
    let id = opened(&world.host(&record, [])).await;
    let host = world.host(&record, [(at, how)]);
    let talk = async |host: &Host| {
        for (said, _) in LIFE {
            let request = SayRequest {
                input: Payload::text(said),
                idempotency: Some(said.into()),
                request_digest: Digest::of(said.as_bytes()),
                traceparent: None,
            };
            drop(host.sessions.say(&caller(), &id, request).await);
        }
    };
    talk(&host).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let crashed = host.line.is_dead();
    let record = match left {
        Left::Synced => record.crash(),
        Left::All => record.copy(),
    };
    drop(host);
    let next = world.host(&record, []);
    next.runs.recover().await.unwrap();
    talk(&next).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let session = one(&record, &id).await;
    let what = format!("{at} {how:?} {left:?}: {session:?}");
    assert!(session.is_idle() && session.turns == 4 && session.epoch.0 == 6, "{what}");
    assert_eq!(holder(&session), Some("triage"), "{what}");
    for (turn, (_, who)) in next.sessions.history(&caller(), &id, 0, 10).await.unwrap().iter().zip(LIFE) {
        let answer = turn.result.clone().unwrap().unwrap();
        assert!(text(&answer.bytes).starts_with(who), "{what}: {turn:?}");
        let went = handed(&next, turn.turn.run).await;
        assert_eq!(went.len(), usize::from(text(&turn.input.bytes).contains('>')), "{what}: {went:?}");
        assert!(record.run(&tenant(), turn.turn.run).await.unwrap().unwrap().state.is_final());
    }
    crashed
}
