//! The SDK as an author uses it: roles, memory, log and grants, natively.

use std::time::Duration;

use ltmc::memory::{self, Precondition, PutOptions, Scope};
use ltmc::testing::{Host, Level, Line};
use ltmc::{Agent, Aggregator, Branch, BranchOutcome, Error, Failure, Json, Payload, Task, Validator, Violation};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize)]
struct Visit {
    name: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Visits {
    count: u32,
}

/// Counts how often a name came by in this session.
#[ltmc::agent]
#[derive(Default)]
struct Guestbook;

impl Agent for Guestbook {
    type Input = Json<Visit>;
    type Output = Json<Visits>;

    fn execute(&self, Json(visit): Json<Visit>, task: &Task) -> Result<Json<Visits>, Failure> {
        if visit.name.is_empty() {
            return Err(Failure::new("no-name", "`name` is empty"));
        }
        let book = memory::open(Scope::Session)?;
        let count = book.get_json::<u32>(&visit.name)?.unwrap_or(0) + 1;
        book.put_json(&visit.name, &count)?;
        ltmc::info!(name = visit.name, attempt = task.attempt; "visit {count}");
        Ok(Json(Visits { count }))
    }
}

/// Wants a count above zero.
#[ltmc::validator]
#[derive(Default)]
struct Positive;

impl Validator for Positive {
    type Input = Json<ltmc::serde_json::Value>;

    fn validate(&self, Json(input): Self::Input, _task: &Task) -> Vec<Violation> {
        match input["count"].as_i64() {
            Some(count) if count > 0 => Vec::new(),
            _ => vec![Violation::new("/count", "is not above zero")],
        }
    }
}

fn visit(name: &str) -> Json<Visit> {
    Json(Visit { name: name.to_owned() })
}

fn host() -> Host {
    Host::new().grant("memory:read:session").grant("memory:write:session").grant("log")
}

#[test]
fn an_agent_remembers_and_logs() {
    let host = host();
    assert_eq!(host.call::<Guestbook>(visit("Ada")), Ok(Json(Visits { count: 1 })));
    assert_eq!(host.call::<Guestbook>(visit("Ada")), Ok(Json(Visits { count: 2 })));
    assert_eq!(host.memory(Scope::Session).get("Ada"), Some(b"2".to_vec()));
    assert_eq!(
        host.logs()[1],
        Line {
            level: Level::Info,
            message: "visit 2".to_owned(),
            fields: vec![("name".to_owned(), "Ada".to_owned()), ("attempt".to_owned(), "1".to_owned())],
        }
    );
}

#[test]
fn what_is_not_granted_is_denied_by_name() {
    let denied = Host::new().call::<Guestbook>(visit("Ada")).unwrap_err();
    assert_eq!(denied.code, "access-denied");
    assert!(denied.message.contains("memory:read:session"), "{denied}");

    let host = Host::new().grant("memory:read:*");
    let denied = host.call::<Guestbook>(visit("Ada")).unwrap_err();
    assert!(denied.message.contains("memory:write:session"), "{denied}");
}

#[test]
fn a_grant_taken_back_denies_the_next_call() {
    let host = host();
    host.revoke("memory:write:session");
    assert_eq!(host.call::<Guestbook>(visit("Ada")).unwrap_err().code, "access-denied");
}

#[test]
fn a_log_that_is_not_granted_does_not_stop_the_work() {
    let host = host();
    host.revoke("log");
    assert!(host.call::<Guestbook>(visit("Ada")).is_ok());
    assert!(host.logs().is_empty());
}

#[test]
fn sessions_do_not_meet() {
    let host = host();
    host.call::<Guestbook>(visit("Ada")).unwrap();
    let other = host.clone().session("other");
    assert_eq!(other.call::<Guestbook>(visit("Ada")), Ok(Json(Visits { count: 1 })));
}

#[test]
fn bytes_that_do_not_parse_are_bad_input() {
    let failure = host().call_bytes::<Guestbook>(Payload::new("application/json", "{\"name\":}")).unwrap_err();
    assert_eq!(failure.code, Failure::BAD_INPUT);
    assert!(failure.message.contains("line 1 column 9"), "{failure}");
    let violations = host().validate_bytes::<Positive>(Payload::new("application/json", "{"));
    assert_eq!(violations[0].at, "");
}

#[test]
fn a_validator_says_where() {
    assert!(host().validate_bytes::<Positive>(Payload::new("application/json", "{\"count\": 1}")).is_empty());
    let violations = host().validate::<Positive>(Json(ltmc::serde_json::json!({"count": 0})));
    assert_eq!(violations, [Violation::new("/count", "is not above zero")]);
}

/// Adds up what branches gave.
#[ltmc::aggregator]
#[derive(Default)]
struct Sum;

impl Aggregator for Sum {
    type Input = Json<u64>;
    type Output = Json<u64>;

    fn aggregate(&self, branches: Vec<Branch<Json<u64>>>, _task: &Task) -> Result<Json<u64>, Failure> {
        let failed = branches
            .iter()
            .find(|branch| matches!(&branch.outcome, BranchOutcome::Failed(f) if f.code != "agent-error"));
        if let Some(branch) = failed {
            return Err(Failure::new("incomplete", format!("`{}` is missing", branch.name)));
        }
        let gave = branches.iter().map(|branch| match branch.outcome {
            BranchOutcome::Output(Json(number)) => number,
            BranchOutcome::Failed(_) | BranchOutcome::Skipped => 0,
        });
        Ok(Json(gave.sum()))
    }
}

#[test]
fn an_aggregator_makes_one_of_what_branches_gave() {
    let (lost, gone) = (Failure::new("agent-error", "no"), Failure::new("agent-missing", "it is gone"));
    let branches =
        |failure: Failure| vec![Branch::output("a", Json(3)), Branch::failed("b", failure), Branch::skipped("c")];
    assert_eq!(host().aggregate::<Sum>(branches(lost)), Ok(Json(3)));
    assert_eq!(host().aggregate::<Sum>(branches(gone)).unwrap_err().code, "incomplete");
    let bytes = |text: &str| vec![Branch::output("a", Payload::new("application/json", text)), Branch::skipped("b")];
    assert_eq!(host().aggregate_bytes::<Sum>(bytes("7")).unwrap(), Payload::new("application/json", "7"));
    let failure = host().aggregate_bytes::<Sum>(bytes("{}")).unwrap_err();
    assert!(failure.code == Failure::BAD_INPUT && failure.message.contains("what branch `a` gave"), "{failure}");
}

#[test]
fn an_agent_describes_itself() {
    let description = Guestbook::describe();
    assert_eq!(description.accepts, ["application/json"]);
    assert_eq!(description.produces, "application/json");
}

#[test]
#[should_panic(expected = "is no capability")]
fn a_misspelt_grant_is_no_grant() {
    let _ = Host::new().grant("memory:session:read");
}

#[test]
fn what_can_be_granted_is_what_the_host_knows() {
    for capability in [
        "graph:read",
        "graph:write",
        "recall:read",
        "recall:write",
        "message:receive",
        "message:send:read-diff",
        "message:send:*",
        "message:publish:reviews/done.v1",
        "message:subscribe:*",
    ] {
        let _ = Host::new().grant(capability);
    }
    for misspelt in [
        "graph",
        "graph:*",
        "recall:search",
        "message:send",
        "message:send:Read-Diff",
        "message:receive:read-diff",
        "message:publish:",
        "message:publish:Reviews",
        "messages:receive",
    ] {
        let granted = std::panic::catch_unwind(|| Host::new().grant(misspelt));
        assert!(granted.is_err(), "{misspelt}");
    }
}

#[test]
fn preconditions_hold_or_conflict() {
    host().within(|| {
        let store = memory::open(Scope::Session).unwrap();
        let absent = PutOptions { precondition: Precondition::Absent, ..PutOptions::default() };
        let first = store.put_with("k", "1", absent).unwrap();
        assert_eq!(store.put_with("k", "2", absent), Err(Error::Conflict(Some(first))));
        let read = store.get("k").unwrap();
        let unchanged = Precondition::unchanged(read.as_ref());
        let second = store.put_with("k", "2", PutOptions { precondition: unchanged, ttl: None }).unwrap();
        assert!(second > first);
        assert_eq!(store.delete_if("k", unchanged), Err(Error::Conflict(Some(second))));
        assert_eq!(store.delete("k"), Ok(true));
        assert_eq!(store.delete("k"), Ok(false));
        assert_eq!(store.delete_if("k", Precondition::Revision(second)), Err(Error::Conflict(None)));
    });
}

#[test]
fn keys_and_values_are_bounded() {
    host().within(|| {
        let store = memory::open(Scope::Session).unwrap();
        for key in ["", "a\nb", &"k".repeat(513)] {
            assert!(matches!(store.get(key), Err(Error::Invalid(_))), "{key}");
        }
        assert!(store.put(&"k".repeat(512), vec![0; 1 << 20]).is_ok());
        assert!(matches!(store.put("k", vec![0; (1 << 20) + 1]), Err(Error::Invalid(_))));
        assert!(matches!(store.page("", None, 0), Err(Error::Invalid(_))));
        assert!(matches!(store.page("", None, 1_001), Err(Error::Invalid(_))));
    });
}

#[test]
fn a_list_spans_pages_in_order() {
    host().within(|| {
        let store = memory::open(Scope::Session).unwrap();
        for i in (0..250).rev() {
            store.put(&format!("k/{i:03}"), "").unwrap();
        }
        store.put("l", "").unwrap();
        let keys: Vec<String> = store.list("k/").map(|entry| entry.unwrap().key).collect();
        assert_eq!(keys.len(), 250);
        assert!(keys.is_sorted());
        let page = store.page("k/", Some("k/009"), 2).unwrap();
        assert_eq!(page.entries[0].key, "k/010");
        assert_eq!(page.next.as_deref(), Some("k/011"));
    });
}

#[test]
fn what_expires_is_gone() {
    let host = host();
    host.within(|| {
        let store = memory::open(Scope::Session).unwrap();
        let ttl = Some(Duration::from_secs(5));
        store.put_with("k", "1", PutOptions { ttl, ..PutOptions::default() }).unwrap();
    });
    host.advance(Duration::from_millis(4_999));
    assert_eq!(host.memory(Scope::Session).keys(), ["k"]);
    host.advance(Duration::from_millis(1));
    assert!(host.memory(Scope::Session).keys().is_empty());
}

#[test]
fn without_a_host_calls_answer_an_error() {
    assert!(matches!(memory::open(Scope::Agent), Err(Error::Unavailable { .. })));
}
