//! What becomes of deleted tenants, in every record.

use std::collections::BTreeMap;

use ltmc_model::journal::{Act, Change};
use ltmc_model::memory::Drawer;
use ltmc_model::run::Target;
use ltmc_model::schedule::{Overlap, Passed, Planned, Timing};
use ltmc_model::tenancy::Tenant;
use ltmc_model::trigger::{Feed, OnPoison, Planted, Trigger};
use ltmc_model::{Digest, Position, RunId, Seq, TenantId, Timestamp};

use super::{Fixture, Store};
use crate::journal::{Head, RunFilter};
use crate::schedules::Ticked;
use crate::testing::sample::{Owner, at, mailbox, put, run_id, sent, tenant, topic};
use crate::triggers::Intake;
use crate::{Durability, Kind, Purge as _, ReadCatalog as _, ReadJournal as _, WriteCatalog as _, WriteJournal as _};

/// More pieces than any case here has rows: a purge that never ends is found.
const MOST_PIECES: u32 = 10_000;

fn act(change: Change) -> Act {
    Act { by: None, change }
}

async fn made<S: Store>(store: &S, of: &str) {
    let change = Change::TenantCreated(Tenant { name: tenant(of), created_at: at(1) });
    store.act(&TenantId::host(), at(1), act(change)).await.unwrap();
}

fn workflow() -> Change {
    let timing = Timing::new("@daily".parse().unwrap(), "UTC".parse().unwrap(), Overlap::Skip, Timing::CATCH_UP);
    let trigger = Trigger {
        feed: Feed::Topic("news".parse().unwrap()),
        filter: None,
        start: Target::Workflow("w".parse().unwrap()),
        at_once: 1,
        on_poison: OnPoison::Skip,
        rate: None,
        gather: None,
    };
    Change::WorkflowPut {
        name: "w".parse().unwrap(),
        source: "name: w".into(),
        digest: Digest([1; 32]),
        schedules: vec![Planned { digest: Digest([2; 32]), timing, next: at(1) }],
        triggers: vec![Planted { trigger, after: Position(0) }],
    }
}

/// A tenant with a workflow, a run that is under way and one that is suspended, an idempotency key, keys of memory, a letter and an event.
async fn furnished<S: Store>(store: &S, of: &str) -> Head {
    made(store, of).await;
    store.act(&tenant(of), at(2), act(workflow())).await.unwrap();
    let next = || store.next_revision(&tenant("acme")).0;
    let mut owner = Owner::new(of, 1);
    store.append(owner.under("again", Timestamp::NEVER), Durability::Lazy).await.unwrap();
    let deltas = vec![sent(mailbox("echo"), next(), "a letter"), sent(topic("news"), next(), "an event")];
    store.append(owner.change(deltas), Durability::Lazy).await.unwrap();
    for number in 0..100 {
        let change = put(&Drawer::Global, &format!("k{number}"), store.next_revision(&tenant("acme")), "value");
        store.append(owner.remember(vec![change]), Durability::Lazy).await.unwrap();
    }
    let mut asleep = Owner::new(of, 2).append(1);
    asleep.run.wakes_at = Some(at(50));
    store.append(asleep, Durability::Lazy).await.unwrap();
    store.append(owner.append(1), Durability::Barrier).await.unwrap();
    head(store, of).await.expect("it has a chain")
}

async fn head<S: Store>(store: &S, of: &str) -> Option<Head> {
    store.heads(None, 1_000).await.unwrap().into_iter().find(|head| head.tenant == tenant(of))
}

async fn delete<S: Store>(store: &S, of: &str, when: Timestamp) {
    store.act(&TenantId::host(), when, act(Change::TenantDeleted { tenant: tenant(of) })).await.unwrap();
}

/// How much can be read of what [`furnished`] makes.
async fn found<S: Store>(store: &S, of: &str) -> [usize; 7] {
    let (of, run) = (tenant(of), run_id(1));
    let memory = store.list(&of, &Drawer::Global, "", None, 1_000, at(3)).await.unwrap();
    [
        store.entries(&of, run, Seq(0), 1_000).await.unwrap().len(),
        store.runs(&of, &RunFilter { limit: 10, ..RunFilter::default() }).await.unwrap().len(),
        store.idempotent(&of, "again", at(3)).await.unwrap().into_iter().count(),
        memory.items.len(),
        store.entries(&of, RunId::ledger(), Seq(0), 1_000).await.unwrap().len(),
        store.schedules(&of, None, None, 10).await.unwrap().len(),
        store.triggers(&of, None, 10).await.unwrap().len(),
    ]
}

/// All there is of one that nobody deleted.
const WHOLE: [usize; 7] = [103, 2, 1, 100, 1, 1, 1];

/// Whoever tries to write something of a deleted tenant is fenced off, whichever way he tries.
async fn is_fenced<S: Store>(store: &S, of: &str, number: u64) {
    let of_name = tenant(of);
    let append = store.append(Owner::new(of, number).append(1), Durability::Barrier).await;
    assert_eq!(append.unwrap_err().kind, Kind::Fenced, "a new run");
    let refused = store.act(&of_name, at(5), act(workflow())).await;
    assert_eq!(refused.unwrap_err().kind, Kind::Fenced, "an act");
    let ticked = Ticked { due: at(1), next: at(2), passed: Passed::default(), trouble: None };
    let (schedule, trigger) = ("w/1".parse().unwrap(), "w:1".parse().unwrap());
    let refused = store.tick(&of_name, &schedule, Digest([2; 32]), ticked).await;
    assert_eq!(refused.unwrap_err().kind, Kind::Fenced, "a tick");
    let intake =
        Intake { after: Position(0), upto: Position(1), found: Vec::new(), cascade: 9, at: at(5), trouble: None };
    let refused = store.take_in(&of_name, &trigger, Digest([3; 32]), intake).await;
    assert_eq!(refused.unwrap_err().kind, Kind::Fenced, "events");
    let refused = store.bury(&of_name, &trigger, Position(1), "why".into()).await;
    assert_eq!(refused.unwrap_err().kind, Kind::Fenced, "a dead letter");
    let refused = store.tell(&of_name, &trigger, None).await;
    assert_eq!(refused.unwrap_err().kind, Kind::Fenced, "trouble");
}

/// Only what was deleted is purged.
pub async fn only_deleted_tenants_are_purged<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    furnished(&*store, "acme").await;
    assert!(!store.purge(&tenant("acme")).await.unwrap(), "nobody deleted it");
    assert!(!store.purge(&tenant("nobody")).await.unwrap(), "it was never there");
    assert!(!store.purge(&TenantId::host()).await.unwrap(), "the host's ledger stays");
    assert_eq!(found(&*store, "acme").await, WHOLE);
    assert!(store.deleted().await.unwrap().is_empty());
    assert_eq!(store.gone().await.unwrap(), BTreeMap::new());
}

/// A deleted tenant goes piece by piece: whoever dies meanwhile, nothing of it is written any more, what is gone stays gone, the
/// others keep what they have, and the chain of nobody is broken by it.
pub async fn a_deleted_tenant_goes_piece_by_piece_and_is_written_no_more<F: Fixture>(fixture: &F) {
    let mut store = fixture.fresh().await;
    let (acme, host) = (tenant("acme"), TenantId::host());
    let (whole, _) = (furnished(&*store, "acme").await, furnished(&*store, "beta").await);
    delete(&*store, "acme", at(3)).await;
    assert_eq!(store.tenant(&acme).await.unwrap(), None);
    assert_eq!(store.tenants(None, 9).await.unwrap().len(), 1);
    let unfinished = store.unfinished(None, 1_000).await.unwrap();
    assert!(unfinished.iter().all(|run| run.tenant != acme), "its runs are taken up by nobody");
    assert!(store.unfinished_of(&acme, run_id(0), 10).await.unwrap().is_empty());
    let asleep = store.sleepers(None, 10).await.unwrap();
    assert_eq!(asleep.iter().map(|(tenant, _)| tenant.as_str()).collect::<Vec<_>>(), ["beta"]);
    let mut before = found(&*store, "acme").await;
    for pieces in 0_u32.. {
        assert!(pieces < MOST_PIECES, "it never ends");
        assert_eq!(
            store.deleted().await.unwrap(),
            std::slice::from_ref(&acme),
            "also once there is its chain's end alone"
        );
        assert_eq!(store.gone().await.unwrap(), BTreeMap::new());
        is_fenced(&*store, "acme", u64::from(pieces) + 10).await;
        let anew = Change::TenantCreated(Tenant { name: acme.clone(), created_at: at(4) });
        assert_eq!(store.act(&host, at(4), act(anew)).await.unwrap_err().kind, Kind::Conflict, "its name is taken");
        assert!(store.verify().await.unwrap().damage.is_empty(), "after {pieces} pieces");
        let is_more = store.purge(&acme).await.unwrap();
        if pieces % 5 == 0 {
            store.append(Owner::new("beta", 100 + u64::from(pieces)).append(1), Durability::Barrier).await.unwrap();
            store = fixture.crash(store).await;
        }
        let now = found(&*store, "acme").await;
        assert!(now.iter().zip(before).all(|(now, before)| *now <= before), "{now:?} after {before:?}");
        before = now;
        if !is_more {
            break;
        }
    }
    assert_eq!(before, [0; 7]);
    assert_eq!(head(&*store, "acme").await, Some(whole), "the end of its chain, as it was when it was deleted");
    let of_beta = found(&*store, "beta").await;
    assert_eq!((of_beta[0], of_beta[3]), (WHOLE[0], WHOLE[3]));
}

/// Once it is said that nothing is left, the name is free: whoever has it then is another, and it is known since when.
pub async fn who_has_a_deleted_tenant_s_name_is_another<F: Fixture>(fixture: &F) {
    let mut store = fixture.fresh().await;
    let acme = tenant("acme");
    let mut ends = Vec::new();
    for round in 1..=2 {
        let end = furnished(&*store, "acme").await;
        assert_eq!(found(&*store, "acme").await, WHOLE, "nothing of the one before");
        delete(&*store, "acme", at(10 * round)).await;
        while store.purge(&acme).await.unwrap() {}
        let change = Change::TenantGone { head: end.clone() };
        store.act(&TenantId::host(), at(10 * round + 1), act(change)).await.unwrap();
        store = fixture.crash(store).await;
        assert!(store.deleted().await.unwrap().is_empty());
        assert_eq!(store.gone().await.unwrap(), [(acme.clone(), at(10 * round + 1))].into());
        assert_eq!(head(&*store, "acme").await, None);
        assert!(store.verify().await.unwrap().damage.is_empty());
        ends.push(end);
    }
    assert_eq!(ends[0].length, ends[1].length, "its chain begins anew");
    made(&*store, "acme").await;
    assert_eq!(store.last(&acme, RunId::ledger()).await.unwrap(), Seq(0));
    assert_eq!(store.agents(&acme, None, 10).await.unwrap(), Vec::new());
    store.append(Owner::new("acme", 9).append(1), Durability::Barrier).await.unwrap();
}
