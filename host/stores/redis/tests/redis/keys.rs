//! What stands in the server itself.

use ltmc_model::Position;
use ltmc_model::delta::{Logged, Topic};
use ltmc_model::run::State;
use ltmc_ports::Projection as _;
use ltmc_ports::testing::sample::{run_id, tenant};

use crate::rig::{Record, Server, assert_mail, assert_same, inventory, mark};

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_with_the_same_names_share_no_key_and_no_slot() {
    let (server, mut record) = (Server::start(), Record::new(21));
    let redis = server.open();
    for of in ["acme", "beta"] {
        redis.set_applied(&tenant(of), Position(0)).await.unwrap();
        let mut rows: Vec<Logged> = (0..400).map(|_| record.anything(of)).collect();
        rows.push(record.add(of, mark(run_id(9), 1, State::Running, 1)));
        redis.apply(&tenant(of), &rows, record.end()).await.unwrap();
    }
    let keys = |of: &str| -> Vec<String> {
        let all = server.say("KEYS *");
        let begins = format!("ltmc:{{{of}}}:");
        let mut mine: Vec<String> = all.lines().filter_map(|key| key.strip_prefix(&begins)).map(String::from).collect();
        mine.sort();
        mine
    };
    let (acme, beta) = (keys("acme"), keys("beta"));
    assert!(acme.len() > 20 && beta.len() > 20);
    assert_eq!(server.say("DBSIZE"), (acme.len() + beta.len()).to_string(), "every key is one tenant's");
    for kind in ["applied", "mailbox:bob", "places:bob", "topic:a/b", "changes", "session-keys", "runs", "metrics"] {
        assert!(acme.iter().any(|key| key == kind) && beta.iter().any(|key| key == kind), "{kind}");
    }
    // The tag between the braces alone says in which slot a key is.
    let slot = |key: &str| server.server.say(&["CLUSTER", "KEYSLOT", key]);
    if let Ok(slot_of_acme) = slot("ltmc:{acme}:applied") {
        assert!(acme.iter().all(|key| slot(&format!("ltmc:{{acme}}:{key}")).unwrap() == slot_of_acme));
    }
    for key in ["mailbox:bob", "topic:a/b"] {
        let held = server.say(&format!("XRANGE ltmc:{{acme}}:{key} - +"));
        assert!(held.contains("acme") && !held.contains("beta"), "{key}: {held}");
    }
    // One is emptied, the other stays whole.
    for topic in [Topic::Memory, Topic::Messages, Topic::Runs] {
        let held = inventory(&redis, &tenant("acme"), topic, 100).await;
        let keys: Vec<String> = held.into_iter().map(|(key, _)| key).collect();
        redis.discard(&tenant("acme"), topic, &keys).await.unwrap();
        assert_eq!(inventory(&redis, &tenant("acme"), topic, 100).await, []);
    }
    assert_same(&redis, &record, "beta", 100).await;
    assert_mail(&server, &record, "beta").await;
    assert_eq!(inventory(&redis, &tenant("gamma"), Topic::Messages, 100).await, []);
}
