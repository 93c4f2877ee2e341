//! What the tenant's ceiling withholds: the guest is told what it lacks, and the run's log who can change it, once, also where
//! the attempt is made again.

use std::time::Duration;

use ltmc_model::call::memory;
use ltmc_model::effect::Refusal;
use ltmc_model::failure::Failure;
use ltmc_model::journal::{Act, Change, Event};
use ltmc_model::memory::Scope;
use ltmc_model::tenancy::Ceiling;
use ltmc_model::{Capability, Payload};
use ltmc_ports::WriteCatalog as _;
use ltmc_ports::testing::sample;

use crate::guest::{Guest, agent};
use crate::host::{Host, Request, World, in_paused_time, tenant};

/// Asks three times for what it is granted, and says how often it was refused.
async fn asks(guest: Guest) -> Result<Payload, Failure> {
    let mut refused = 0;
    for _ in 0..3 {
        match guest.cross(memory::Get { scope: Scope::Session, key: "k".into() }).await? {
            Err(Refusal::Denied(capability)) => {
                assert_eq!(capability.to_string(), "memory:read:session");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
        guest.log("on").await?;
    }
    guest.checkpoint().await?;
    guest.compute(1_000).await;
    guest.log("done").await?;
    Ok(Payload::json(&refused.into()))
}

/// What a run's log says, and which of its effects were withheld.
async fn logged(host: &Host) -> (Vec<String>, Vec<bool>) {
    let run = host.run().await.unwrap();
    let (mut lines, mut withheld) = (Vec::new(), Vec::new());
    for placed in host.journal(run).await {
        match placed.entry.event {
            Event::Log { line, .. } => lines.push(line.message),
            Event::Effect(effect) => withheld.push(effect.withheld),
            _ => {}
        }
    }
    (lines, withheld)
}

#[test]
fn the_run_s_log_says_that_the_ceiling_withholds_it_and_once() {
    in_paused_time(async {
        let world = World::new([agent("asks", asks)]);
        let record = world.record(None).await;
        let ceiling = Ceiling { capabilities: vec![Capability::Log], ..Ceiling::default() };
        let change = Change::CeilingSet { tenant: tenant(), ceiling };
        record.act(&tenant(), sample::at(0), Act { by: None, change }).await.unwrap();
        let host = world.host(&record, []);
        let started = host.start(&Request::call("asks")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        host.record.sync();
        // It dies while the attempt is under way, and the next host makes it again, from its checkpoint on.
        let next = world.host(&host.record.crash(), []);
        assert_eq!(next.runs.recover().await.unwrap().resumed, 1);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(next.ask(&Request::call("asks")).await.unwrap().unwrap(), Payload::json(&3.into()));
        let (lines, withheld) = logged(&next).await;
        let told = "a call was refused: `memory:read:session` is granted, and the ceiling of tenant `acme` withholds it; the operator \
                    can change that";
        assert_eq!(lines, [told, "on", "on", "on", "done"]);
        // The checkpoint needs nothing that could be withheld.
        assert_eq!(withheld, [true, true, true, false]);
        drop(started);
    });
}

#[test]
fn what_is_not_granted_is_no_matter_of_the_ceiling() {
    in_paused_time(async {
        let world = World::new([agent("asks", asks)]);
        let record = world.record(None).await;
        let change = Change::GrantsSet {
            agent: "asks".parse().unwrap(),
            grants: vec![Capability::Log],
            digest: None,
            carry: None,
        };
        record.act(&tenant(), sample::at(0), Act { by: None, change }).await.unwrap();
        let host = world.host(&record, []);
        assert!(host.ask(&Request::call("asks")).await.unwrap().is_ok());
        assert_eq!(logged(&host).await, (["on", "on", "on", "done"].map(str::to_owned).to_vec(), vec![false; 4]));
    });
}
