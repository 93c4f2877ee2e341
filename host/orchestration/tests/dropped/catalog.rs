//! What people do with tenants, keys, agents, grants, ceilings, workflows and databases.

use std::sync::Arc;

use bytes::Bytes;
use ltmc_model::RunId;
use ltmc_model::Seq;
use ltmc_model::agent::Carry;
use ltmc_model::caller::{Caller, Role};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::testing::sample;
use ltmc_ports::{Purge as _, ReadCatalog as _, ReadJournal as _};
use ltmc_tenancy::Error;
use ltmc_tenancy::access::NewKey;

use crate::case::{dropped, nothing};
use crate::house::{
    HANG, House, admin, caps, cut, echo, first, flow, in_paused_time, newest, operator, second, tenant,
};

dropped! {
    a_tenant_is_made:
        of ["tenancy/src/access.rs: create_tenant"],
        before nothing,
        ask async |house: Arc<House>| house.access.create_tenant(&operator(), sample::tenant("newcomers")).await.map(drop),
        again ["conflict"],
        done async |house: Arc<House>| house.record.tenant(&sample::tenant("newcomers")).await.unwrap().is_some();
    a_key_is_made:
        of ["tenancy/src/access.rs: create_key"],
        before nothing,
        ask async |house: Arc<House>| {
            let new = NewKey { tenant: None, role: Role::Viewer, expires_at: None };
            let (key, text) = house.access.create_key(&admin(), new).await?;
            house.texts.lock().unwrap().insert(key.id, text);
            Ok(())
        },
        again [],
        done async |house: Arc<House>| house.texts.lock().unwrap().len() >= 2;
    a_key_is_taken_back:
        of ["tenancy/src/access.rs: revoke_key"],
        before nothing,
        ask async |house: Arc<House>| house.access.revoke_key(&admin(), &house.key).await,
        again [],
        done async |house: Arc<House>| {
            let text = house.texts.lock().unwrap()[&house.key].clone();
            house.access.authenticate(&text).await.is_err()
        };
    a_ceiling_is_set:
        of ["tenancy/src/access.rs: set_ceiling"],
        before nothing,
        ask async |house: Arc<House>| {
            let mut ceiling = house.recorded_ceiling().await;
            ceiling.capabilities = caps(&["log"]);
            house.access.set_ceiling(&operator(), &tenant(), ceiling).await
        },
        again [],
        done async |house: Arc<House>| {
            let in_force = house.authority.in_force(&tenant(), &echo(), &first()).await.unwrap();
            !in_force.allows(&caps(&["memory:read:global"])[0]) && in_force.allows(&caps(&["log"])[0])
        };
    an_agent_is_pushed:
        of ["tenancy/src/agents.rs: push"],
        before nothing,
        ask async |house: Arc<House>| {
            house.agents.push(&admin(), echo(), Bytes::from_static(b"second"), None).await.map(drop)
        },
        again [],
        done async |house: Arc<House>| {
            let agent = house.record.agent(&tenant(), &echo(), None).await.unwrap();
            let pushed = agent.is_some_and(|agent| agent.digest == second());
            // It asks for nothing more: it takes over what the first was granted, in the same commit.
            let granted = house.record.grants(&tenant(), &echo(), &second()).await.unwrap().capabilities;
            pushed && granted == caps(&["log", "memory:read:*"])
        };
    an_agent_is_deleted:
        of ["tenancy/src/agents.rs: delete"],
        before nothing,
        ask async |house: Arc<House>| house.agents.delete(&admin(), &echo()).await,
        again ["not-found"],
        done async |house: Arc<House>| house.record.agent(&tenant(), &echo(), None).await.unwrap().is_none();
    grants_are_set:
        of ["tenancy/src/agents.rs: set_grants"],
        before nothing,
        ask async |house: Arc<House>| {
            house.agents.set_grants(&admin(), &newest(), caps(&["memory:write:*"]), Carry::Never).await
        },
        again [],
        done async |house: Arc<House>| {
            house.record.grants(&tenant(), &echo(), &first()).await.unwrap().capabilities == caps(&["memory:write:*"])
        };
    a_grant_is_taken_back:
        of ["tenancy/src/agents.rs: revoke_grant"],
        before nothing,
        ask async |house: Arc<House>| house.agents.revoke_grant(&admin(), &echo(), &caps(&["memory:read:*"])[0]).await,
        again ["not-found"],
        done async |house: Arc<House>| house.record.grants(&tenant(), &echo(), &first()).await.unwrap().capabilities == caps(&["log"]);
    a_workflow_is_put:
        of ["orchestration/src/workflows.rs: put"],
        before nothing,
        ask async |house: Arc<House>| {
            house.workflows.put(&admin(), flow(), "name: flow\nflow: {agent: echo}".to_owned()).await.map(drop)
        },
        again [],
        done async |house: Arc<House>| {
            let stored = house.record.workflow(&tenant(), &flow()).await.unwrap();
            stored.is_some_and(|stored| !stored.source.contains("sequence"))
        };
    a_workflow_is_deleted:
        of ["orchestration/src/workflows.rs: delete"],
        before nothing,
        ask async |house: Arc<House>| house.workflows.delete(&admin(), &flow()).await,
        again ["not-found"],
        done async |house: Arc<House>| house.record.workflow(&tenant(), &flow()).await.unwrap().is_none();
    /// What it has goes in the background, with its run that is under way, and its name is free then.
    a_tenant_is_deleted:
        of ["tenancy/src/deletions.rs: delete"],
        during |house| async move {
            let leavers = leavers();
            house.access.create_tenant(&operator(), leavers.tenant.clone()).await.unwrap();
            let new = NewKey { tenant: Some(leavers.tenant.clone()), role: Role::Viewer, expires_at: None };
            let (key, text) = house.access.create_key(&operator(), new).await.unwrap();
            house.texts.lock().unwrap().insert(key.id, text.clone());
            house.access.authenticate(&text).await.unwrap();
            house.agents.push(&leavers, echo(), Bytes::from_static(b"theirs"), None).await.unwrap();
            house.call_by(&leavers, HANG, Some("once")).await.unwrap();
        }.boxed(),
        ask async |house: Arc<House>| house.deletions.delete(&operator(), &leavers().tenant).await,
        again ["not-found"],
        whole async |house: Arc<House>| {
            let leavers = leavers().tenant;
            let is_there = house.record.tenant(&leavers).await.unwrap().is_some();
            let has_agent = house.record.agent(&leavers, &echo(), None).await.unwrap().is_some();
            is_there == has_agent && is_there == house.record.gone().await.unwrap().is_empty()
        },
        done async |house: Arc<House>| {
            let leavers = leavers().tenant;
            let filter = RunFilter { limit: 10, ..RunFilter::default() };
            let is_gone = house.record.gone().await.unwrap().contains_key(&leavers);
            let has_nothing = house.record.runs(&leavers, &filter).await.unwrap().is_empty();
            // Whoever has the name next is another.
            let anew = house.access.create_tenant(&operator(), leavers).await;
            is_gone && has_nothing && house.record.deleted().await.unwrap().is_empty() && anew.is_ok()
        };
    /// What a role may not do is refused, and that is recorded.
    a_use_case_is_refused:
        of ["tenancy/src/authority.rs: refuse"],
        before nothing,
        ask async |house: Arc<House>| {
            let viewer = Caller { role: Role::Viewer, ..admin() };
            match house.access.revoke_key(&viewer, &house.key).await {
                Err(Error::Denied { .. }) => Ok(()),
                other => panic!("{other:?}"),
            }
        },
        again [],
        done async |house: Arc<House>| refusals(&house).await == 1;
    /// The databases that follow the record are compared with it, and mended: here the index of notes.
    databases_are_repaired:
        of ["projections/src/repair.rs: repair"],
        before |house| async move {
            house.remember("a", "what the record has").await;
            house.remember("b", "what the index has of another version").await;
            house.remember("gone", "what the index alone has").await;
            house.repairs.repair(&operator(), true).await.unwrap();
            house.forget("gone").await;
            house.remember("b", "what the record has of it").await;
            let differs = house.repairs.repair(&operator(), false).await.unwrap();
            assert_eq!(differs.reports.iter().map(|report| report.found.count()).sum::<u64>(), 2, "{differs:?}");
        }.boxed(),
        ask async |house: Arc<House>| {
            let outcome = house.repairs.repair(&operator(), true).await?;
            assert_eq!(outcome.failed, []);
            Ok(())
        },
        again [],
        done async |house: Arc<House>| {
            let compared = house.repairs.repair(&operator(), false).await.unwrap();
            compared.is_equal() && compared.reports.iter().map(|report| report.found.compared).sum::<u64>() == 2
        };
}

/// An admin of the tenant that goes.
fn leavers() -> Caller {
    Caller { tenant: sample::tenant("leavers"), ..admin() }
}

/// How many refusals are in the ledger.
async fn refusals(house: &House) -> usize {
    let ledger = house.record.entries(&tenant(), RunId::ledger(), Seq(0), 100).await.unwrap();
    ledger.iter().filter(|placed| format!("{:?}", placed.entry.event).contains("Refused")).count()
}

#[test]
fn who_reads_while_something_is_taken_back_may_be_dropped_anywhere() {
    for polls in 0..40 {
        for head_start in 0..12 {
            in_paused_time(async {
                let house = House::new().await;
                let reader = tokio::spawn({
                    let house = house.clone();
                    async move { cut(house.read_on(), polls).await }
                });
                for _ in 0..head_start {
                    tokio::task::yield_now().await;
                }
                let key = house.key.clone();
                house.access.revoke_key(&admin(), &key).await.unwrap();
                house.agents.revoke_grant(&admin(), &echo(), &caps(&["log"])[0]).await.unwrap();
                let when = format!("a reader dropped after {polls} polls, {head_start} ahead");
                // Whoever comes with a key that was taken back is written down by a task of the host's.
                house.settle().await;
                house.agrees(&when).await;
                reader.await.unwrap();
                house.settle().await;
                house.agrees(&when).await;
            });
        }
    }
}

#[test]
fn a_refusal_is_in_the_ledger_though_its_client_is_gone() {
    in_paused_time(async {
        let house = House::new().await;
        let viewer = Caller { role: Role::Viewer, ..admin() };
        assert!(cut(house.access.revoke_key(&viewer, &house.key), 1).await.is_none());
        house.settle().await;
        assert_eq!(refusals(&house).await, 1);
    });
}

#[test]
fn two_who_take_back_different_grants_at_once_take_back_both() {
    in_paused_time(async {
        let house = House::new().await;
        let (by, agent, grants) = (admin(), echo(), caps(&["log", "memory:read:*"]));
        let (one, other) = tokio::join!(
            house.agents.revoke_grant(&by, &agent, &grants[0]),
            house.agents.revoke_grant(&by, &agent, &grants[1])
        );
        assert!(one.is_ok() && other.is_ok(), "{one:?}, {other:?}");
        assert_eq!(house.record.grants(&tenant(), &echo(), &first()).await.unwrap().capabilities, []);
        house.agrees("at the end").await;
    });
}
