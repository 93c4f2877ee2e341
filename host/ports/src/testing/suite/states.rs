//! What every record does with states that end by themselves.

use ltmc_model::delta::{Delta, MemoryChange, MemoryValue};
use ltmc_model::journal::{Act, Change};
use ltmc_model::memory::Drawer;
use ltmc_model::state::{Kept, Timer};
use ltmc_model::{Digest, Payload, TenantId, Timestamp};

use super::{Fixture, Store};
use crate::testing::sample::{at, tenant};
use crate::{Changes, ReadStates as _};

fn timer(when: u64, agent: &str, key: &str) -> Timer {
    Timer { at: at(when), agent: agent.parse().unwrap(), key: key.to_owned() }
}

/// What is kept of a state that ends then; none: it does not end.
fn kept(due: Option<u64>) -> Kept {
    Kept {
        version: 1,
        state: "on".into(),
        data: Payload::text("").to_value().unwrap(),
        since: at(0),
        at: at(0),
        from: None,
        event: None,
        timed: false,
        due: due.map(at),
        deferred: Vec::new(),
        dropped: Vec::new(),
        run: None,
        by: None,
        reason: None,
        judged: None,
        quarantined: None,
    }
}

async fn write<S: Store>(store: &S, of: &str, (agent, key): (&str, &str), value: Option<Kept>) {
    let value = value.map(|kept| MemoryValue { bytes: kept.to_bytes(), expires_at: None });
    let drawer = Drawer::State(agent.parse().unwrap());
    let change = MemoryChange {
        drawer,
        key: key.to_owned(),
        revision: store.next_revision(&tenant("acme")),
        value,
        trail: None,
    };
    let act = Change::Context { call: "state.set".into(), about: String::new(), request: Digest([0; 32]) };
    let changes = Changes::blind(vec![Delta::Memory(change)]);
    store.act_with(&tenant(of), at(1), Act { by: None, change: act }, changes).await.unwrap();
}

/// There is a timer where what is kept says so; they are read tenant by tenant, those first that come first.
pub async fn timers_follow_what_is_kept_of_states<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for (of, place, due) in [
        ("beta", ("a", "state"), Some(50)),
        ("acme", ("b", "state"), Some(30)),
        ("acme", ("a", "session/x"), Some(30)),
        ("acme", ("a", "session/y"), Some(20)),
        ("acme", ("c", "state"), None),
        ("gamma", ("a", "state"), Some(10)),
    ] {
        write(&*store, of, place, Some(kept(due))).await;
    }
    // Set anew, ended, and gone.
    write(&*store, "acme", ("b", "state"), Some(kept(Some(40)))).await;
    write(&*store, "gamma", ("a", "state"), Some(kept(None))).await;
    write(&*store, "acme", ("d", "state"), Some(kept(Some(5)))).await;
    write(&*store, "acme", ("d", "state"), None).await;
    let store = fixture.crash(store).await;
    let [acme, beta] = ["acme", "beta"].map(tenant);
    let coming = store.coming_states(None, 10).await.unwrap();
    assert_eq!(coming, [(acme.clone(), at(20)), (beta.clone(), at(50))]);
    assert_eq!(store.coming_states(None, 1).await.unwrap(), coming[..1]);
    assert_eq!(store.coming_states(Some(&acme), 10).await.unwrap(), coming[1..]);
    let [y, x, b] = [timer(20, "a", "session/y"), timer(30, "a", "session/x"), timer(40, "b", "state")];
    let due = async |of: &TenantId, now: Timestamp, after: Option<&Timer>, limit| {
        store.due_states(of, now, after, limit).await.unwrap()
    };
    assert_eq!(due(&acme, at(39), None, 10).await, [y.clone(), x.clone()]);
    assert_eq!(due(&acme, at(40), None, 2).await, [y, x.clone()]);
    assert_eq!(due(&acme, at(40), Some(&x), 2).await, [b]);
    assert_eq!(due(&beta, at(49), None, 10).await, []);
}
