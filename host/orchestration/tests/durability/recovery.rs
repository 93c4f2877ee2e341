//! What people do about a run: they change what a step gave or works on and resume it, restart it from a step, fork it. It comes to
//! what an undisturbed run would, wherever a host dies in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ltmc_model::agent::{Agent, AgentRef, Carry, Export};
use ltmc_model::caller::Caller;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Act, Amendment, Change, Event, Placed, Replayed};
use ltmc_model::manifest::Manifest;
use ltmc_model::memory::Drawer;
use ltmc_model::run::State;
use ltmc_model::{AgentName, Digest, Payload, RunId, Seq};
use ltmc_orchestration::{Changes, ForkFrom, ForkRequest, Started};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::testing::{MemoryRecord, sample};
use ltmc_ports::{ReadJournal as _, ReadMemory as _, WriteCatalog as _};
use ltmc_tenancy::Error;
use serde_json::{Value, json};

use crate::crash::{Left, every_way};
use crate::drawn::{self, Of};
use crate::guest::{Guest, Script, agent, validator};
use crate::host::{Answer, Host, Request, World, caller, in_paused_time, tenant};
use crate::patterns::documents;

/// A document made at random in which nothing undoes anything: a run that was undone begins anew.
fn drawn(seed: &mut u64, depth: u32) -> String {
    const UNDO: &str = ", compensate: {agent: c, id: ";
    let mut flow = drawn::drawn(Of::Agents, seed, depth);
    while let Some(at) = flow.find(UNDO) {
        let end = at + flow[at..].find('}').expect("it has an end") + 1;
        flow.replace_range(at..end, "");
    }
    flow
}

/// What agents give at these steps, whatever they would have given.
type Given = Arc<BTreeMap<String, Value>>;

/// Every agent that drawn documents name, as functions of their input alone.
fn scripts(given: &BTreeMap<String, Value>) -> Vec<Script> {
    let given: Given = Arc::new(given.clone());
    let told = |guest: &Guest, given: &Given| given.get(guest.job.step.as_str()).map(Payload::json);
    let mut scripts = Vec::new();
    for name in ["a", "b", "c", "d", "flaky", "pass", "say", "hand", "keep"] {
        let given = given.clone();
        scripts.push(agent(name, move |guest| {
            let given = told(&guest, &given);
            async move {
                let on = guest.job.input.to_value().map_err(|why| Failure::new(Code::AgentError, why))?;
                guest.count("done").await?;
                Ok(given.unwrap_or_else(|| Payload::json(&json!({"by": guest.job.step.to_string(), "on": on}))))
            }
        }));
    }
    scripts.push(agent("bad", move |guest| {
        let given = told(&guest, &given);
        async move { given.ok_or_else(|| Failure::new(Code::AgentError, "bad")) }
    }));
    scripts.push(validator("approve", |_| async { Ok(Vec::new()) }));
    scripts
}

fn request() -> Request {
    Request { input: Payload::json(&json!({"n": 3, "list": [1, 2, 3]})), ..Request::workflow("flow") }
}

fn world(given: &BTreeMap<String, Value>) -> World {
    World::new(scripts(given))
}

async fn host_of(world: &World, flow: &str) -> Host {
    world.host(&world.record(Some(&format!("name: flow\nflow: {flow}"))).await, [])
}

/// What an undisturbed run gives in which these steps give this.
fn undisturbed(flow: &str, given: &BTreeMap<String, Value>) -> Answer {
    in_paused_time(async { host_of(&world(given), flow).await.ask(&request()).await.unwrap() })
}

fn set(step: &str, value: &Value) -> Changes {
    vec![(step.to_owned(), Amendment::Output(Payload::json(value)))].into()
}

/// All of these.
fn both(changes: impl IntoIterator<Item = Changes>) -> Changes {
    changes.into_iter().flat_map(|changes| changes.steps).collect::<Vec<_>>().into()
}

async fn fork(host: &Host, of: RunId, from: ForkFrom, changes: Changes) -> Result<Started, Error> {
    let request = ForkRequest { from, changes, idempotency: Some("fork".into()), request_digest: Digest([7; 32]) };
    host.runs.fork(&caller(), of, request).await
}

async fn ended(host: &Host, started: &Started) -> Answer {
    host.runs.wait(&caller(), started, None).await.unwrap().unwrap()
}

fn all() -> ForkFrom {
    ForkFrom::Entry(None)
}

/// How a run ended, without the words for it.
fn outcome(answer: &Answer) -> Result<Value, (Code, Option<String>)> {
    let failed = |failure: &Failure| (failure.code, failure.step.as_ref().map(ToString::to_string));
    answer.as_ref().map(|output| output.to_value().unwrap()).map_err(failed)
}

/// The steps of agents that came to an end in a run, in order.
async fn over(host: &Host, run: RunId) -> Vec<String> {
    let ends = host.journal(run).await.into_iter().filter_map(|placed| match placed.entry.event {
        Event::StepCompleted { step, .. } | Event::StepFailed { step, .. } => Some(step.to_string()),
        _ => None,
    });
    ends.collect()
}

fn seeded(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 11
}

/// A step that failed and is said to have given something is as one that gave it: run after run, until nothing fails any more.
#[test]
fn a_run_that_is_amended_and_resumed_comes_to_what_an_undisturbed_one_would() {
    let mut mended = 0;
    for number in 0..documents() {
        let mut seed = seeded(number);
        let flow = drawn(&mut seed, 4);
        let mut given = BTreeMap::new();
        in_paused_time(async {
            let host = host_of(&world(&given), &flow).await;
            let mut answer = host.ask(&request()).await.unwrap();
            let run = host.run().await.unwrap();
            while let Err(Failure { code: Code::AgentError, step: Some(step), .. }) = answer.clone() {
                let value = json!({"instead": step.to_string()});
                host.runs.resume_with(&caller(), run, set(step.as_str(), &value)).await.unwrap();
                answer = host.ask(&request()).await.unwrap();
                assert!(given.insert(step.to_string(), value).is_none(), "{number}: {step} failed again in {flow}");
                mended += 1;
                let wanted = tokio::task::spawn_blocking({
                    let (flow, given) = (flow.clone(), given.clone());
                    move || undisturbed(&flow, &given)
                });
                assert_eq!(outcome(&answer), outcome(&wanted.await.unwrap()), "{number}: {given:?} in {flow}");
            }
        });
    }
    assert!(mended > 20, "only {mended} failures were mended");
}

/// A fork in which any step of a run is said to have given something else is as an undisturbed run in which it did.
#[test]
fn a_run_that_is_forked_and_amended_comes_to_what_an_undisturbed_one_would() {
    for number in 0..documents() {
        let mut seed = seeded(number) ^ 77;
        let flow = drawn(&mut seed, 4);
        if flow.contains("need: 2") {
            // Who was done first counts, and what somebody says was given is given last.
            continue;
        }
        let (step, value, answer) = in_paused_time(async {
            let host = host_of(&world(&BTreeMap::new()), &flow).await;
            let first = host.ask(&request()).await.unwrap();
            let run = host.run().await.unwrap();
            let steps = over(&host, run).await;
            let Some(step) = steps.get((seed >> 20) as usize % steps.len().max(1)).cloned() else {
                return (String::new(), Value::Null, first);
            };
            let value = json!({"instead": step});
            let forked = fork(&host, run, all(), set(&step, &value)).await.unwrap();
            let answer = ended(&host, &forked).await;
            assert_eq!(host.ask(&request()).await.unwrap(), first, "the other one is as it was");
            (step, value, answer)
        });
        let given = BTreeMap::from([(step.clone(), value)]);
        assert_eq!(outcome(&answer), outcome(&undisturbed(&flow, &given)), "{number}: {step} in {flow}");
    }
}

/// Wherever a run is forked, with nothing changed it comes to what it came to.
#[test]
fn a_run_that_is_forked_anywhere_comes_to_the_same() {
    for number in 0..documents() / 6 {
        let mut seed = seeded(number) ^ 5;
        let flow = drawn(&mut seed, 3);
        in_paused_time(async {
            let host = host_of(&world(&BTreeMap::new()), &flow).await;
            let first = host.ask(&request()).await.unwrap();
            let run = host.run().await.unwrap();
            let entries = host.journal(run).await.len() as u64;
            for at in 1..=entries {
                let request = ForkRequest {
                    from: ForkFrom::Entry(Some(Seq(at))),
                    changes: Changes::default(),
                    idempotency: None,
                    request_digest: Digest([0; 32]),
                };
                let forked = host.runs.fork(&caller(), run, request).await.unwrap();
                let answer = ended(&host, &forked).await;
                assert_eq!(outcome(&answer), outcome(&first), "{number}: at {at} of {entries} in {flow}");
                if at == entries / 2 {
                    let again = host.runs.fork(&caller(), forked.run, nothing()).await.unwrap();
                    assert_eq!(outcome(&ended(&host, &again).await), outcome(&first), "{number}: a fork of a fork");
                }
            }
            let audit = host.record.verify().await.unwrap();
            assert!(audit.damage.is_empty(), "{audit:?}");
        });
    }
}

/// A run that another one began is forked like any other: what it did up to there is not done again, and who began it goes on with the one
/// that it began.
#[test]
fn a_run_that_another_one_began_is_forked_anywhere_without_its_work_done_again() {
    in_paused_time(async {
        let documents = "name: outer\nflow: {sequence: [{workflow: inner, id: child}, {agent: pass}]}\n---\nname: inner\nflow: {sequence: [{agent: a}, \
                         {parallel: [{agent: b}, {agent: c}]}, {agent: d}]}";
        let world = world(&BTreeMap::new());
        let host = world.host(&world.record(Some(documents)).await, []);
        let whole = host.ask(&Request::workflow("outer")).await.unwrap().unwrap();
        let outer = host.run().await.unwrap();
        let child = host.runs.get(&caller(), outer).await.unwrap().children[0].id;
        let (entries, before) = (host.journal(child).await.len() as u64, host.journal(outer).await);
        for at in 2..=entries {
            let done = |placed: &Placed| matches!(placed.entry.event, Event::StepCompleted { .. });
            let done = host.journal(child).await.iter().take(at as usize).filter(|placed| done(placed)).count();
            let ran = host.sandbox.ran().len();
            let from = ForkFrom::Entry(Some(Seq(at)));
            let forked = host.runs.fork(&caller(), child, ForkRequest { from, ..nothing() }).await.unwrap();
            assert!(ended(&host, &forked).await.is_ok(), "at {at} of {entries}");
            // Of two that change the same key one begins again.
            let made: std::collections::BTreeSet<_> = host.sandbox.ran().split_off(ran).into_iter().collect();
            assert_eq!(made.len(), 4 - done, "at {at}: what was done is not done again: {made:?}");
            let view = host.runs.get(&caller(), forked.run).await.unwrap();
            assert!(view.parent.is_none(), "nobody waits for it");
        }
        assert_eq!(host.journal(outer).await, before, "who began the other one hears nothing of it");
        assert_eq!(host.ask(&Request::workflow("outer")).await.unwrap().unwrap(), whole);
        assert!(host.record.verify().await.unwrap().damage.is_empty());
    });
}

fn nothing() -> ForkRequest {
    ForkRequest { from: all(), changes: Changes::default(), idempotency: None, request_digest: Digest([0; 32]) }
}

const FLOW: &str = "{sequence: [{agent: a}, {parallel: [{sequence: [{agent: b}, {agent: c}]}, {agent: d}]}, {agent: bad}, {agent: pass}]}";

fn ran(host: &Host) -> Vec<String> {
    host.sandbox.ran().into_iter().map(|(step, _)| step.to_string()).collect()
}

#[test]
fn what_came_before_and_beside_is_not_done_again() {
    in_paused_time(async {
        let host = host_of(&world(&BTreeMap::new()), FLOW).await;
        assert!(host.ask(&request()).await.unwrap().is_err());
        let run = host.run().await.unwrap();
        let before = ran(&host).len();
        let amendments = both([set("b", &json!("other")), set("bad", &json!("good"))]);
        host.runs.resume_with(&caller(), run, amendments).await.unwrap();
        let answer = host.ask(&request()).await.unwrap().unwrap().to_value().unwrap();
        assert_eq!(answer["on"], "good");
        assert_eq!(
            ran(&host)[before..],
            ["0/1/0/1", "0/3"],
            "what came after `b` in its branch, and after the step that failed"
        );
        let journal = host.journal(run).await;
        let amended = journal.iter().filter_map(|placed| match &placed.entry.event {
            Event::Amended(amended) => Some((amended.step.as_str(), amended.by.clone(), amended.was.is_some())),
            _ => None,
        });
        let amended: Vec<_> = amended.collect();
        let by = caller().key;
        assert_eq!(amended, [("0/1/0/0", by.clone(), true), ("0/2", by, false)], "it is journaled who changed what");
    });
}

#[test]
fn a_step_is_made_again_on_what_somebody_gives_it() {
    in_paused_time(async {
        let host = host_of(&world(&BTreeMap::new()), "{sequence: [{agent: a}, {agent: b}, {agent: bad}]}").await;
        assert!(host.ask(&request()).await.unwrap().is_err());
        let run = host.run().await.unwrap();
        let input = vec![("b".to_owned(), Amendment::Input(Payload::json(&json!("mine"))))].into();
        let again = ForkFrom::Step { step: "a".into(), cancel: false };
        let forked = fork(&host, run, again, both([input, set("bad", &json!("x"))])).await.unwrap();
        assert_eq!(ended(&host, &forked).await.unwrap().to_value().unwrap(), "x");
        let view = host.runs.get(&caller(), forked.run).await.unwrap();
        assert_eq!(view.forked.map(|forked| forked.of), Some(run));
        let given = host.journal(forked.run).await.into_iter().find_map(|placed| match placed.entry.event {
            Event::StepCompleted { step, output, .. } if step.as_str() == "0/1" => Some(output.to_value().unwrap()),
            _ => None,
        });
        assert_eq!(given.unwrap()["on"], "mine");
        assert_eq!(host.runs.get(&caller(), run).await.unwrap().state, State::Failed, "the old one is as it was");
    });
}

/// Every host dies at every append of it; the client asks again, and there is one run that went on as was asked for.
fn crash_at_every_append(ask: impl AsyncFn(&Host, RunId) -> Result<Option<RunId>, Error>, wanted: &Value) {
    let mut appends = 0;
    for at in 1.. {
        let mut crashed = false;
        for (how, left) in every_way() {
            crashed |= in_paused_time(async {
                let world = world(&BTreeMap::new());
                let record = world.record(Some(&format!("name: flow\nflow: {FLOW}"))).await;
                let host = world.host(&record, []);
                assert!(host.ask(&request()).await.unwrap().is_err());
                let run = host.run().await.unwrap();
                record.sync();
                let host = world.host(&record.copy(), [(at, how)]);
                if let Ok(forked) = ask(&host, run).await {
                    settle(&host, forked.unwrap_or(run)).await;
                }
                let died = host.line.is_dead();
                let left = if left == Left::Synced { host.record.crash() } else { host.record.copy() };
                let next = world.host(&left, []);
                next.runs.recover().await.unwrap();
                let forked = match ask(&next, run).await {
                    Ok(forked) => forked,
                    // It was done by then.
                    Err(Error::Conflict { .. }) => None,
                    Err(error) => panic!("{how:?} at {at}: {error:?}"),
                };
                let run = forked.unwrap_or(run);
                settle(&next, run).await;
                let output = next.runs.output(&caller(), run).await.unwrap().unwrap().unwrap();
                assert_eq!(output.to_value().unwrap(), *wanted, "{how:?} at {at}");
                let runs = next.record.runs(&tenant(), &RunFilter { limit: 10, ..RunFilter::default() }).await.unwrap();
                assert_eq!(runs.len(), 1 + usize::from(forked.is_some()), "{how:?} at {at}");
                let audit = left_whole(&next.record).await;
                assert!(audit.is_empty(), "{how:?} at {at}: {audit}");
                died
            });
        }
        if !crashed {
            break;
        }
        appends = at;
    }
    assert!(appends >= 2, "only {appends} appends");
}

async fn left_whole(record: &MemoryRecord) -> String {
    let audit = record.verify().await.unwrap();
    if audit.damage.is_empty() { String::new() } else { format!("{audit:?}") }
}

/// Waits until a run is over here, or the host is dead.
async fn settle(host: &Host, run: RunId) {
    for _ in 0..600 {
        let row = host.record.run(&tenant(), run).await.unwrap();
        if host.line.is_dead() || row.is_some_and(|row| row.state.is_over()) && host.runs.alive() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("run {run} does not end");
}

#[test]
fn crash_at_every_append_of_a_run_that_is_amended_and_resumed() {
    let given = BTreeMap::from([("0/0".to_owned(), json!("mine")), ("0/2".to_owned(), json!("good"))]);
    let wanted = undisturbed(FLOW, &given).unwrap().to_value().unwrap();
    crash_at_every_append(
        async |host, run| {
            let amendments = both([set("a", &json!("mine")), set("bad", &json!("good"))]);
            host.runs.resume_with(&caller(), run, amendments).await.map(|_| None)
        },
        &wanted,
    );
}

#[test]
fn crash_at_every_append_of_a_run_that_is_restarted() {
    let given = BTreeMap::from([("0/2".to_owned(), json!("good"))]);
    let wanted = undisturbed(FLOW, &given).unwrap().to_value().unwrap();
    crash_at_every_append(
        async |host, run| {
            let from = ForkFrom::Step { step: "b".into(), cancel: false };
            fork(host, run, from, set("bad", &json!("good"))).await.map(|started| Some(started.run))
        },
        &wanted,
    );
}

/// From here on what is called `bad` can be what `pass` is.
async fn push_another(record: &MemoryRecord) -> AgentRef {
    push_as(record, "bad", "pass").await
}

/// From here on there is a version of an agent that is what another one is.
async fn push_as(record: &MemoryRecord, name: &str, other: &str) -> AgentRef {
    let (name, digest): (AgentName, _) = (name.parse().unwrap(), Digest::of(other.as_bytes()));
    let (manifest, exports, pushed_at) = (Manifest::default(), vec![Export::Agent], sample::at(0));
    let pushed = Agent { name: name.clone(), digest, manifest, exports, size: 1, pushed_at };
    let grants = ["log", "memory:read:*", "memory:write:*"].map(|grant| grant.parse().unwrap()).to_vec();
    let granted = Change::GrantsSet { agent: name.clone(), grants, digest: Some(digest), carry: Some(Carry::Never) };
    for change in [Change::AgentPushed(pushed), granted] {
        record.act(&tenant(), sample::at(0), Act { by: None, change }).await.unwrap();
    }
    AgentRef { name, digest: Some(digest) }
}

#[test]
fn a_run_goes_on_with_another_version_of_an_agent() {
    in_paused_time(async {
        let world = world(&BTreeMap::new());
        let host = host_of(&world, FLOW).await;
        assert!(host.ask(&request()).await.unwrap().is_err());
        let run = host.run().await.unwrap();
        let other = push_another(&host.record).await;
        let host = world.host(&host.record.copy(), []);
        let by = |agent: &AgentRef| Changes { agents: vec![agent.clone()], ..Changes::default() };
        let nobody = AgentRef { digest: Some(Digest::of(b"a")), ..other.clone() };
        let stranger = AgentRef { name: "flaky".parse().unwrap(), digest: Some(Digest::of(b"flaky")) };
        for (agent, says) in [(&nobody, "there is no version"), (&stranger, "no step of this run")] {
            let refused = host.runs.resume_with(&caller(), run, by(agent)).await.unwrap_err();
            assert!(refused.to_string().contains(says), "{refused}");
        }
        host.runs.resume_with(&caller(), run, by(&other)).await.unwrap();
        assert!(host.ask(&request()).await.unwrap().is_ok());
        let view = host.runs.get(&caller(), run).await.unwrap();
        assert_eq!(view.agents.get(&other.name), other.digest.as_ref());
        let replaced =
            host.journal(run).await.into_iter().any(
                |placed| matches!(placed.entry.event, Event::AgentReplaced { to, .. } if Some(to) == other.digest),
            );
        assert!(replaced, "the journal says so");
    });
}

/// What an agent does up to its checkpoint: a line, a look at the clock and at the memory, and two numbers.
async fn first_part(guest: &Guest) -> Result<(), Failure> {
    guest.log("begun").await?;
    guest.put("at", format!("{:?}", guest.now())).await?;
    guest.count("count").await?;
    guest.checkpoint().await
}

/// `bad` makes a checkpoint and fails; the others are what people put in its place.
fn versions() -> World {
    let mut scripts = scripts(&BTreeMap::new());
    scripts.retain(|script| script.name.as_str() != "bad");
    scripts.push(agent("bad", |guest| async move {
        first_part(&guest).await?;
        guest.count("lost").await?;
        Err(Failure::new(Code::AgentError, "bad"))
    }));
    scripts.push(agent("same", |guest| async move {
        first_part(&guest).await?;
        guest.count("more").await?;
        Ok(Payload::json(&json!({"same": guest.job.input.to_value().unwrap()})))
    }));
    scripts.push(agent("longer", |guest| async move {
        first_part(&guest).await?;
        guest.compute(u64::MAX >> 20).await;
        Ok(Payload::json(&json!("never")))
    }));
    scripts.push(agent("other", |guest| async move {
        guest.put("at", format!("{:?}", guest.now())).await?;
        guest.count("another").await?;
        guest.checkpoint().await?;
        Ok(Payload::json(&json!("other")))
    }));
    scripts.push(agent("shorter", |guest| async move {
        guest.put("at", format!("{:?}", guest.now())).await?;
        Ok(Payload::json(&json!("shorter")))
    }));
    scripts.push(agent("broken", |_| async move { Err(Failure::new(Code::AgentTrapped, "it broke")) }));
    World::new(scripts)
}

fn by(agent: &AgentRef, steps: Vec<(String, Amendment)>) -> Changes {
    Changes { agents: vec![agent.clone()], ..steps.into() }
}

async fn kept(host: &Host, key: &str) -> Option<String> {
    let session =
        Drawer::Session(host.record.run(&tenant(), host.run().await.unwrap()).await.unwrap().unwrap().session);
    let found = host.record.get(&tenant(), &session, key, sample::at(0)).await.unwrap();
    found.map(|item| String::from_utf8(item.value.to_vec()).unwrap())
}

#[test]
fn another_version_goes_on_only_where_it_does_what_the_one_before_did() {
    in_paused_time(async {
        let world = versions();
        let host = host_of(&world, FLOW).await;
        assert!(host.ask(&request()).await.unwrap().is_err());
        let run = host.run().await.unwrap();
        let mut versions = BTreeMap::new();
        for name in ["same", "longer", "other", "shorter", "broken"] {
            versions.insert(name, push_as(&host.record, "bad", name).await);
        }
        let host = world.host(&host.record.copy(), []);
        let before = host.journal(run).await;
        for (name, says) in [
            (
                "other",
                "at host call 2, which is memory.get (session/another), where the journal has memory.get (session/count)",
            ),
            ("shorter", "before host call 2, which was memory.get (session/count): it comes to its end"),
            ("broken", "before host call 1, which was memory.put (session/at (24 bytes)): agent-trapped: it broke"),
        ] {
            let refused = host.runs.resume_with(&caller(), run, by(&versions[name], vec![])).await.unwrap_err();
            let told = format!("{refused:?}");
            assert!(told.contains("step 0/2 is in the middle of its work, with 4 host calls"), "{name}: {told}");
            assert!(refused.to_string().contains(says), "{name}: {refused}");
        }
        assert_eq!(host.journal(run).await.len(), before.len(), "nothing was written");
        assert_eq!(host.runs.get(&caller(), run).await.unwrap().agents[&versions["same"].name], Digest::of(b"bad"));
        assert_eq!((kept(&host, "count").await.as_deref(), kept(&host, "another").await), (Some("1"), None));

        // What it does after its last checkpoint is not waited for.
        let other = world.host(&host.record.copy(), []);
        let replayed = [Replayed { step: "0/2".parse().unwrap(), calls: 4 }];
        assert_eq!(other.runs.resume_with(&caller(), run, by(&versions["longer"], vec![])).await.unwrap(), replayed);

        assert_eq!(host.runs.resume_with(&caller(), run, by(&versions["same"], vec![])).await.unwrap(), replayed);
        let answer = host.ask(&request()).await.unwrap().unwrap().to_value().unwrap();
        assert!(answer["on"]["same"].is_array(), "{answer}");
        let counts = [kept(&host, "count").await, kept(&host, "more").await, kept(&host, "lost").await];
        assert_eq!(counts, [Some("1".into()), Some("1".into()), None], "nothing was done twice");
        let told = host.journal(run).await.into_iter().find_map(|placed| match placed.entry.event {
            Event::AgentReplaced { replayed, .. } => Some(replayed),
            _ => None,
        });
        assert_eq!(told.unwrap(), replayed);
    });
}

#[test]
fn where_there_is_nothing_to_be_made_again_a_version_takes_over_and_it_is_said() {
    in_paused_time(async {
        let world = versions();
        let host = host_of(&world, FLOW).await;
        assert!(host.ask(&request()).await.unwrap().is_err());
        let run = host.run().await.unwrap();
        let other = push_another(&host.record).await;
        let anew = |changes: Vec<(String, Amendment)>| {
            let (world, record, other) = (&world, host.record.copy(), &other);
            async move {
                let host = world.host(&record, []);
                let replayed = host.runs.resume_with(&caller(), run, by(other, changes)).await.unwrap();
                (replayed, host.ask(&request()).await.unwrap().unwrap().to_value().unwrap())
            }
        };
        // The step itself begins at its beginning.
        let (replayed, answer) = anew(vec![("bad".into(), Amendment::Input(Payload::json(&json!("anew"))))]).await;
        assert!(replayed.is_empty() && answer["on"]["on"] == "anew", "{answer}");
        // So does what comes after one that is changed.
        let (replayed, answer) = anew(vec![("a".into(), Amendment::Output(Payload::json(&json!("mine"))))]).await;
        assert!(replayed.is_empty() && answer["on"]["by"] == "0/2", "{answer}");
        // And what is done already.
        let (replayed, answer) = anew(vec![("bad".into(), Amendment::Output(Payload::json(&json!("done"))))]).await;
        assert!(replayed.is_empty() && answer["on"] == "done", "{answer}");
    });
}

#[test]
fn a_fork_and_a_paused_run_are_rehearsed_as_a_failed_one_is() {
    in_paused_time(async {
        let world = versions();
        let host = host_of(&world, FLOW).await;
        assert!(host.ask(&request()).await.unwrap().is_err());
        let run = host.run().await.unwrap();
        let (same, other) = (push_as(&host.record, "bad", "same").await, push_as(&host.record, "bad", "other").await);
        let host = world.host(&host.record.copy(), []);
        let refused = fork(&host, run, all(), by(&other, vec![])).await.unwrap_err();
        assert!(refused.to_string().contains("at host call 2"), "{refused}");
        let forked = fork(&host, run, all(), by(&same, vec![])).await.unwrap();
        assert!(host.runs.wait(&caller(), &forked, None).await.unwrap().unwrap().is_ok());

        // `longer` is in the middle of its work when somebody pauses it.
        let host =
            world.host(&world.record(Some(&format!("name: flow\nflow: {FLOW}").replace("bad", "longer"))).await, []);
        let started = host.start(&request()).await.unwrap();
        assert_eq!(host.runs.wait(&caller(), &started, Some(Duration::from_secs(5))).await.unwrap(), None);
        host.runs.pause(&caller(), started.run).await.unwrap();
        let (same, other) =
            (push_as(&host.record, "longer", "same").await, push_as(&host.record, "longer", "other").await);
        let refused = host.runs.resume_with(&caller(), started.run, by(&other, vec![])).await.unwrap_err();
        assert!(refused.to_string().contains("at host call 2"), "{refused}");
        let replayed = host.runs.resume_with(&caller(), started.run, by(&same, vec![])).await.unwrap();
        assert_eq!(replayed, [Replayed { step: "0/2".parse().unwrap(), calls: 4 }]);
        assert!(host.ask(&request()).await.unwrap().is_ok());
    });
}

/// What failed and was handled is not made again; of items that are made one after the other it is not known what a later one would be given.
#[test]
fn only_what_is_made_next_is_rehearsed() {
    in_paused_time(async {
        let resumed = async |flow: &str| {
            let world = versions();
            let host = host_of(&world, flow).await;
            assert!(host.ask(&request()).await.unwrap().is_err());
            let run = host.run().await.unwrap();
            let same = push_as(&host.record, "bad", "same").await;
            world.host(&host.record.copy(), []).runs.resume_with(&caller(), run, by(&same, vec![])).await
        };
        let handled = "{sequence: [{agent: bad, fallback: [{agent: pass, id: p}]}, {agent: bad, id: again}]}";
        assert_eq!(resumed(handled).await.unwrap(), [Replayed { step: "0/1".parse().unwrap(), calls: 4 }]);
        let refused = resumed("{map: $.input.list, do: {agent: bad}, at-once: 1, tolerate: 2}").await.unwrap_err();
        assert!(refused.to_string().contains("it is not its turn yet"), "{refused}");
    });
}

#[test]
fn of_two_who_amend_at_once_one_does() {
    in_paused_time(async {
        let host = host_of(&world(&BTreeMap::new()), FLOW).await;
        assert!(host.ask(&request()).await.unwrap().is_err());
        let run = host.run().await.unwrap();
        let by = async |value: &str| host.runs.resume_with(&caller(), run, set("bad", &json!(value))).await;
        let (one, other) = tokio::join!(by("one"), by("other"));
        let won = match (&one, &other) {
            (Ok(_), Err(Error::Conflict { .. })) => "one",
            (Err(Error::Conflict { .. }), Ok(_)) => "other",
            both => panic!("{both:?}"),
        };
        let answer = host.ask(&request()).await.unwrap().unwrap().to_value().unwrap();
        assert_eq!(answer["on"], won);
        let amended = host.journal(run).await.iter().filter(|placed| placed.entry.event.kind() == "amended").count();
        assert_eq!(amended, 1);
    });
}

#[test]
fn a_fork_that_is_asked_for_twice_is_one_run() {
    in_paused_time(async {
        let host = host_of(&world(&BTreeMap::new()), FLOW).await;
        assert!(host.ask(&request()).await.unwrap().is_err());
        let run = host.run().await.unwrap();
        let (one, other) =
            tokio::join!(fork(&host, run, all(), Changes::default()), fork(&host, run, all(), Changes::default()));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.run, other.run);
        assert!(one.attached != other.attached);
    });
}

#[test]
fn what_does_not_fit_the_run_changes_nothing() {
    in_paused_time(async {
        let flow = "{sequence: [{agent: a, validate: {json-schema: {required: [by]}}}, {map: $.input.list, do: {agent: b}, id: m}, \
                    {loop: {agent: c}, at-most: 2}, {choice: [{when: {pick: $.input.n, equals: 3}, do: {agent: d}}, {else: {agent: flaky}}]}, \
                    {agent: pass, when: {pick: $.input.n, equals: 4}}, {agent: bad, validate: {agent: approve}}]}";
        let host = host_of(&world(&BTreeMap::new()), flow).await;
        assert!(host.ask(&request()).await.unwrap().is_err());
        let run = host.run().await.unwrap();
        let before = host.journal(run).await;
        for (step, says) in [
            ("nobody", "there is no step `nobody` in this run; there are `a`, "),
            ("0/9", "there is nothing at 0/9"),
            ("m", "at 0/1 stands `map`"),
            ("b", "such as 0/1/N with a number for each N"),
            ("0/1/3", "has 3 items, of which 3 is none"),
            ("0/2/7", "and 7 is none of these: counted from 0 on"),
            ("flaky", "took the one at 0/3/0, not the one at 0/3/1"),
            ("pass", "0/4 is skipped"),
            ("0/5/0", "an output is judged"),
            ("a", "the step's schema does not take it"),
        ] {
            let refused = host.runs.resume_with(&caller(), run, set(step, &json!({}))).await.unwrap_err();
            let Error::Invalid { code, message, field, .. } = refused else { panic!("{step}: {refused:?}") };
            assert_eq!((code, field), ("bad-recovery", Some(format!("set.{step}"))), "{message}");
            assert!(message.contains(says), "{step}: {message}");
        }
        let at = |seq| ForkRequest { from: ForkFrom::Entry(Some(Seq(seq))), ..nothing() };
        for seq in [0, 10_000] {
            let refused = host.runs.fork(&caller(), run, at(seq)).await.unwrap_err();
            assert!(matches!(refused, Error::Invalid { code: "bad-recovery", .. }), "{refused:?}");
        }
        assert_eq!(host.journal(run).await, before);
        let stranger =
            Caller { key: "zzzzzzzzzzzz".parse().unwrap(), role: ltmc_model::caller::Role::Caller, ..caller() };
        for refused in [
            host.runs.resume_with(&stranger, run, Changes::default()).await.unwrap_err(),
            host.runs.fork(&stranger, run, nothing()).await.map(drop).unwrap_err(),
            host.runs.why(&stranger, run).await.map(drop).unwrap_err(),
            host.runs.diff(&stranger, [run, run], 0, 10).await.map(drop).unwrap_err(),
        ] {
            assert!(matches!(refused, Error::NotFound { .. }), "{refused:?}");
        }
    });
}

#[test]
fn a_run_that_is_under_way_is_cancelled_before_it_is_restarted_and_forked_where_it_is() {
    in_paused_time(async {
        let slow = agent("slow", |guest| async move {
            guest.put("mark", "begun").await?;
            guest.compute(3_600_000).await;
            Ok(guest.job.input.clone())
        });
        let mut scripts = scripts(&BTreeMap::new());
        scripts.push(slow);
        let world = World::new(scripts);
        let host = host_of(&world, "{sequence: [{agent: a}, {agent: slow}, {agent: b}]}").await;
        let started = host.start(&request()).await.unwrap();
        let patience = Some(std::time::Duration::from_secs(5));
        assert_eq!(host.runs.wait(&caller(), &started, patience).await.unwrap(), None);
        let refused = host.runs.resume_with(&caller(), started.run, set("a", &json!(1))).await.unwrap_err();
        assert!(matches!(refused, Error::Conflict { .. }), "{refused:?}");
        let restart = |cancel| ForkFrom::Step { step: "a".into(), cancel };
        let refused = fork(&host, started.run, restart(false), Changes::default()).await.map(drop).unwrap_err();
        assert!(refused.to_string().contains("is running: it is restarted once it is over"), "{refused}");

        let now = ForkRequest { changes: set("slow", &json!("done")), ..nothing() };
        let forked = host.runs.fork(&caller(), started.run, now).await.unwrap();
        assert_eq!(ended(&host, &forked).await.unwrap().to_value().unwrap()["on"], "done");
        assert_eq!(host.runs.get(&caller(), started.run).await.unwrap().state, State::Running, "it goes on");

        let again = fork(&host, started.run, restart(true), set("slow", &json!("done"))).await.unwrap();
        ended(&host, &again).await.unwrap();
        assert_eq!(host.runs.get(&caller(), started.run).await.unwrap().state, State::Cancelled);
        assert_eq!(host.runs.alive(), 0);
    });
}

/// What a step made true up to its checkpoint is not done again in a fork, and what comes after has randomness of its own.
#[test]
fn a_fork_goes_on_from_the_checkpoints_of_the_other() {
    in_paused_time(async {
        let steady = agent("steady", |guest| async move {
            let count = guest.count("count").await?;
            guest.checkpoint().await?;
            guest.compute(1_000).await;
            Ok(Payload::json(&json!({"count": count, "seed": guest.job.seed[..4]})))
        });
        let drawn = agent("drawn", |guest| async move { Ok(Payload::json(&json!(guest.job.seed[..4]))) });
        let world = World::new([steady, drawn]);
        let flow = "{parallel: {x: {agent: steady}, y: {sequence: [{agent: drawn}]}}}";
        let host = host_of(&world, flow).await;
        let first = host.ask(&request()).await.unwrap().unwrap().to_value().unwrap();
        let run = host.run().await.unwrap();
        let kept = host.journal(run).await.into_iter().find(|placed| placed.entry.event.kind() == "checkpoint");
        let at = ForkRequest { from: ForkFrom::Entry(Some(kept.unwrap().seq)), ..nothing() };
        let forked = host.runs.fork(&caller(), run, at).await.unwrap();
        let other = ended(&host, &forked).await.unwrap().to_value().unwrap();
        assert_eq!((&first["x"]["count"], &other["x"]["count"]), (&json!(1), &json!(1)), "it is not counted again");
        assert_eq!(first["x"]["seed"], other["x"]["seed"], "what is replayed is the same");
        let again = ForkFrom::Step { step: "drawn".into(), cancel: false };
        let again = fork(&host, run, again, Changes::default()).await.unwrap();
        let again = ended(&host, &again).await.unwrap().to_value().unwrap();
        assert_ne!(first["y"], again["y"], "what is done anew is drawn anew");
        assert_eq!(again["x"]["count"], 1, "and what stands beside it is not");
    });
}

#[test]
fn two_runs_are_compared_step_by_step() {
    in_paused_time(async {
        let host = host_of(&world(&BTreeMap::new()), FLOW).await;
        assert!(host.ask(&request()).await.unwrap().is_err());
        let run = host.run().await.unwrap();
        let amendments = both([set("b", &json!("other")), set("bad", &json!("good"))]);
        let forked = fork(&host, run, all(), amendments).await.unwrap();
        ended(&host, &forked).await.unwrap();
        let diff = host.runs.diff(&caller(), [run, forked.run], 0, 100).await.unwrap();
        let items: Vec<_> = diff.items.iter().map(|item| (item.called.step.as_str(), item.differs.clone())).collect();
        assert_eq!(items[0], ("0/1", vec!["output", "winners"]), "{items:?}");
        assert_eq!(items[1], ("0/1/0/0", vec!["output"]));
        assert_eq!(items[2], ("0/1/0/1", vec!["output", "attempts"]));
        assert_eq!(items[3], ("0/2", vec!["status", "output", "failure"]));
        assert_eq!(items[4], ("0/3", vec!["only-in-b"]));
        assert!(diff.same_document && diff.same_input && diff.same == 2, "{diff:?}");
        assert_eq!(diff.b.forked.map(|forked| forked.of), Some(run));
    });
}

/// How a run ends that was resumed.
async fn final_state(host: &Host, run: RunId) -> State {
    for _ in 0..1_000 {
        let row = host.record.run(&tenant(), run).await.unwrap().unwrap();
        if row.state.is_over() {
            return row.state;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it does not come to an end")
}

#[test]
fn what_people_or_another_run_should_have_given_is_said_in_its_place() {
    in_paused_time(async {
        for (node, given, wrong) in [
            (
                "{ask: {title: Well?, of: admin, schema: {type: integer}}, id: n, timeout: 1h}",
                json!(7),
                Some("integer"),
            ),
            ("{workflow: other, id: n, validate: {json-schema: {type: integer}}}", json!(7), Some("integer")),
            ("{workflow: other, id: n}", json!("any"), None),
            ("{plan: {agent: bad, may: [a]}, id: n}", json!([1]), None),
        ] {
            let world = world(&BTreeMap::new());
            let documents = format!(
                "name: flow\nflow: {{sequence: [{{agent: a}}, {node}, {{agent: b}}]}}\n---\nname: other\nflow: {{agent: bad}}"
            );
            let host = world.host(&world.record(Some(&documents)).await, []);
            host.start(&request()).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_secs(2 * 60 * 60)).await;
            let run = host.run().await.unwrap();
            assert_eq!(final_state(&host, run).await, State::Failed, "{node}");
            if let Some(says) = wrong {
                let refused = host.runs.resume_with(&caller(), run, set("n", &json!("no"))).await.unwrap_err();
                assert!(format!("{refused:?}").contains(says), "{node}: {refused:?}");
            }
            host.runs.resume_with(&caller(), run, set("n", &given)).await.unwrap();
            assert_eq!(final_state(&host, run).await, State::Completed, "{node}");
            let on = host.journal(run).await.into_iter().rev().find_map(|placed| match placed.entry.event {
                Event::StepCompleted { step, output, .. } if step.as_str() == "0/2" => output.to_value().ok(),
                _ => None,
            });
            assert_eq!(on.unwrap()["on"], given, "{node}");
        }
    });
}
