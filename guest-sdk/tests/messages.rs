//! Messages: mailboxes, redelivery, dead letters, topics.

use std::time::Duration;

use ltmc::messages::{self, Draft, Event};
use ltmc::testing::{Channel, Host};
use ltmc::{Error, Payload};

const NOW: Duration = Duration::ZERO;

fn host() -> Host {
    ["message:receive", "message:send:*", "message:publish:*", "message:subscribe:*"]
        .iter()
        .fold(Host::new(), |host, capability| host.grant(capability))
}

fn draft(text: &str) -> Draft {
    Draft::json("note.added", text).unwrap()
}

fn text(event: &Event) -> String {
    event.json().unwrap()
}

#[test]
fn an_event_says_who_sent_it_and_arrives_as_it_was_written() {
    let host = host().agent("read-diff");
    let other = host.clone().agent("summarizer");
    let id = host.within(|| messages::send("summarizer", draft("a").subject("a.md"))).unwrap();
    let sent = host.sent();
    assert_eq!(sent[0].to, Channel::Mailbox("summarizer".to_owned()));
    assert!(host.mailbox().is_empty());
    other.within(|| {
        let received = messages::receive(10, NOW).unwrap();
        assert_eq!((received[0].id, received[0].deliveries), (id, 1));
        let event = &received[0].event;
        assert_eq!(*event, sent[0].event);
        assert_eq!((event.source.as_str(), event.kind.as_str()), ("/agents/read-diff", "note.added"));
        assert_eq!((event.subject.as_deref(), event.time_ms), (Some("a.md"), host.now_ms()));
        assert_eq!((event.data.content_type.as_str(), text(event)), ("application/json", "a".to_owned()));
        assert!(event.json::<u32>().is_err());
        received[0].ack().unwrap();
        assert_eq!(received[0].ack(), Err(Error::NotFound), "it is gone");
    });
    assert!(other.mailbox().is_empty());
}

#[test]
fn what_is_not_acknowledged_comes_again_and_then_is_a_dead_letter() {
    let host = host();
    host.deliver(draft("poison"));
    for deliveries in 1..=5 {
        assert!(host.dead_letters().is_empty());
        host.within(|| {
            assert_eq!(messages::receive(10, NOW).unwrap()[0].deliveries, deliveries);
            assert!(messages::receive(10, NOW).unwrap().is_empty(), "it is in these hands already");
        });
    }
    let dead = host.dead_letters();
    assert_eq!((dead.len(), dead[0].deliveries, dead[0].reason.contains("5 times")), (1, 5, true));
    host.within(|| assert!(messages::receive(10, NOW).unwrap().is_empty()));
    assert!(host.mailbox().is_empty());
}

#[test]
fn what_a_panic_leaves_goes_back() {
    let host = host();
    let id = host.deliver(draft("a"));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        host.within(|| -> Result<(), Error> {
            messages::receive(1, NOW)?;
            panic!("as asked");
        })
    }));
    assert!(panicked.is_err());
    host.within(|| {
        assert_eq!(messages::ack(id), Err(Error::NotFound), "it is not in these hands yet");
        assert_eq!(messages::receive(1, NOW).unwrap()[0].deliveries, 2);
        messages::ack(id).unwrap();
    });
}

#[test]
fn what_is_rejected_is_a_dead_letter_at_once_with_its_reason() {
    let host = host();
    host.deliver(draft("a"));
    host.within(|| {
        let delivery = messages::receive(1, NOW).unwrap().remove(0);
        for reason in ["x".repeat(1025), "a\tb".to_owned()] {
            assert!(matches!(delivery.reject(&reason), Err(Error::Invalid(_))));
        }
        delivery.reject("no such file:\na.md").unwrap();
        assert_eq!(delivery.ack(), Err(Error::NotFound));
    });
    assert_eq!(host.dead_letters()[0].reason, "no such file:\na.md");
}

#[test]
fn of_one_sender_nothing_overtakes_what_is_in_hands() {
    let host = host();
    for (source, note) in [("/agents/a", "a1"), ("/agents/a", "a2"), ("/agents/b", "b1")] {
        host.deliver_from(source, draft(note));
    }
    host.within(|| {
        let take = |limit| messages::receive(limit, NOW).unwrap();
        let first = take(1);
        assert_eq!(text(&first[0].event), "a1");
        let second = take(10);
        assert_eq!(second.iter().map(|d| text(&d.event)).collect::<Vec<_>>(), ["b1"], "not a2 before a1 is done");
        first[0].ack().unwrap();
        assert_eq!(text(&take(10)[0].event), "a2");
    });
    host.within(|| {
        let all = messages::receive(10, NOW).unwrap();
        assert_eq!(all.iter().map(|d| text(&d.event)).collect::<Vec<_>>(), ["a2", "b1"]);
    });
}

#[test]
fn a_topic_shows_every_reader_every_event() {
    let host = host();
    let ran = host.tries(1, |task| {
        let read = |after, limit| messages::read("reviews", after, limit, NOW).unwrap();
        messages::publish("reviews", draft("before")).unwrap();
        let start = read(None, 10);
        assert!(start.events.is_empty(), "from now on");
        for note in ["1", "2", "3"] {
            messages::publish("reviews", draft(note)).unwrap();
        }
        messages::publish("else", draft("4")).unwrap();
        assert!(read(Some(start.next), 10).events.is_empty(), "not before it is true");
        task.checkpoint()?;
        host.publish("reviews", draft("5"));
        let first = read(Some(start.next), 2);
        let rest = read(Some(first.next), 10);
        let texts: Vec<_> = first.events.iter().chain(&rest.events).map(|one| text(&one.event)).collect();
        assert_eq!(texts, ["1", "2", "3", "5"]);
        assert_eq!(read(Some(start.next), 10).events.len(), 4, "nobody took them");
        assert_eq!(rest.next, rest.events[1].position);
        assert_eq!(read(Some(rest.next), 10).next, rest.next);
        host.trim();
        assert!(matches!(messages::read("reviews", Some(start.next), 1, NOW), Err(Error::Resync(_))));
        Ok(())
    });
    assert_eq!(ran, Ok(()));
    let topics: Vec<_> = host.sent().into_iter().map(|sent| sent.to).collect();
    assert_eq!(topics.len(), 5, "what agents published, not what clients did");
    assert_eq!(topics[0], Channel::Topic("reviews".to_owned()));
}

#[test]
fn nobody_waits_and_the_clock_goes_on() {
    let host = host();
    let begun = host.now_ms();
    host.within(|| {
        assert!(messages::receive(1, Duration::from_secs(5)).unwrap().is_empty());
        assert!(messages::read("reviews", None, 1, Duration::from_secs(7)).unwrap().events.is_empty());
    });
    assert_eq!(host.now_ms() - begun, 12_000);
}

#[test]
fn everything_is_bounded() {
    let host = host();
    host.within(|| {
        let invalid = |told: Result<u64, Error>| assert!(matches!(told, Err(Error::Invalid(_))), "{told:?}");
        let long = "x".repeat(257);
        let bytes = |size: usize| Payload::new("application/octet-stream", vec![0; size]);
        for event in [
            Draft::new("", Payload::default()),
            Draft::new("a\nb", Payload::default()),
            Draft::new(&long, Payload::default()),
            Draft::new("k", Payload::default()).subject(""),
            Draft::new("k", Payload::default()).subject(&long),
            Draft::new("k", bytes((256 << 10) + 1)),
            Draft::new("k", Payload::new(long.clone(), "")),
        ] {
            invalid(messages::send("other", event.clone()));
            invalid(messages::publish("reviews", event));
        }
        assert!(messages::send("other", Draft::new(&long[..256], bytes(256 << 10))).is_ok());
        for agent in ["", "Other", "other-", "1"] {
            invalid(messages::send(agent, draft("")));
        }
        for topic in ["", "Reviews", "a b", &"t".repeat(129)] {
            invalid(messages::publish(topic, draft("")));
            invalid(messages::read(topic, None, 1, NOW).map(|found| found.next));
        }
        for (limit, wait) in [(0, 0), (101, 0), (1, 31)] {
            let wait = Duration::from_secs(wait);
            invalid(messages::receive(limit, wait).map(|_| 0));
            invalid(messages::read("reviews", None, limit, wait).map(|found| found.next));
        }
    });
}

#[test]
fn a_full_mailbox_pushes_back() {
    let host = host();
    let other = host.clone().agent("other");
    host.within(|| {
        for _ in 0..10_000 {
            messages::send("other", draft("")).unwrap();
        }
        let full = messages::send("other", draft("")).unwrap_err();
        assert!(matches!(&full, Error::QuotaExceeded(why) if why.contains("`other`")), "{full}");
    });
    other.within(|| messages::receive(1, NOW).unwrap()[0].ack().unwrap());
    host.within(|| assert!(messages::send("other", draft("")).is_ok()));
}

#[test]
fn nobody_by_that_name_is_not_found() {
    let host = host();
    host.remove_agent("nobody");
    assert_eq!(host.within(|| messages::send("nobody", draft(""))), Err(Error::NotFound));
}

#[test]
fn each_call_needs_its_capability_and_no_other() {
    let denied = |wanted: &str| Error::AccessDenied(wanted.to_owned());
    Host::new().within(|| {
        assert_eq!(messages::send("other", draft("")), Err(denied("message:send:other")));
        assert_eq!(messages::publish("reviews", draft("")), Err(denied("message:publish:reviews")));
        assert_eq!(messages::read("reviews", None, 1, NOW), Err(denied("message:subscribe:reviews")));
        for told in [messages::receive(1, NOW).map(drop), messages::ack(1), messages::reject(1, "")] {
            assert_eq!(told, Err(denied("message:receive")));
        }
    });
    let host = Host::new().grant("message:send:other").grant("message:publish:reviews");
    host.within(|| {
        assert!(messages::send("other", draft("")).is_ok());
        assert_eq!(messages::send("another", draft("")), Err(denied("message:send:another")));
        assert!(messages::publish("reviews", draft("")).is_ok());
        assert_eq!(messages::read("reviews", None, 1, NOW), Err(denied("message:subscribe:reviews")));
    });
}
