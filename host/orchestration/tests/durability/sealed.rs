//! What a long run costs whoever takes it up: what is sealed of it, and the entries since.

use std::time::Duration;

use ltmc_model::run::State;
use ltmc_model::{Payload, RunId};
use ltmc_ports::ReadJournal as _;
use serde_json::json;

use crate::guest::{Script, agent};
use crate::host::{Host, Request, World, in_paused_time, tenant};

/// Counts on, and takes a moment for it.
fn tick() -> Script {
    agent("tick", |guest| async move {
        guest.compute(1).await;
        Ok(Payload::json(&json!(guest.job.input.to_value().unwrap_or_default().as_u64().unwrap_or(0) + 1)))
    })
}

fn request() -> Request {
    Request { input: Payload::json(&json!(0)), ..Request::workflow("flow") }
}

/// A host that was stopped in the middle of a run of so many rounds, once it had made so many.
async fn stopped(world: &World, rounds: u64, made: u64) -> (Host, RunId) {
    let document = format!("name: flow\nflow: {{loop: {{agent: tick}}, at-most: {rounds}}}");
    let host = world.host(&world.record(Some(&document)).await, []);
    let run = host.start(&request()).await.unwrap().run;
    // Of a round: it begins, it ends, and what comes next.
    while host.record.last(&tenant(), run).await.unwrap().0 < 3 * made {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    host.runs.stop(Duration::ZERO).await;
    (host, run)
}

/// The next host takes up what there is; how many entries it reads for that.
async fn taken_up(world: &World, host: &Host) -> (Host, u64) {
    let next = world.host(&host.record, []);
    let before = host.record.entries_read();
    assert_eq!(next.runs.recover().await.unwrap().resumed, 1);
    let read = host.record.entries_read() - before;
    (next, read)
}

#[test]
fn what_is_damaged_is_left_aside_and_the_run_goes_on_from_its_journal() {
    /// As a disk may do it.
    type Damage = fn(&mut Vec<u8>);
    let flip: Damage = |bytes| bytes[100] ^= 1;
    let cut: Damage = |bytes| bytes.truncate(50);
    let empty: Damage = Vec::clear;
    for damage in [None, Some(flip), Some(cut), Some(empty)] {
        in_paused_time(async {
            let world = World::new([tick()]).sealing_often();
            let (host, run) = stopped(&world, 60, 30).await;
            if let Some(damage) = damage {
                host.record.damage_snapshots(&tenant(), run, damage);
            }
            let length = host.record.last(&tenant(), run).await.unwrap().0;
            let (next, read) = taken_up(&world, &host).await;
            match damage {
                None => assert!(read < 12, "{read} of {length} entries were read"),
                Some(_) => assert!(read >= length, "{read} of {length} entries were read"),
            }
            let answer = next.ask(&request()).await.unwrap().unwrap();
            assert_eq!(answer.to_value().unwrap(), json!(60));
            assert_eq!(host.record.run(&tenant(), run).await.unwrap().unwrap().state, State::Completed);
        });
    }
}
