//! A host dies at every append, the next one takes the run up, and everything is as if nothing had happened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::run::State;
use ltmc_model::{Payload, RunId, Seq};
use ltmc_orchestration::Shown;
use ltmc_ports::journal::RunFilter;
use ltmc_ports::questions::QuestionFilter;
use ltmc_ports::testing::{Fault, MemoryRecord};
use ltmc_ports::{Append, Durability, ReadJournal as _, WriteJournal as _};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::guest::{Guest, Script, agent, may_pass, text, validator};
use crate::host::{Answer, Contents, Host, Request, World, caller, in_paused_time, shown, tenant};
use crate::story::{Story, claims};

/// Some work to be done.
pub(crate) struct Case {
    pub(crate) request: Request,
    pub(crate) document: Option<String>,
    pub(crate) scripts: Vec<Script>,
    /// Whether several steps may be at work at once.
    pub(crate) side_by_side: bool,
}

/// How a host dies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crash {
    /// At this append.
    pub(crate) at: u64,
    /// Just before it is in the record, or just after.
    pub(crate) how: Fault,
    pub(crate) left: Left,
}

/// What a crash leaves of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// What was on disk for sure.
    Synced,
    /// As luck has it, all of it.
    All,
}

/// How a case is played.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode {
    /// Somebody looks at the journal after every host call, which has it written.
    watched: bool,
    /// Every guest makes a checkpoint after each change.
    checkpoints: bool,
}

pub(crate) const PLAIN: Mode = Mode { watched: false, checkpoints: false };
pub(crate) const MODES: [Mode; 4] = [
    PLAIN,
    Mode { watched: true, checkpoints: false },
    Mode { watched: false, checkpoints: true },
    Mode { watched: true, checkpoints: true },
];

/// What was seen of one play.
pub(crate) struct Played {
    pub(crate) answer: Answer,
    pub(crate) memory: Contents,
    pub(crate) story: Story,
    /// The runs that it began.
    pub(crate) children: Vec<(String, State, Story)>,
    /// Whether every crash came.
    pub(crate) crashed: bool,
}

/// Runs a case undisturbed; then again and again, each time with the host killed at another append, right before or right
/// after it takes effect, with and without what was not on disk yet. Then a new host on what is left takes the run up, and
/// a client asks again with the same idempotency key. All of it must come out as in the undisturbed run: outcome, memory,
/// attempts, effects and log lines, each once. What anybody was told before the crash is still there after it, the dead
/// host's late writes are refused, and the chain is whole.
///
/// The same with somebody who looks at the journal after every host call: then every entry is an append of its own, and
/// what was looked at counts as told. And with and without a checkpoint after each change, from which it goes on.
pub(crate) fn crash_at_every_step(case: &Case) {
    crash_at_every_step_in(case, &MODES);
}

pub(crate) fn crash_at_every_step_in(case: &Case, modes: &[Mode]) {
    for mode in modes.iter().copied() {
        let undisturbed = in_paused_time(play(case, mode, &[]));
        let mut appends = 0;
        for at in 1.. {
            let mut crashed = false;
            for (how, left) in every_way() {
                let crash = Crash { at, how, left };
                let played = in_paused_time(play(case, mode, &[crash]));
                crashed |= played.crashed;
                compare(&played, &undisturbed, &format!("{mode:?}, {crash:?}"));
            }
            if !crashed {
                break;
            }
            appends = at;
        }
        assert!(appends >= 2, "a run is at least two appends, here {appends}");
    }
}

/// The same with two hosts that die, one after the other, each at any of its appends, in the same way
/// and in the most unlike one.
fn crash_twice_at_every_step(case: &Case) {
    let mode = Mode { checkpoints: true, ..PLAIN };
    let undisturbed = in_paused_time(play(case, mode, &[]));
    for first in 1.. {
        let mut crashed = false;
        for second in 1.. {
            let mut both = false;
            for (one, two) in every_way().zip(every_way()).chain(every_way().zip(opposite())) {
                let crashes = [(first, one), (second, two)].map(|(at, (how, left))| Crash { at, how, left });
                let played = in_paused_time(play(case, mode, &crashes));
                both |= played.crashed;
                compare(&played, &undisturbed, &format!("{crashes:?}"));
            }
            crashed |= both;
            if !both {
                break;
            }
        }
        if !crashed {
            assert!(first > 3, "a run is at least two appends and here it is more");
            return;
        }
    }
}

/// Every way, from the last to the first: the most unlike to each.
fn opposite() -> impl Iterator<Item = (Fault, Left)> {
    every_way().collect::<Vec<_>>().into_iter().rev()
}

pub(crate) fn every_way() -> impl Iterator<Item = (Fault, Left)> {
    let hows = [Fault::CrashBefore, Fault::CrashAfter];
    hows.into_iter().flat_map(|how| [Left::Synced, Left::All].map(|left| (how, left)))
}

pub(crate) fn compare(played: &Played, undisturbed: &Played, how: &str) {
    assert_eq!(played.answer, undisturbed.answer, "the outcome; {how}");
    assert_eq!(played.memory, undisturbed.memory, "the memory; {how}");
    assert_eq!(played.story, undisturbed.story, "the journal; {how}");
    assert_eq!(played.children, undisturbed.children, "the children; {how}");
}

/// Comes when a host has been dead for long: whoever asked it about a run that waits as a row is told nothing any more.
async fn long_dead(host: &Host) {
    while !host.line.is_dead() {
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    tokio::time::sleep(Duration::from_secs(2 * 60 * 60)).await;
}

/// Plays a case on one host after the other, each of which dies as is told, and the last of which lives.
pub(crate) async fn play(case: &Case, mode: Mode, crashes: &[Crash]) -> Played {
    let Mode { watched, checkpoints } = mode;
    let world = World::new(case.scripts.clone()).sealing_often();
    let world = if checkpoints { world.with_checkpoints() } else { world };
    let mut record = world.record(case.document.as_deref()).await;
    let mut dead: Vec<Host> = Vec::new();
    let mut crashed = true;
    for crash in crashes {
        let host = world.host(&record, [(crash.at, crash.how)]);
        let told = watch(&host, watched);
        let answering = answer_all(&host, case);
        host.runs.recover().await.unwrap();
        let answer = tokio::select! {
            biased;
            answer = host.ask(&case.request) => answer,
            () = long_dead(&host) => None,
        };
        drop(answering);
        let end_was_told = matches!(answer, Some(Ok(_)));
        crashed &= host.line.is_dead();
        record = match crash.left {
            Left::Synced => host.record.crash(),
            Left::All => host.record.copy(),
        };
        nothing_told_is_lost(&record, &taken(&told), end_was_told).await;
        dead.push(host);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }

    let host = world.host(&record, []);
    let told = watch(&host, watched);
    let answering = answer_all(&host, case);
    host.runs.recover().await.unwrap();
    let answer = host.ask(&case.request).await.expect("a host that lives tells the end");
    drop(answering);
    let told = taken(&told);
    nothing_told_is_lost(&host.record.crash(), &told, true).await;

    let run = host.run().await.expect("the run is there");
    let journal = host.journal(run).await;
    let row = record.run(&tenant(), run).await.unwrap().unwrap();
    assert_eq!(row.epoch.0, 1 + claims(&journal) as u64, "each owner has an epoch of its own");
    let undelivered = dead.iter().flat_map(|host| host.line.undelivered());
    // The beginning of a child that nobody knows of is taken: the next start ends it, for what began it is not there.
    let is_unknown_child = |late: &Append| late.run.parent.is_some() && late.previous.is_none();
    for late in undelivered.filter(|late| !is_unknown_child(late)) {
        let written = record.append(late, Durability::Lazy).await;
        written.expect_err("a dead host's write came late and was taken");
    }
    assert_eq!(host.journal(run).await, journal, "a dead host's write came late and left something");
    let audit = record.verify().await.unwrap();
    assert!(audit.damage.is_empty(), "{audit:?}");

    let again = world.host(&record.crash(), []);
    assert_eq!(again.runs.recover().await.unwrap().resumed, 0, "a run that is over is left alone");
    assert_eq!(again.ask(&case.request).await.as_ref(), Some(&answer), "who asks again is told the same");
    assert!(again.sandbox.ran().is_empty(), "what is told again is not done again");
    let children = host.children().await;
    assert!(children.iter().all(|(_, state, _)| state.is_over()), "a child outlives its parent: {children:?}");
    let story = Story::of(&journal);
    let story = if case.side_by_side { story.by_step() } else { story };
    assert!(!watched || !crashes.is_empty() || told.is_empty() == story.effects.is_empty(), "somebody did look");
    Played { answer, memory: world.memory(&record).await, story, children, crashed }
}

/// The place of the node that asks it; of a plan, that it may be done; of a conflict, that the key holds that place.
fn answer_to(asked: &ltmc_model::question::Asked) -> Value {
    match asked.question.title.as_str() {
        title if title.starts_with("May the plan") => json!(true),
        title if title.starts_with("Branches conflict") => json!({"value": asked.node}),
        _ => json!(asked.node),
    }
}

/// Somebody who answers every question with the place of the node that asks it, and approves of every plan.
fn answer_all(host: &Host, case: &Case) -> Option<AbortOnDropHandle<()>> {
    let asks =
        case.document.as_ref().is_some_and(|document| document.contains("ask:") || document.contains("approve:"));
    let (runs, line) = (host.runs.clone(), host.line.clone());
    let answering = async move {
        // Questions that come late have time.
        let mut wait = Duration::from_millis(50);
        while !line.is_dead() {
            let filter = QuestionFilter { limit: 100, ..QuestionFilter::default() };
            for asked in runs.questions(&caller(), filter).await.unwrap_or_default() {
                let given = ltmc_orchestration::Answer { answer: answer_to(&asked), comment: None };
                drop(runs.answer(&caller(), asked.token, given).await);
            }
            tokio::time::sleep(wait).await;
            wait = (wait + Duration::from_millis(50)).min(Duration::from_secs(10));
        }
    };
    asks.then(|| AbortOnDropHandle::new(tokio::spawn(answering)))
}

/// What was told of the journal of each run.
type Told = BTreeMap<RunId, Vec<Shown>>;

/// Looks at a run's journal after each of its host calls, and keeps what was told.
fn watch(host: &Host, watched: bool) -> Arc<Mutex<Told>> {
    let told = Arc::<Mutex<Told>>::default();
    if watched {
        let (runs, line, kept) = (host.runs.clone(), host.line.clone(), told.clone());
        host.sandbox.after_call(move |run| {
            let (runs, line, kept) = (runs.clone(), line.clone(), kept.clone());
            let look = async move {
                let found = runs.journal(&caller(), run, Seq(0), 100_000).await;
                // A dead host tells nothing.
                if let (Ok((found, _)), false) = (found, line.is_dead()) {
                    kept.lock().unwrap().insert(run, found);
                }
            };
            look.boxed()
        });
    }
    told
}

fn taken(told: &Mutex<Told>) -> Told {
    std::mem::take(&mut told.lock().unwrap())
}

async fn nothing_told_is_lost(record: &MemoryRecord, told: &Told, end_was_told: bool) {
    let filter = RunFilter { limit: 100, ..RunFilter::default() };
    let mut runs = record.runs(&tenant(), &filter).await.unwrap();
    runs.retain(|run| run.parent.is_none());
    for (run, told) in told {
        let journal = record.entries(&tenant(), *run, Seq(0), 100_000).await.unwrap();
        assert!(shown(&journal).starts_with(told), "{} entries were told, and not all of them are left", told.len());
    }
    assert!(
        !end_was_told || runs.iter().all(|run| run.state.is_over()) && !runs.is_empty(),
        "an end was told and is lost"
    );
}

/// Some of everything a guest can do; what it gives depends on what it was answered.
pub(crate) async fn work(guest: Guest) -> Result<Payload, Failure> {
    let step = guest.job.step.to_string().replace('/', "-");
    let begun = guest.now();
    guest.log(format!("step {step} begins")).await?;
    guest.compute(3).await;
    let count = guest.count("count").await?;
    guest.put(format!("clock/{step}"), begun.millis()).await?;
    guest.compute(2).await;
    guest.put(format!("draft/{step}"), "x").await?;
    let middle = guest.now();
    let kept = guest.get(format!("clock/{step}")).await?.map(|item| text(&item.value).to_owned());
    if kept != Some(begun.millis().to_string()) || middle < begun {
        return Err(Failure::new(
            Code::AgentError,
            format!("its clock showed {begun}, then {middle}; it kept {kept:?}"),
        ));
    }
    let keys = guest.list().await?;
    let existed = guest.delete(format!("draft/{step}")).await?;
    guest.log(format!("step {step} counted {count}")).await?;
    let before = guest.job.input.to_value().map_err(|why| Failure::new(Code::AgentError, why))?;
    Ok(Payload::json(&json!({ "count": count, "keys": keys, "existed": existed, "before": before })))
}

/// Finds nothing wrong with what it judges, and remembers that it looked.
fn approve() -> Script {
    validator("approve", |guest| async move {
        guest.count("judged").await?;
        guest.log("looked at").await?;
        guest.count("judged").await?;
        Ok(Vec::new())
    })
}

fn three_steps() -> Case {
    Case {
        request: Request::workflow("three"),
        document: Some("name: three\nflow: {sequence: [{agent: one}, {agent: two}, {agent: three}]}".into()),
        scripts: ["one", "two", "three"].map(|name| agent(name, work)).to_vec(),
        side_by_side: false,
    }
}

#[test]
fn crash_at_every_step_of_a_lone_call() {
    let scripts = vec![agent("one", work)];
    crash_at_every_step(&Case { request: Request::call("one"), document: None, scripts, side_by_side: false });
}

#[test]
fn crash_at_every_step_of_a_lone_call_without_effects() {
    let scripts = vec![agent("pure", |guest| async move { Ok(guest.job.input.clone()) })];
    crash_at_every_step(&Case { request: Request::call("pure"), document: None, scripts, side_by_side: false });
}

#[test]
fn crash_at_every_step_of_a_sequence_of_three() {
    crash_at_every_step(&three_steps());
}

#[test]
fn crash_at_every_step_of_a_nested_sequence() {
    let document = "name: nested\nflow:\n  sequence:\n  - sequence:\n    - agent: one\n    - sequence: [{agent: two}]\n  \
                    - sequence: [{agent: three, with: $.steps.one.output}]";
    let scripts = ["one", "two", "three"].map(|name| agent(name, work)).to_vec();
    crash_at_every_step(&Case {
        request: Request::workflow("nested"),
        document: Some(document.into()),
        scripts,
        side_by_side: false,
    });
}

#[test]
fn crash_at_every_step_of_a_sequence_that_is_validated() {
    let document = "name: validated\nflow:\n  sequence:\n  - agent: one\n    validate: {json-schema: {type: object, \
                    required: [count]}}\n  - agent: two\n    validate: {agent: approve}\n  - agent: three";
    let mut scripts = ["one", "two", "three"].map(|name| agent(name, work)).to_vec();
    scripts.push(approve());
    crash_at_every_step(&Case {
        request: Request::workflow("validated"),
        document: Some(document.into()),
        scripts,
        side_by_side: false,
    });
}

#[test]
fn crash_at_every_step_of_a_run_that_is_rejected() {
    let document = "name: rejected\nflow:\n  sequence:\n  - agent: one\n  - agent: two\n    validate: {json-schema: {type: \
                    string}}\n  - agent: three";
    let scripts = ["one", "two", "three"].map(|name| agent(name, work)).to_vec();
    crash_at_every_step(&Case {
        request: Request::workflow("rejected"),
        document: Some(document.into()),
        scripts,
        side_by_side: false,
    });
}

#[test]
fn crash_at_every_step_of_a_run_that_is_suspended() {
    let document = "name: patient\nflow:\n  sequence:\n  - agent: one\n  - agent: late\n    retry: {attempts: 3, backoff: 1m, max: 1m}\n    validate: {agent: approve}\n  - agent: two";
    let late = agent("late", |guest| async move {
        assert_eq!(guest.count("tries").await?, 1);
        if guest.job.attempt < 3 { Err(may_pass("not yet")) } else { work(guest).await }
    });
    let scripts = vec![agent("one", work), late, approve(), agent("two", work)];
    let case =
        Case { request: Request::workflow("patient"), document: Some(document.into()), scripts, side_by_side: false };
    crash_at_every_step_in(&case, &[PLAIN, MODES[3]]);
}

#[test]
fn crash_at_every_step_of_a_retry() {
    let document =
        "name: retried\nflow:\n  sequence:\n  - agent: flaky\n    retry: {attempts: 4, backoff: 1s}\n  - agent: one";
    let flaky = agent("flaky", |guest| async move {
        // What it counted before is gone with the attempt that failed.
        assert_eq!(guest.count("tries").await?, 1);
        guest.log(format!("try {}", guest.job.attempt)).await?;
        if guest.job.attempt < 3 { Err(may_pass("not yet")) } else { work(guest).await }
    });
    let scripts = vec![flaky, agent("one", work)];
    // After a checkpoint it would be the same attempt to itself, and fail each time.
    let case =
        Case { request: Request::workflow("retried"), document: Some(document.into()), scripts, side_by_side: false };
    crash_at_every_step_in(&case, &MODES[..2]);
}

#[test]
fn crash_at_every_step_of_a_run_whose_retries_run_out() {
    let document = "name: hopeless\nflow:\n  sequence:\n  - agent: one\n  - agent: hopeless\n    retry: {attempts: 3, backoff: 1s}";
    let hopeless = agent("hopeless", |guest| async move {
        let tries = guest.count("tries").await?;
        Err(may_pass(&format!("counted {tries}")))
    });
    let scripts = vec![agent("one", work), hopeless];
    crash_at_every_step(&Case {
        request: Request::workflow("hopeless"),
        document: Some(document.into()),
        scripts,
        side_by_side: false,
    });
}

#[test]
fn crash_at_every_step_of_a_run_longer_than_a_page_of_the_journal() {
    // More effects than the host reads of a journal at once; one append in a hundred effects.
    let long = agent("long", |guest| async move {
        for round in 0..7 {
            for _ in 0..99 {
                guest.get("nothing").await?;
            }
            guest.put("round", round).await?;
        }
        let count = guest.count("count").await?;
        Ok(Payload::json(&json!(count)))
    });
    let case = Case { request: Request::call("long"), document: None, scripts: vec![long], side_by_side: false };
    let undisturbed = in_paused_time(play(&case, PLAIN, &[]));
    for at in 1..=9 {
        for (how, left) in every_way() {
            let crash = Crash { at, how, left };
            compare(&in_paused_time(play(&case, PLAIN, &[crash])), &undisturbed, &format!("{crash:?}"));
        }
    }
}

#[test]
fn crash_at_every_step_and_again_while_the_run_is_taken_up() {
    async fn little(guest: Guest) -> Result<Payload, Failure> {
        let begun = guest.now();
        guest.compute(3).await;
        let count = guest.count("count").await?;
        guest.log(format!("counted {count}")).await?;
        guest.put("clock/begun", begun.millis()).await?;
        Ok(Payload::json(&json!(count)))
    }
    let document = "name: little\nflow: {sequence: [{agent: one}, {agent: two, validate: {json-schema: {const: 2}}}]}";
    let scripts = ["one", "two"].map(|name| agent(name, little)).to_vec();
    crash_twice_at_every_step(&Case {
        request: Request::workflow("little"),
        document: Some(document.into()),
        scripts,
        side_by_side: false,
    });
}

#[test]
fn crash_at_every_step_of_runs_that_share_a_counter() {
    const RUNS: usize = 12;
    let scripts = vec![agent("one", |guest| async move {
        loop {
            let before = guest.get("shared").await?;
            // Others are at it, too: most find that somebody was faster.
            guest.compute(1).await;
            if let Ok(number) = guest.count_over("shared", before).await? {
                return Ok(Payload::text(number.to_string()));
            }
        }
    })];
    let request = |number: usize| Request { key: Some(format!("key-{number}")), ..Request::call("one") };
    for at in 1.. {
        let mut crashed = false;
        for (how, left) in every_way() {
            crashed |= in_paused_time(async {
                let world = World::new(scripts.clone());
                let host = world.host(&world.record(None).await, [(at, how)]);
                let requests: Vec<Request> = (0..RUNS).map(request).collect();
                let told = futures::future::join_all(requests.iter().map(|request| host.ask(request))).await;
                let record = if left == Left::Synced { host.record.crash() } else { host.record.copy() };
                let next = world.host(&record, []);
                next.runs.recover().await.unwrap();
                let answers = futures::future::join_all(requests.iter().map(|request| next.ask(request))).await;
                let mut numbers: Vec<usize> = Vec::new();
                for (before, after) in told.into_iter().zip(answers) {
                    let after = after.unwrap().unwrap();
                    assert!(!matches!(&before, Some(Ok(output)) if *output != after), "{before:?}, then {after:?}");
                    numbers.push(text(&after.bytes).parse().unwrap());
                }
                numbers.sort_unstable();
                assert_eq!(numbers, (1..=RUNS).collect::<Vec<_>>(), "each counted once; {how:?}, {left:?} at {at}");
                let memory: Vec<String> = world.memory(&record).await.into_values().collect();
                assert_eq!(memory, [RUNS.to_string()], "{how:?}, {left:?} at {at}");
                host.line.is_dead()
            });
        }
        if !crashed {
            assert!(at > 2 * RUNS as u64, "there were only {at} appends");
            return;
        }
    }
}
