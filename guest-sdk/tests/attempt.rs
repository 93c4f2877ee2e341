//! Attempts as transactions: whatever fails, and wherever, what stands in the end is what one attempt did that succeeded.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ltmc::memory::{self, Append, Increment, MergePatch, PutOptions, Scope, Store};
use ltmc::messages::{self, Draft};
use ltmc::serde_json::json;
use ltmc::testing::{Channel, Host};
use ltmc::{Agent, Error, Failure, Payload, Task, graph, recall};

const NOW: Duration = Duration::ZERO;
/// Host calls of [`twenty`].
const CALLS: u32 = 20;

fn host() -> Host {
    let all = ["log", "memory:read:*", "memory:write:*", "graph:read", "graph:write", "recall:read", "recall:write"];
    let more = ["message:receive", "message:send:*", "message:publish:*", "message:subscribe:*"];
    all.iter().chain(&more).fold(Host::new(), |host, capability| host.grant(capability))
}

fn store() -> Store {
    memory::open(Scope::Agent).unwrap()
}

fn draft(text: &str) -> Draft {
    Draft::json("note.added", text).unwrap()
}

fn busy() -> Failure {
    Failure::new("busy", "not now").retryable()
}

/// An agent of twenty host calls that touches all there is: a checkpoint before those whose numbers are named takes one more.
fn twenty(task: &Task, checkpoints: &[u32]) -> Result<(), Failure> {
    let made = Cell::new(0);
    let next = || {
        made.set(made.get() + 1);
        if checkpoints.contains(&made.get()) { task.checkpoint() } else { Ok(()) }
    };
    next()?;
    let own = memory::open(Scope::Agent)?;
    next()?;
    own.update("count", Increment(1))?;
    next()?;
    let first = messages::receive(1, NOW)?.remove(0);
    next()?;
    own.update("seen", Append(first.event.json::<String>()?))?;
    next()?;
    first.ack()?;
    next()?;
    graph::relate("ada", "wrote", "notes")?;
    next()?;
    let shared = memory::open(Scope::Session)?;
    next()?;
    let read = shared.get_json::<i64>("total")?.unwrap_or(0);
    next()?;
    shared.put_json("total", &(read + 5))?;
    next()?;
    recall::remember("a", "what was read")?;
    next()?;
    messages::send("summarizer", draft("one"))?;
    next()?;
    own.update("count", Increment(1))?;
    next()?;
    let second = messages::receive(1, NOW)?.remove(0);
    next()?;
    second.reject("not for me")?;
    next()?;
    messages::publish("reviews", draft("two"))?;
    next()?;
    let options = graph::RelateOptions { properties: json!({"role": "author"}), ..Default::default() };
    graph::relate_with("ada", "wrote", "notes", options)?;
    next()?;
    own.delete("draft")?;
    next()?;
    recall::forget("old")?;
    next()?;
    messages::send("summarizer", draft("three"))?;
    next()?;
    own.update("count", Increment(1))?;
    Ok(())
}

/// A host on which [`twenty`] has something to do.
fn before() -> Host {
    let host = host();
    host.memory(Scope::Agent).put("draft", "old");
    host.memory(Scope::Session).put("total", "10");
    host.remember("old", "what was known", &[]);
    for text in ["first", "second", "third"] {
        host.deliver(draft(text));
    }
    host
}

/// What is true, but for ids and revisions.
#[derive(Debug, PartialEq)]
struct Stand {
    memory: BTreeMap<String, Vec<u8>>,
    facts: Vec<(String, String, bool)>,
    notes: Vec<String>,
    waiting: Vec<String>,
    dead: Vec<(String, String)>,
    summarizer: Vec<String>,
    sent: Vec<(Channel, String)>,
}

fn stand(host: &Host) -> Stand {
    let keys = |scope| {
        let memory = host.memory(scope);
        memory.keys().into_iter().map(move |key| (format!("{scope:?}/{key}"), memory.get(&key).unwrap()))
    };
    let texts = |host: &Host| host.mailbox().iter().map(|event| event.json().unwrap()).collect();
    Stand {
        memory: keys(Scope::Agent).chain(keys(Scope::Session)).collect(),
        facts: host.facts().into_iter().map(|f| (f.subject, f.properties, f.valid_to_ms.is_some())).collect(),
        notes: host.notes().into_iter().map(|note| note.id).collect(),
        waiting: texts(host),
        dead: host.dead_letters().into_iter().map(|dead| (dead.event.json().unwrap(), dead.reason)).collect(),
        summarizer: texts(&host.clone().agent("summarizer")),
        sent: host.sent().into_iter().map(|sent| (sent.to, sent.event.json().unwrap())).collect(),
    }
}

fn wanted() -> Stand {
    let host = before();
    host.tries(1, |task| twenty(task, &[])).unwrap();
    let stand = stand(&host);
    let value = |key: &str| String::from_utf8(stand.memory[key].clone()).unwrap();
    assert_eq!((value("Agent/count"), value("Agent/seen")), ("3".to_owned(), "[\"first\"]".to_owned()));
    assert_eq!((value("Session/total"), stand.memory.len()), ("15".to_owned(), 3));
    assert_eq!((stand.facts.len(), stand.notes.len(), stand.sent.len()), (2, 1, 3));
    assert_eq!((stand.waiting.as_slice(), stand.dead.len()), (&["third".to_owned()][..], 1));
    stand
}

#[test]
fn it_makes_as_many_host_calls_as_it_is_said_to() {
    for (at, ends) in [(CALLS, true), (CALLS + 1, false)] {
        let host = before();
        host.fail_at(at);
        assert_eq!(host.tries(1, |task| twenty(task, &[])).is_err(), ends, "at {at}");
    }
}

/// The first try fails at each call, the second at each call, and the third succeeds.
#[test]
fn three_tries_leave_what_one_does_wherever_two_fail() {
    let wanted = wanted();
    for checkpoints in [&[][..], &[4], &[14], &[6, 13], &[1, 20]] {
        for first in 1..=CALLS + checkpoints.len() as u32 {
            for second in 1..=CALLS + checkpoints.len() as u32 {
                let host = before();
                host.fail_at(first);
                host.fail_at(second);
                host.tries(3, |task| twenty(task, checkpoints)).unwrap();
                assert_eq!(stand(&host), wanted, "failed at {first} and {second}, checkpoints {checkpoints:?}");
            }
        }
    }
}

#[test]
fn an_attempt_that_fails_leaves_nothing_after_its_last_checkpoint() {
    let untouched = stand(&before());
    for at in 1..=CALLS {
        let host = before();
        (0..3).for_each(|_| host.fail_at(at));
        let failure = host.tries(3, |task| twenty(task, &[])).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("agent-trapped", true));
        assert_eq!(stand(&host), untouched, "failed at {at}");
    }
    let mut halves = Vec::new();
    for at in 13..=CALLS + 1 {
        let host = before();
        (0..3).for_each(|_| host.fail_at(at));
        host.tries(3, |task| twenty(task, &[12])).unwrap_err();
        halves.push(stand(&host));
    }
    assert_eq!(halves[0].memory["Agent/count"], b"1");
    assert_eq!((halves[0].summarizer.as_slice(), halves[0].notes.len()), (&["one".to_owned()][..], 2));
    assert!(halves.iter().all(|half| *half == halves[0]), "{halves:#?}");
}

#[derive(Default)]
struct Fickle;

impl Agent for Fickle {
    type Input = String;
    type Output = ();

    fn execute(&self, how: String, _task: &Task) -> Result<(), Failure> {
        store().update("count", Increment(1))?;
        messages::send("summarizer", draft("a"))?;
        messages::receive(1, NOW)?;
        ltmc::info!("{how}");
        match how.as_str() {
            "fails" => Err(busy()),
            "panics" => panic!("as asked"),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_call_that_fails_or_panics_leaves_its_log_and_a_delivery_more() {
    let host = host();
    host.deliver(draft("mail"));
    assert_eq!(host.call::<Fickle>("fails".into()), Err(busy()));
    assert_eq!(host.call_bytes::<Fickle>(Payload::new("text/plain", "fails")), Err(busy()));
    assert!(catch_unwind(AssertUnwindSafe(|| host.call::<Fickle>("panics".into()))).is_err());
    host.fail_at(2);
    assert_eq!(host.call::<Fickle>("works".into()).unwrap_err().code, "agent-trapped");
    let within = host.within(|| store().update("count", Increment(1)).and(Err::<(), _>(Error::NotFound)));
    assert_eq!(within, Err(Error::NotFound));
    assert_eq!((host.memory(Scope::Agent).get("count"), host.sent().len(), host.mailbox().len()), (None, 0, 1));
    let lines: Vec<String> = host.logs().into_iter().map(|line| line.message).collect();
    assert_eq!(lines, ["fails", "fails", "panics"]);
    assert_eq!(host.call::<Fickle>("works".into()), Ok(()));
    assert_eq!((host.memory(Scope::Agent).get_json("count"), host.sent().len()), (Some(1), 1));
    let deliveries = Cell::new(0);
    host.within(|| deliveries.set(messages::receive(1, NOW).unwrap()[0].deliveries));
    assert_eq!(deliveries.get(), 5, "each that took it counts");
}

#[test]
fn others_see_nothing_before_it_is_true() {
    let host = host();
    let other = host.clone().agent("summarizer");
    let shared = || memory::open(Scope::Session).unwrap();
    let position = Cell::new(0);
    other.within(|| position.set(shared().watch("").position()));
    let seen = |what: &str, keys: usize| {
        other.within(|| {
            assert_eq!(shared().watch_from("", position.get()).for_at_most(NOW).count(), keys, "{what}");
            assert_eq!(shared().list("").count(), keys, "{what}");
            assert_eq!(graph::neighbours("ada").unwrap().facts.len(), keys, "{what}");
            assert_eq!(recall::search("a note", 10).unwrap().hits.len(), keys, "{what}");
            assert_eq!(messages::read("reviews", Some(position.get()), 10, NOW).unwrap().events.len(), keys, "{what}");
        });
        assert_eq!((other.mailbox().len(), host.sent().len()), (keys, keys * 2), "{what}");
    };
    host.tries(1, |task| {
        for n in 1..=2 {
            shared().put(&format!("k{n}"), "")?;
            graph::relate("ada", "wrote", &format!("note {n}"))?;
            recall::remember(&format!("n{n}"), "a note")?;
            messages::send("summarizer", draft("a"))?;
            messages::publish("reviews", draft("b"))?;
            assert_eq!(shared().list("").count(), n, "itself it sees it at once");
            assert_eq!(graph::neighbours("ada")?.facts.len(), n);
            assert_eq!(recall::search("a note", 10)?.hits.len(), n);
            seen("before", n - 1);
            task.checkpoint()?;
            seen("after a checkpoint", n);
        }
        shared().put("k3", "")?;
        seen("after the last checkpoint", 2);
        shared().delete("k3")?;
        Ok(())
    })
    .unwrap();
}

#[test]
fn only_what_may_do_better_is_tried_again() {
    let host = host();
    let tries = Cell::new(0);
    let run = |failure: fn() -> Failure| {
        tries.set(0);
        let outcome = host.tries(3, |task| -> Result<(), Failure> {
            tries.set(tries.get() + 1);
            assert_eq!(task.attempt, tries.get());
            Err(failure())
        });
        (outcome.unwrap_err().code, tries.get())
    };
    assert_eq!(run(busy), ("busy".to_owned(), 3));
    assert_eq!(run(|| Failure::new("no-diff", "never")), ("no-diff".to_owned(), 1));
    assert!(catch_unwind(AssertUnwindSafe(|| run(|| panic!("as asked")))).is_err());
    assert_eq!(tries.get(), 3, "a panic may do better");
}

#[test]
fn a_retry_does_nothing_again_before_the_checkpoint_and_is_told_its_number() {
    let host = host();
    let numbers = RefCell::new(Vec::new());
    host.fail_at(2);
    let outcome = host.tries(4, |task| {
        numbers.borrow_mut().push(task.attempt);
        ltmc::info!("begun");
        let revision = store().put("k", "")?;
        task.checkpoint()?;
        if host.logs().len() < 4 {
            ltmc::info!("half");
            return Err(busy());
        }
        Ok(revision)
    });
    assert_eq!(*numbers.borrow(), [1, 2, 2, 2], "the second wrote what the others go on from");
    let lines: Vec<String> = host.logs().into_iter().map(|line| line.message).collect();
    assert_eq!(lines, ["begun", "begun", "half", "half"]);
    let revision = host.within(|| Ok::<_, Error>(store().get("k")?.unwrap().revision));
    assert_eq!(outcome.map_err(|failure| failure.code), Ok(revision.unwrap()));
}

#[test]
fn a_retry_that_does_something_else_is_stopped() {
    let host = host();
    let tries = Cell::new(0);
    let failure = host
        .tries(5, |task| -> Result<(), Failure> {
            tries.set(tries.get() + 1);
            store().put("k", tries.get().to_string())?;
            task.checkpoint()?;
            Err(busy())
        })
        .unwrap_err();
    assert_eq!((failure.code.as_str(), tries.get()), ("replay-mismatch", 2));
    assert!(failure.message.contains("host call 2"), "{failure}");
}

#[test]
fn what_was_decided_on_what_is_no_longer_so_is_decided_anew() {
    let host = host();
    let other = host.clone().session("other");
    let times = Cell::new(0);
    let between = || {
        times.set(times.get() + 1);
        if times.get() == 1 {
            other.within(|| store().update("count", Increment(10))).unwrap();
        }
    };
    let added: i64 = host
        .tries(1, |_| {
            let count = store().update("count", Increment(1))?.json()?;
            between();
            Ok(count)
        })
        .unwrap();
    assert_eq!((added, times.get()), (11, 2), "it is no try of its own");

    times.set(0);
    let read_then_written = || {
        let count: i64 = store().get_json("count")?.unwrap_or(0);
        between();
        store().put_json("count", &(count + 1))?;
        Ok(())
    };
    host.tries(1, |_| read_then_written()).unwrap();
    assert_eq!(host.memory(Scope::Agent).get_json("count"), Some(22));

    times.set(0);
    host.relate("ada", "wrote", "notes");
    host.tries(1, |_| {
        graph::relate_with(
            "ada",
            "wrote",
            "notes",
            graph::RelateOptions { properties: json!({"n": times.get()}), ..Default::default() },
        )?;
        if times.get() == 0 {
            times.set(1);
            other.within(|| graph::unrelate("ada", "wrote", "notes")).unwrap();
        }
        Ok(())
    })
    .unwrap();
    let holding: Vec<_> = host.facts().into_iter().filter(|fact| fact.valid_to_ms.is_none()).collect();
    assert_eq!((holding.len(), holding[0].properties.as_str()), (1, "{\"n\":1}"));

    times.set(0);
    host.tries(1, |task| {
        store().update("before", Increment(1))?;
        task.checkpoint()?;
        store().update("count", Increment(1))?;
        between();
        Ok(())
    })
    .unwrap();
    assert_eq!((host.memory(Scope::Agent).get_json("before"), times.get()), (Some(1), 2), "from the checkpoint on");

    let always = || {
        store().update("count", Increment(1))?;
        other.within(|| store().update("count", Increment(1))).unwrap();
        Ok::<(), Failure>(())
    };
    let failure = host.tries(1, |_| always()).unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("conflict", true));
    assert!(catch_unwind(AssertUnwindSafe(|| host.within(always))).is_err());

    host.within(|| {
        store().put("count", "0")?;
        other.within(|| store().put("count", "7"))
    })
    .unwrap();
    assert_eq!(host.memory(Scope::Agent).get_json("count"), Some(0), "what was put blindly was decided on nothing");
}

#[test]
fn waiting_for_others_is_a_checkpoint() {
    let second = Duration::from_secs(1);
    let waits: [fn(Duration) -> Result<(), Error>; 3] = [
        |wait| messages::receive(1, wait).map(drop),
        |wait| messages::read("reviews", Some(0), 1, wait).map(drop),
        |wait| store().changes("else/", Some(0), 1, wait).map(drop),
    ];
    for (which, wait) in waits.into_iter().enumerate() {
        for (patience, kept) in [(NOW, None), (second, Some(1))] {
            let host = host();
            let failed: Result<(), Failure> = host.tries(2, |_| {
                store().update("count", Increment(1))?;
                wait(patience)?;
                Err(busy())
            });
            assert!(failed.is_err());
            assert_eq!(host.memory(Scope::Agent).get_json("count"), kept, "{which} {patience:?}");
        }
    }
    let host = host();
    let failed = host.within(|| {
        store().update("count", Increment(1))?;
        assert_eq!(store().watch("").for_at_most(NOW).count(), 0, "what it did before comes before now");
        Err::<(), _>(Error::NotFound)
    });
    assert_eq!((failed, host.memory(Scope::Agent).get_json("count")), (Err(Error::NotFound), Some(1)));
    host.within(|| {
        messages::send("agent", draft("to itself"))?;
        assert!(messages::receive(1, NOW)?.is_empty(), "it is not true yet");
        let begun = host.now_ms();
        messages::receive(1, second)?[0].ack()?;
        assert_eq!(host.now_ms(), begun, "it was there, and nobody waited");
        Ok::<_, Error>(())
    })
    .unwrap();
    assert!(host.mailbox().is_empty());
}

#[test]
fn what_was_taken_before_a_checkpoint_stays_in_its_hands() {
    let host = host();
    for (source, text) in [("/agents/a", "kept"), ("/agents/b", "back")] {
        host.deliver_from(source, draft(text));
    }
    let other = host.clone();
    let deliveries = RefCell::new(Vec::new());
    host.tries(2, |task| {
        let kept = messages::receive(1, NOW)?.remove(0);
        task.checkpoint()?;
        let back = messages::receive(1, NOW)?.remove(0);
        deliveries.borrow_mut().push((kept.deliveries, back.deliveries));
        other.within(|| assert!(messages::receive(10, NOW).unwrap().is_empty(), "nobody else has them meanwhile"));
        if deliveries.borrow().len() == 1 {
            return Err(busy());
        }
        kept.ack()?;
        back.ack()?;
        assert_eq!(back.ack(), Err(Error::NotFound));
        Ok(())
    })
    .unwrap();
    assert_eq!(*deliveries.borrow(), [(1, 1), (1, 2)]);
    assert!(host.mailbox().is_empty());
}

/// How long a watch may still wait goes by the host's time, which a retry sees as it was.
#[test]
fn time_is_as_it_was_up_to_the_checkpoint() {
    let host = host();
    let ttl = PutOptions { ttl: Some(Duration::from_secs(10)), ..PutOptions::default() };
    let seen = RefCell::new(Vec::new());
    let outcome = host.tries(2, |task| {
        let store = store();
        let watch = store.watch("lease").for_at_most(Duration::from_secs(25));
        store.put_with("lease", "", ttl)?;
        let changes: Vec<u64> = watch.map(|change| change.map(|change| change.position)).collect::<Result<_, _>>()?;
        task.checkpoint()?;
        seen.borrow_mut().push(changes);
        if seen.borrow().len() == 1 {
            host.advance(Duration::from_secs(3600));
            return Err(busy());
        }
        Ok(())
    });
    assert_eq!(outcome, Ok(()));
    assert_eq!(seen.borrow()[0].len(), 2, "put, and come to its end");
    assert_eq!(seen.borrow()[0], seen.borrow()[1]);
}

#[test]
fn what_lived_shorter_than_its_attempt_is_gone() {
    let host = host();
    host.within(|| {
        let ttl = PutOptions { ttl: Some(Duration::from_secs(5)), ..PutOptions::default() };
        store().put_with("lease", "", ttl)?;
        host.advance(Duration::from_secs(5));
        assert_eq!(store().get("lease")?, None);
        store().update("plan", MergePatch(json!({"owner": "ada"})))?;
        Ok::<_, Error>(())
    })
    .unwrap();
    assert_eq!(host.memory(Scope::Agent).keys(), ["plan"]);
}

#[test]
fn a_store_is_of_the_call_that_opened_it() {
    let host = host();
    let kept = RefCell::new(None);
    host.within(|| *kept.borrow_mut() = Some(store()));
    let told = host.within(|| kept.borrow().as_ref().unwrap().get("k"));
    assert!(matches!(told, Err(Error::Unavailable { .. })), "{told:?}");
}
