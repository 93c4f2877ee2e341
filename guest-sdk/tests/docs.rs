//! What docs/write-an-agent.md shows is what is compiled and run here: every block of Rust in it stands in this file.
//!
//! To change a block: here and there alike, but for white space.

#![allow(unused_variables, unreachable_pub, reason = "snippets show; they need not use what they show")]

use std::time::Duration;

use ltmc::coordination::{self, CallError, Need, Question, Role};
use ltmc::graph::{self, AsOf, Filter, RelateOptions};
use ltmc::hand_off;
use ltmc::memory::{self, Append, Increment, MergePatch, Precondition, PutOptions, Scope, Set, Union};
use ltmc::messages::{self, Draft};
use ltmc::recall;
use ltmc::serde_json::{Value, json};
use ltmc::testing::{Channel, Host};
use ltmc::{
    Aggregator, Branch, BranchOutcome, Error, Failure, FromPayload as _, IntoPayload as _, Json, Task, Validator,
    Violation,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note {
    text: String,
}

fn note() -> Note {
    Note { text: "a page of its own".to_owned() }
}

/// Runs a snippet with everything granted.
fn granted(host: &Host, snippet: impl FnOnce() -> Result<(), Failure>) {
    host.within(snippet).unwrap();
}

fn host() -> Host {
    let all = ["log", "memory:read:*", "memory:write:*", "graph:read", "graph:write", "recall:read", "recall:write"];
    let more = ["message:receive", "message:send:*", "message:publish:*", "message:subscribe:*"];
    all.iter().chain(&more).fold(Host::new(), |host, capability| host.grant(capability))
}

#[rustfmt::skip]
mod first {
    use ltmc::memory::{self, Scope};
    use ltmc::{Agent, Failure, Json, Task};

    #[ltmc::agent]
    #[derive(Default)]
    pub struct Hello;

    impl Agent for Hello {
        type Input = String;
        type Output = Json<String>;

        fn execute(&self, name: String, _task: &Task) -> Result<Json<String>, Failure> {
            let seen = memory::open(Scope::Agent)?;
            let times = seen.get_json::<u32>("times")?.unwrap_or(0) + 1;
            seen.put_json("times", &times)?;
            Ok(Json(format!("Hello, {}! ({times})", name.trim())))
        }
    }
}

#[test]
#[rustfmt::skip]
fn the_first_one_is_tested_as_shown() {
    use first::Hello;

    let host = ltmc::testing::Host::new().grant("memory:read:agent").grant("memory:write:agent");
    assert_eq!(host.call::<Hello>("Ada".into()), Ok(Json("Hello, Ada! (1)".into())));
    assert_eq!(host.memory(Scope::Agent).get_json::<u32>("times"), Some(1));
}

#[test]
#[rustfmt::skip]
fn every_place_at_which_it_can_be_cut_off_is_tried_as_shown() {
    use first::Hello;
    use ltmc::Agent as _;

    for at in 1.. {
        let host = ltmc::testing::Host::new().grant("memory:read:agent").grant("memory:write:agent");
        let mut tries = 0;
        host.fail_at(at);                                               // the first try, at this host call
        let greeted = host.tries(2, |task| {
            tries += 1;
            Hello.execute("Ada".into(), task)
        });
        assert_eq!(greeted, Ok(Json("Hello, Ada! (1)".into())));
        assert_eq!(host.memory(Scope::Agent).get_json::<u32>("times"), Some(1));
        if tries == 1 {
            break;                                                      // it makes no more calls than that
        }
    }
}

#[test]
#[rustfmt::skip]
fn failures() {
    #[expect(clippy::needless_return, reason = "the page shows the line alone")]
    fn fails() -> Result<(), Failure> {
        return Err(Failure::new("no-diff", "the input has no line that begins with `diff --git`"));
    }
    assert_eq!(fails().unwrap_err().code, "no-diff");
}

#[test]
#[rustfmt::skip]
fn memory_kept_and_listed() {
    granted(&host(), || {
        let text = "a draft";
        let plan = memory::open(Scope::Session)?;
        let found = plan.get("draft")?;                                     // value, revision, expiry
        plan.put_with("draft", text, PutOptions {
            precondition: Precondition::unchanged(found.as_ref()),          // Err(Conflict) if somebody was faster
            ttl: Some(Duration::from_secs(3600)),
        })?;
        for entry in plan.list("finding/") {                                // by pages, in the order of the keys
            let entry = entry?;
        }
        assert!(found.is_none());
        Ok(())
    });
}

#[test]
#[rustfmt::skip]
fn memory_updated_and_watched() {
    let finding = json!({"line": 3});
    let mut steps = Vec::new();
    granted(&host(), || {
        let store = memory::open(Scope::Session)?;
        let count = store.update("count", Increment(1))?.json::<i64>()?;    // the new entry
        store.update("findings", Append(&finding))?;                        // at the end of a list
        store.update("tags", Union(["rust", "wasm"]))?;                     // what the list has not got yet
        store.update("plan", MergePatch(json!({"owner": "ada", "draft": null})))?;
        store.update_with("lease", Set("ada"), Duration::from_secs(30))?;
        store.touch("lease", Some(Duration::from_secs(30)))?;               // the value stays; false: it is gone
        assert_eq!(count, 1);
        let mut watch = store.watch("plan/").for_at_most(Duration::from_secs(10));
        for change in &mut watch {
            let change = change?;                                           // key, value (none: deleted), revision, position
            steps.push(change.json::<String>()?);
        }
        store.put_json("seen", &watch.position())?;                         // the next call: store.watch_from("plan/", seen)
        Ok(())
    });
    assert!(steps.is_empty());
}

#[test]
#[rustfmt::skip]
fn checkpoints() {
    let host = host();
    let files: Vec<String> = (0..250).map(|n| format!("{n}.md")).collect();
    host.fail_at(150);
    host.fail_at(230);
    host.tries(3, |task| {
        let done = memory::open(Scope::Agent)?;
        for (n, file) in files.iter().enumerate() {
            done.update("files", Append(file))?;
            if n % 100 == 99 {
                task.checkpoint()?;                                         // a retry goes on from here
            }
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(host.memory(Scope::Agent).get_json::<Vec<String>>("files"), Some(files));
}

#[test]
#[rustfmt::skip]
fn graph_told_and_asked() {
    let host = host();
    granted(&host, || {
        graph::relate("crate api", "depends-on", "crate model")?;
        graph::relate_with(
            "ada",
            "works-on",
            "crate api",
            RelateOptions { properties: json!({"role": "author"}), valid_from_ms: Some(1_700_000_000_000) },
        )?;
        for fact in graph::facts(Filter::of("ada").relation("works-on")) {
            let role = fact?.json::<Value>()?;                              // its properties
        }
        let near = graph::neighbours("crate api")?;                         // near.entities(), near.facts
        let way = graph::path("ada", "crate model")?.facts;                 // a shortest way; none: there is none
        let broken = graph::dependents("crate model", "depends-on")?;       // what depends on it, near and far
        let order = graph::order("crate api", "depends-on")?;               // what is depended on first; order.cycles: the rings
        graph::unrelate("crate api", "depends-on", "crate model")?;
        let then = AsOf { valid_ms: Some(1_700_000_000_001), known_ms: None };
        let held = graph::page(&Filter::default().as_of(then), None, 100)?; // what held then; `known_ms`: as it was known then
        assert_eq!(near.entities(), ["crate model", "ada"]);
        assert_eq!(way.map(|facts| facts.len()), Some(2));
        assert_eq!(broken.entities(), ["crate api"]);
        assert_eq!(order.entities, ["crate model", "crate api"]);
        assert_eq!(held.facts.len(), 1);
        Ok(())
    });
    assert_eq!(host.facts().len(), 2);
}

#[test]
#[rustfmt::skip]
fn recall_kept_and_searched() {
    let section = "Retries are bounded by `attempts`.";
    let host = host();
    granted(&host, || {
        recall::remember("retries", "A step that fails is tried again, at most as often as its workflow says.")?;
        recall::remember_with("docs/errors.md#retry", section, &[("file", "docs/errors.md")])?;
        for hit in recall::search("how are retries bounded?", 5)? {
            ltmc::info!(score = hit.score; "{}: {}", hit.id, hit.text);
        }
        let one_file = recall::search_with("how are retries bounded?", 5, &[("file", "docs/errors.md")])?;
        recall::forget("retries")?;
        assert_eq!(one_file.hits.len(), 1);
        Ok(())
    });
    assert_eq!(host.logs().len(), 2);
    assert!(host.logs()[0].message.starts_with("docs/errors.md#retry"));
}

#[test]
#[rustfmt::skip]
fn messages_sent_and_received() {
    let (note, last_seen) = (note(), None);
    let host = host();
    host.deliver(Draft::json("note.added", &note).unwrap());
    host.deliver(Draft::json("note.added", &7).unwrap());
    granted(&host, || {
        let store = memory::open(Scope::Session)?;
        messages::send("summarizer", Draft::json("note.added", &note)?.subject("docs/errors.md"))?;
        messages::publish("reviews", Draft::json("review.finished", &note)?)?;
        for delivery in messages::receive(10, Duration::from_secs(5))? {
            match delivery.event.json::<Note>() {
                Ok(note) => {
                    store.update("notes", Increment(1))?;
                    delivery.ack()?;                                        // gone, together with what was done for it
                }
                Err(error) => delivery.reject(&error.to_string())?,         // to the dead letters, at once
            }
        }
        let news = messages::read("reviews", last_seen, 10, Duration::from_secs(5))?; // news.next: where to go on
        assert!(news.events.is_empty());
        Ok(())
    });
    assert_eq!(host.memory(Scope::Session).get_json::<u32>("notes"), Some(1));
    assert_eq!(host.dead_letters().len(), 1);
}

#[test]
#[rustfmt::skip]
fn two_agents_are_tested_as_shown() -> Result<(), ltmc::Error> {
    let note = note();
    let host = ltmc::testing::Host::new().grant("message:receive").grant("message:send:summarizer").grant("memory:write:agent");
    host.deliver(Draft::json("note.added", &note)?);
    host.within(|| messages::receive(1, Duration::ZERO)?[0].ack())?;    // a part of an agent, as a call of its own
    host.within(|| messages::send("summarizer", Draft::json("note.added", &note)?))?;
    assert_eq!(host.sent()[0].to, Channel::Mailbox("summarizer".into()));
    assert_eq!(host.clone().agent("summarizer").mailbox().len(), 1);
    Ok(())
}

#[test]
#[rustfmt::skip]
fn other_agents_called_and_joined() {
    let note = note();
    let host = host().grant("call:*").answers("plan-steps", |_| Json(["read", "write"]).into_payload());
    let host = host.answers("summarise", |text| String::from_payload(text)?.to_uppercase().into_payload());
    granted(&host, || {
        let store = memory::open(Scope::Session)?;
        let plan: Json<Vec<String>> = coordination::call("plan-steps", Json(&note))?;
        match coordination::call::<String>("summarise", note.text.clone()) {
            Ok(summary) => store.put("summary", summary)?,
            Err(CallError::Failed(failure)) if failure.retryable => return Err(failure.into()),
            Err(CallError::Failed(failure)) => store.put("summary", failure.message)?,
            Err(CallError::Refused(error)) => return Err(error.into()),      // not granted, no such agent, no room
        };
        let texts = plan.0.into_iter().map(|step| ("summarise", step));
        for summary in coordination::fork::<String, _>(texts)? {            // side by side, in their order
            store.update("summaries", Append(summary?))?;
        }
        let child = coordination::begin("summarise", note.text)?;           // goes on beside this
        let late: String = child.join()?;
        assert_eq!(late, "A PAGE OF ITS OWN");
        Ok(())
    });
    assert_eq!(host.memory(Scope::Session).get_json::<Vec<String>>("summaries"), Some(vec!["READ".into(), "WRITE".into()]));
}

#[test]
#[rustfmt::skip]
fn who_is_needed_is_found() {
    let (host, note) = (host().grant("call:summarise").grant("call:brief").finds("summarise a contract in a few sentences", "brief"), note());
    let host = host.answers("summarise", Ok).answers("brief", Ok);
    granted(&host, || {
        let need = Need::of("summarise a contract in a few sentences").among(["summarise", "brief"]);
        let summary: String = coordination::need(need, note.text)?.join()?;
        assert_eq!(summary, "a page of its own");
        Ok(())
    });
}

#[test]
#[rustfmt::skip]
fn people_are_asked() {
    let (host, draft) = (host().grant("ask:author").replies("Publish this?", &true), "a draft".to_owned());
    granted(&host, || {
        let question = Question::to(Role::Author, "Publish this?").yes_or_no().shows(draft)?;
        match coordination::ask(question.for_at_most(Duration::from_secs(24 * 60 * 60)))?.join::<Json<bool>>() {
            Ok(Json(yes)) => {}
            Err(CallError::Failed(late)) if late.code == "timed-out" => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    });
}

#[derive(Deserialize)]
struct Report {
    summary: String,
}

#[test]
#[rustfmt::skip]
fn a_validator_judges() {
    #[ltmc::validator]
    #[derive(Default)]
    struct CheckReport;

    impl Validator for CheckReport {
        type Input = Json<Report>;

        fn validate(&self, Json(report): Json<Report>, _task: &Task) -> Vec<Violation> {
            if report.summary.is_empty() { vec![Violation::new("/summary", "it is empty")] } else { vec![] }
        }
    }
    assert_eq!(host().validate::<CheckReport>(Json(Report { summary: String::new() })).len(), 1);
}

#[test]
#[rustfmt::skip]
fn a_conversation_is_handed_on() {
    fn execute(message: &str) -> Result<String, Failure> {
        if let Some(handed) = hand_off::received()? {                     // none: it began with this agent
            ltmc::info!("from {}: {}", handed.from, handed.reason);       // handed.passed: what that one passed
        }
        if message.contains("money") {
            match hand_off::to("settle-refund", "it is about money") {
                Ok(()) => return Ok(String::new()),                       // nobody's answer: the receiver goes on, and answers
                Err(Error::QuotaExceeded(_)) => {}                        // it went on as often as may be: answer here
                Err(error) => return Err(error.into()),
            }
        }
        if message.contains("wrong") {
            hand_off::back("this is nothing for me")?;                    // to whom it came from
        }
        Ok("How can we help?".to_owned())
    }
    let desk = ltmc::testing::Host::new().agent("triage").holds(&["triage", "settle-refund"]).grant("hand-off:settle-refund").grant("log");
    desk.within(|| execute("my money")).unwrap();
    let refund = desk.clone().agent("settle-refund");
    refund.within(|| execute("it is wrong")).unwrap();
    assert_eq!(desk.hand_offs().iter().map(|it| it.to.as_str()).collect::<Vec<_>>(), ["settle-refund", "triage"]);
}

#[test]
#[rustfmt::skip]
fn an_aggregator_makes_one_of_many() {
    #[ltmc::aggregator]
    #[derive(Default)]
    struct JoinSummaries;

    impl Aggregator for JoinSummaries {
        type Input = Json<Report>;
        type Output = String;

        fn aggregate(&self, branches: Vec<Branch<Json<Report>>>, _task: &Task) -> Result<String, Failure> {
            let lines = branches.into_iter().map(|branch| match branch.outcome {
                BranchOutcome::Output(Json(report)) => format!("{}: {}", branch.name, report.summary),
                BranchOutcome::Failed(failure) => format!("{}: missing, for {}", branch.name, failure.message),
                BranchOutcome::Skipped => format!("{}: not asked", branch.name),
            });
            Ok(lines.collect::<Vec<_>>().join("\n"))
        }
    }
    let branches = vec![
        Branch::output("legal", Json(Report { summary: "fine".into() })),
        Branch::failed("cost", Failure::new("agent-error", "it has no prices")),
        Branch::skipped("style"),
    ];
    let joined = host().aggregate::<JoinSummaries>(branches);
    assert_eq!(joined, Ok("legal: fine\ncost: missing, for it has no prices\nstyle: not asked".to_owned()));
}

#[test]
fn every_block_of_rust_stands_in_this_file() {
    let page = include_str!("../../docs/write-an-agent.md");
    let dense = |text: &str| text.split_whitespace().collect::<String>();
    let here = dense(include_str!("docs.rs"));
    let blocks: Vec<&str> = page.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 10, "{} blocks", blocks.len());
    for block in blocks {
        assert!(here.contains(&dense(block)), "this block is not compiled anywhere:\n{block}");
    }
}
