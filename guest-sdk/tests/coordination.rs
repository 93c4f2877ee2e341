//! Agents that call agents, in memory: as the host has them.

use std::time::Duration;

use ltmc::coordination::{self, CallError, CallFailure, Need, Question, Role};
use ltmc::memory::{self, Increment, Scope};
use ltmc::testing::Host;
use ltmc::{Agent, Error, Failure, Json, Task};

/// Counts its calls in the session's memory, and then does as its input says.
#[derive(Default)]
struct Counts;

impl Agent for Counts {
    type Input = String;
    type Output = String;

    fn execute(&self, input: String, task: &Task) -> Result<String, Failure> {
        let count: u32 = memory::open(Scope::Session)?.update("count", Increment(1))?.json()?;
        match input.as_str() {
            "fail" => Err(Failure::new("as-asked", format!("{count} so far")).retryable()),
            "panic" => panic!("as asked"),
            _ => Ok(format!("{} {count}", task.agent)),
        }
    }
}

fn host() -> Host {
    let host = Host::new().grant("call:counts").grant("memory:write:*").grant("memory:read:*");
    host.has::<Counts>("counts")
}

fn count(host: &Host) -> Option<u32> {
    host.memory(Scope::Session).get_json("count")
}

#[test]
fn an_agent_that_is_called_sees_what_its_caller_did_and_keeps_what_it_did() {
    let host = host();
    let failed = host.within(|| {
        memory::open(Scope::Session)?.update("count", Increment(1))?;
        let gave: String = coordination::call("counts", "go".to_owned())?;
        assert_eq!(gave, "counts 2");
        memory::open(Scope::Session)?.update("count", Increment(10))?;
        Err::<(), _>(Failure::new("no", "it ends badly"))
    });
    assert!(failed.is_err());
    assert_eq!(count(&host), Some(2), "what came after the call was its own");
}

#[test]
fn how_it_fails_is_a_value_and_leaves_nothing() {
    let host = host();
    host.within(|| {
        let failed = |input: &str| match coordination::call::<String>("counts", input.to_owned()) {
            Err(CallError::Failed(failure)) => failure,
            other => panic!("{other:?}"),
        };
        let asked = failed("fail");
        assert_eq!((asked.code.as_str(), asked.agent_code.as_deref()), ("agent-error", Some("as-asked")));
        assert!(asked.retryable && Failure::from(asked).code == "as-asked");
        assert_eq!(failed("panic").code, "agent-trapped");
        let numbers = coordination::call::<ltmc::Json<u32>>("counts", "go".to_owned());
        assert!(matches!(numbers, Err(CallError::Failed(CallFailure { code, .. })) if code == "bad-output"));
    });
    assert_eq!(count(&host), Some(1));
}

#[test]
fn what_cannot_be_called_is_refused() {
    let host = host().grant("call:nobody");
    host.within(|| {
        let refused = |agent: &str| match coordination::call::<String>(agent, String::new()) {
            Err(CallError::Refused(error)) => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("other"), Error::AccessDenied("call:other".to_owned()));
        assert_eq!(refused("nobody"), Error::NotFound);
        assert!(matches!(refused("No Agent"), Error::Invalid(_)));
        let large = coordination::begin("counts", vec![0; (8 << 20) + 1]);
        assert!(matches!(large, Err(Error::Invalid(_))));
    });
}

#[test]
fn who_is_needed_is_found_among_those_that_may_be_called() {
    let host = host().finds("count", "counts");
    host.within(|| {
        let child = coordination::need(Need::of("count").among(["counts"]), "go".to_owned())?;
        assert_eq!(child.join::<String>()?, "counts 1");
        let nobody = coordination::need(Need::of("bake").among(["counts"]), String::new())?.join::<String>();
        assert!(matches!(nobody, Err(CallError::Failed(CallFailure { code, .. })) if code == "no-candidate"));
        let any = coordination::need(Need::of("count"), String::new());
        assert_eq!(any, Err(Error::AccessDenied("call:*".to_owned())));
        let other = coordination::need(Need::of("count").among(["counts", "other"]), String::new());
        assert_eq!(other, Err(Error::AccessDenied("call:other".to_owned())));
        assert!(matches!(coordination::need(Need::of(" "), ()), Err(Error::Invalid(_))));
        assert!(matches!(coordination::need(Need::of("count").at_least(101), ()), Err(Error::Invalid(_))));
        Ok::<_, Failure>(())
    })
    .unwrap();
}

#[test]
fn people_are_asked_and_answer_or_do_not() {
    let host = host().grant("ask:author").replies("Publish?", &"yes");
    host.within(|| {
        let question = || Question::to(Role::Author, "Publish?");
        let Json(answer): Json<String> = coordination::ask(question().shows("a draft".to_owned())?)?.join()?;
        assert_eq!(answer, "yes");
        let late = coordination::ask(Question::to(Role::Author, "Who?"))?.join::<Json<bool>>();
        assert!(matches!(late, Err(CallError::Failed(CallFailure { code, .. })) if code == "timed-out"));
        let admin = coordination::ask(Question::to(Role::Admin, "Publish?"));
        assert_eq!(admin, Err(Error::AccessDenied("ask:admin".to_owned())));
        for wrong in [
            Question::to(Role::Author, ""),
            Question::to(Role::Author, "two\nlines"),
            question().fits("["),
            question().for_at_most(Duration::ZERO),
            question().shows("x".repeat((64 << 10) + 1))?,
        ] {
            assert!(matches!(coordination::ask(wrong), Err(Error::Invalid(_))));
        }
        Ok::<_, Failure>(())
    })
    .unwrap();
    assert_eq!(host.asked().len(), 2);
}

#[test]
fn several_are_joined_in_their_order() {
    let host = host();
    host.within(|| {
        let calls = ["go", "fail", "go"].map(|input| ("counts", input.to_owned()));
        let joined = coordination::fork::<String, _>(calls).unwrap();
        let codes = joined.iter().map(|ended| ended.as_ref().map_err(|failure| failure.code.as_str()));
        assert_eq!(
            codes.collect::<Vec<_>>(),
            [Ok(&"counts 1".to_owned()), Err("agent-error"), Ok(&"counts 2".to_owned())]
        );
    });
}

/// Calls itself until it is told why it cannot.
#[derive(Default)]
struct Deep;

impl Agent for Deep {
    type Input = ();
    type Output = String;

    fn execute(&self, (): (), task: &Task) -> Result<String, Failure> {
        match coordination::call("deep", ()) {
            Ok(why) => Ok(why),
            Err(CallError::Refused(error @ Error::QuotaExceeded(_))) => Ok(error.to_string()),
            Err(error) => Err(error.into()),
        }
        .map(|why: String| if task.agent == "deep" { why } else { format!("told: {why}") })
    }
}

#[test]
fn a_ring_of_agents_ends() {
    let host = Host::new().grant("call:*").has::<Deep>("deep");
    let why = host.call::<Deep>(()).unwrap();
    assert!(why.starts_with("told: ") && why.contains("agent → deep → deep"), "{why}");
}

#[test]
fn a_retry_calls_again_unless_it_made_a_checkpoint() {
    for (keeps, expected) in [(false, 2), (true, 1)] {
        let host = host();
        let mut tries = 0;
        let gave = host.tries(2, |task| {
            let gave: String = coordination::call("counts", "go".to_owned())?;
            if keeps {
                task.checkpoint()?;
            }
            tries += 1;
            if tries == 1 { Err(Failure::new("not-yet", "try again").retryable()) } else { Ok(gave) }
        });
        assert_eq!((gave, count(&host)), (Ok(format!("counts {expected}")), Some(expected)));
    }
}
