//! Agents' states: each transition once, whoever dies in between, and nothing of an attempt that failed. A migration is done once, and what
//! does not fit is set aside, never guessed.

use std::time::Duration;

use ltmc_model::call::state::{Get, Transition};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::memory::Drawer;
use ltmc_model::state::{Declared, Kept, Told};
use ltmc_model::{Payload, Revision, SessionId};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::testing::sample;
use ltmc_ports::{ReadJournal as _, ReadMemory as _};
use serde_json::{Value, json};

use crate::crash::{Case, crash_at_every_step};
use crate::guest::{Guest, Script, agent, may_pass, text};
use crate::host::{Request, World, caller, in_paused_time, session, tenant};

fn declaration() -> Value {
    json!({
        "version": 1, "initial": "idle", "data": {"total": 0},
        "schema": {"type": "object", "properties": {"total": {"type": "integer"}}},
        "states": {
            "idle": {}, "working": {"timeout": "10m", "to": "failed"}, "done": {"final": true}, "failed": {"final": true},
        },
        "transitions": [
            {"from": "idle", "to": "working", "on": "start"},
            {"from": "working", "to": "working", "on": "add"},
            {"from": "working", "to": "done", "on": "finish", "when": {"pick": "$.state.total", "at-least": 2}},
        ],
        "invariants": [{"pick": "$.state.total", "less": 100}],
    })
}

/// The same, one version on.
fn second() -> Value {
    let mut declaration = declaration();
    declaration["version"] = json!(2);
    declaration["migrate"] = json!({"from": 1, "agent": "upgrade"});
    declaration["invariants"] = json!([{"pick": "$.state.currency", "exists": true}]);
    declaration["data"] = json!({"total": 0, "currency": "EUR"});
    declaration
}

async fn told(guest: &Guest, event: &str, patch: Value) -> Result<Told, Failure> {
    guest.sure(Transition { event: event.into(), patch: patch.to_string(), expected: None }).await
}

async fn moved(guest: &Guest, event: &str, patch: Value) -> Result<(String, Value), Failure> {
    let now = told(guest, event, patch).await?.unwrap_or_else(|refused| panic!("{event}: {refused:?}"));
    Ok((now.state, serde_json::from_str(&now.data).unwrap()))
}

/// Goes all the way, with a failure in between that leaves nothing.
async fn job(guest: Guest) -> Result<Payload, Failure> {
    assert_eq!(moved(&guest, "start", json!({})).await?, ("working".to_owned(), json!({"total": 0})));
    assert_eq!(told(&guest, "start", json!({})).await?.unwrap_err().rule, "no-transition");
    assert_eq!(moved(&guest, "add", json!({"total": 1})).await?.1, json!({"total": 1}));
    if guest.job.attempt == 1 {
        return Err(may_pass("not yet"));
    }
    assert_eq!(told(&guest, "finish", json!({})).await?.unwrap_err().rule, "guard");
    assert_eq!(told(&guest, "add", json!({"total": 1.5})).await?.unwrap_err().rule, "schema");
    assert_eq!(told(&guest, "add", json!({"total": 100})).await?.unwrap_err().rule, "invariant");
    moved(&guest, "add", json!({"total": 2})).await?;
    let stale = Transition { event: "finish".into(), patch: "{}".into(), expected: Some(Revision(1)) };
    assert_eq!(guest.sure(stale).await?.unwrap_err().rule, "revision");
    let done = moved(&guest, "finish", json!({})).await?;
    assert_eq!(told(&guest, "finish", json!({})).await?.unwrap_err().rule, "final");
    Ok(Payload::json(&json!([done.0, done.1])))
}

const TRIED: &str = "name: tried\nflow: {agent: job, retry: {attempts: 2, backoff: 1ms}}";

/// Where it stands, or the rule by which it is not told.
async fn look(guest: Guest) -> Result<Payload, Failure> {
    Ok(match guest.sure(Get).await? {
        Ok(now) => Payload::json(&json!([now.state, serde_json::from_str::<Value>(&now.data).unwrap(), now.version])),
        Err(refused) => Payload::json(&json!([refused.rule, refused.message])),
    })
}

/// A state of version 1 gets a currency; one that says that it is bad does not.
async fn upgrade(guest: Guest) -> Result<Payload, Failure> {
    let mut given: Value = serde_json::from_slice(&guest.job.input.bytes).unwrap();
    guest.put("upgrades", 1).await?;
    match given["data"]["bad"].as_str() {
        Some("fails") => return Err(Failure::new(Code::AgentError, "it has no currency")),
        Some("unfit") => {}
        _ => given["data"]["currency"] = json!("EUR"),
    }
    Ok(Payload::json(&given))
}

#[test]
fn each_transition_is_made_once_wherever_a_host_dies() {
    let scripts = vec![agent("job", job).declaring(declaration())];
    let (document, side_by_side) = (Some(TRIED.to_owned()), false);
    crash_at_every_step(&Case { request: Request::workflow("tried"), document, scripts, side_by_side });
}

/// What version 1 left.
fn first(data: Value) -> Kept {
    let at = sample::at(0);
    let declared = Declared::of(&agent("look", look).declaring(declaration()).manifest).unwrap().unwrap();
    let machine = ltmc_model::state::Machine { data, ..declared.declaration.first(at.millis()) };
    declared.kept(machine, None, at)
}

fn scripts(declaration: Value, data: Value) -> [Script; 2] {
    [agent("look", look).declaring(declaration).left_in(first(data)), agent("upgrade", upgrade)]
}

/// What an agent of this declaration is told of a state, twice, and what it is then.
async fn looked(declaration: Value, data: Value) -> (Value, Value, Kept, usize) {
    let world = World::new(scripts(declaration, data));
    let record = world.record(None).await;
    let host = world.host(&record, []);
    let ask = async || {
        let answer = host.ask_until_told(&Request { key: None, ..Request::call("look") }).await.unwrap();
        serde_json::from_slice::<Value>(&answer.bytes).unwrap()
    };
    let (one, two) = (ask().await, ask().await);
    let drawer = Drawer::State("look".parse().unwrap());
    let item = record.get(&tenant(), &drawer, "state", world.clock().now()).await.unwrap().unwrap();
    let upgrades = host.children().await.len();
    (one, two, Kept::from_bytes(&item.value).unwrap(), upgrades)
}

#[test]
fn a_state_of_the_version_before_is_migrated_once() {
    in_paused_time(async {
        let (one, two, kept, upgrades) = looked(second(), json!({"total": 7})).await;
        assert_eq!(one, json!(["idle", {"total": 7, "currency": "EUR"}, 2]));
        assert_eq!((two, kept.version, kept.quarantined, upgrades), (one, 2, None, 1));
    });
}

#[test]
fn a_migration_is_done_once_wherever_a_host_dies() {
    for data in [json!({"total": 7}), json!({"total": 7, "bad": "fails"})] {
        let request = Request { key: Some("once".into()), ..Request::call("look") };
        let scripts = scripts(second(), data).to_vec();
        crash_at_every_step(&Case { request, document: None, scripts, side_by_side: false });
    }
}

#[test]
fn a_migration_that_fails_leaves_the_old_state_set_aside() {
    in_paused_time(async {
        for (bad, why) in [("fails", "it has no currency"), ("unfit", "invariant 1 does not hold")] {
            let data = json!({"total": 7, "bad": bad});
            let (one, two, kept, upgrades) = looked(second(), data.clone()).await;
            assert_eq!(one[0], "quarantined");
            assert!(one[1].as_str().unwrap().contains(why), "{one}");
            assert_eq!((two[0].clone(), upgrades), (json!("quarantined"), 1), "it is not tried again by itself");
            assert_eq!((kept.version, kept.data, kept.state.as_str()), (1, data, "idle"), "it is as it was");
            assert!(kept.quarantined.unwrap().contains(why));
        }
    });
}

#[test]
fn a_migration_that_somebody_paused_sets_nothing_aside() {
    in_paused_time(async {
        let slow = agent("upgrade", async |guest: Guest| {
            guest.compute(60_000).await;
            Ok(guest.job.input.clone())
        });
        let [look, _] = scripts(second(), json!({"total": 7}));
        let world = World::new([look, slow]);
        let host = world.host(&world.record(None).await, []);
        let started = host.start(&Request::call("look")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let filter = RunFilter { parent: Some(started.run), limit: 10, ..RunFilter::default() };
        let migration = host.record.runs(&tenant(), &filter).await.unwrap()[0].id;
        host.runs.pause(&caller(), migration).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let drawer = Drawer::State("look".parse().unwrap());
        let item = host.record.get(&tenant(), &drawer, "state", world.clock().now()).await.unwrap().unwrap();
        let kept = Kept::from_bytes(&item.value).unwrap();
        assert_eq!((kept.version, kept.quarantined), (1, None), "that says nothing of the migration");
    });
}

#[test]
fn what_fits_no_declaration_is_told_so_and_stays_as_it_is() {
    in_paused_time(async {
        let (one, _, kept, upgrades) = looked(declaration(), json!({"total": 100})).await;
        assert_eq!((one[0].as_str(), upgrades), (Some("quarantined"), 0));
        assert_eq!((kept.data, kept.quarantined), (json!({"total": 100}), None));
        let mut third = second();
        (third["version"], third["migrate"]["from"]) = (json!(3), json!(2));
        let (one, _, kept, _) = looked(third, json!({"total": 7})).await;
        assert!(one[1].as_str().unwrap().contains("no migration leads from there"), "{one}");
        assert_eq!(kept.version, 1);
        let mut stricter = declaration();
        stricter["schema"] = json!({"properties": {"total": {"maximum": 5}}});
        let (one, ..) = looked(stricter, json!({"total": 7})).await;
        assert!(one[0] == "quarantined" && one[1].as_str().unwrap().contains("/total"), "{one}");
    });
}

/// Two sessions of one agent whose states are a session's.
#[test]
fn a_state_may_be_each_sessions_own() {
    in_paused_time(async {
        let mut own = declaration();
        own["per"] = json!("session");
        let start = agent("job", async |guest: Guest| Ok(Payload::text(moved(&guest, "start", json!({})).await?.0)));
        let world = World::new([start.declaring(own)]);
        let record = world.record(None).await;
        let host = world.host(&record, []);
        let answer = host.ask_until_told(&Request::call("job")).await.unwrap();
        assert_eq!(text(&answer.bytes), "working");
        let drawer = Drawer::State("job".parse().unwrap());
        let page = record.list(&tenant(), &drawer, "", None, 10, world.clock().now()).await.unwrap();
        let of: SessionId = session();
        assert_eq!(page.items.iter().map(|item| item.key.as_str()).collect::<Vec<_>>(), [format!("session/{of}")]);
    });
}
