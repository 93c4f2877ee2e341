//! How chains end, in every record.

use ltmc_model::chain::Chain;
use ltmc_model::journal::{Act, Change};
use ltmc_model::memory::Drawer;
use ltmc_model::tenancy::Tenant;
use ltmc_model::{Digest, RunId, Seq, TenantId};

use super::Fixture;
use crate::journal::Head;
use crate::testing::sample::{Owner, at, put, run_id, tenant};
use crate::{Durability, Expect, Kind, ReadChains as _, ReadJournal as _, WriteCatalog as _, WriteJournal as _};

fn made(name: &str) -> Act {
    Act { by: None, change: Change::TenantCreated(Tenant { name: tenant(name), created_at: at(1) }) }
}

/// A chain ends with the hash over all of its tenant's entries, in the order in which they were recorded, of whichever run; what is
/// refused is not among them.
pub async fn a_chain_ends_with_the_hash_over_all_of_its_entries<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, beta) = (tenant("acme"), tenant("beta"));
    assert_eq!(store.heads(None, 10).await.unwrap(), [], "nothing was recorded yet");
    let (mut one, mut two) = (Owner::new("acme", 1), Owner::new("acme", 2));
    let mut expected = Chain::default();
    let mut order: Vec<(RunId, Seq)> = Vec::new();
    for (owner, entries) in [(&mut one, 2), (&mut two, 1)] {
        let append = owner.append(entries);
        order.extend((1..=entries).map(|number| (append.run.id, Seq(append.expected.0 + number))));
        store.append(append, Durability::Lazy).await.unwrap();
    }
    store.append(Owner::new("beta", 3).append(1), Durability::Lazy).await.unwrap();
    for (run, seq) in order {
        let placed = store.entries(&acme, run, Seq(seq.0 - 1), 1).await.unwrap();
        expected.link(&acme, run, seq, &Digest::of(&placed[0].entry.to_bytes()));
    }
    let heads = store.heads(None, 10).await.unwrap();
    let of_acme = Head { tenant: acme.clone(), length: expected.length, hash: expected.head };
    assert_eq!(heads.iter().find(|head| head.tenant == acme), Some(&of_acme));
    // What becomes true by an entry is part of what is hashed, as the record keeps it; acts are in the same chain.
    let change = put(&Drawer::Global, "k", store.next_revision(&tenant("acme")), "v");
    store.append(one.remember(vec![change]), Durability::Lazy).await.unwrap();
    let change = Change::Context { call: "c".into(), about: "a".into(), request: Digest::of(b"") };
    store.act(&acme, at(2), Act { by: None, change }).await.unwrap();
    let grown = store.heads(None, 10).await.unwrap();
    let now = grown.iter().find(|head| head.tenant == acme).expect("it has a chain");
    assert!(now.length == of_acme.length + 2 && now.hash != of_acme.hash);
    let absent = vec![Expect::Key { drawer: Drawer::Global, key: "k".into(), revision: None }];
    let refused = store.append(two.clone().expecting(absent, Vec::new()), Durability::Lazy).await;
    assert_eq!(refused.unwrap_err().kind, Kind::Stale);
    let heads = store.heads(None, 10).await.unwrap();
    assert_eq!(heads, grown, "what was refused is in no chain");
    assert_eq!(heads.iter().find(|head| head.tenant == beta).map(|head| head.length), Some(1));
    assert_eq!(store.verify().await.unwrap().heads, heads, "as a walk along the chains finds them");
}

/// They are told by name, in pages; the host's is one of them.
pub async fn ends_of_chains_are_in_the_order_of_names_and_in_pages<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for (number, name) in (1..).zip(["beta", "acme", "gamma"]) {
        store.act(&TenantId::host(), at(1), made(name)).await.unwrap();
        store.append(Owner::new(name, number).append(number), Durability::Lazy).await.unwrap();
    }
    let all = store.heads(None, 10).await.unwrap();
    let names: Vec<&TenantId> = all.iter().map(|head| &head.tenant).collect();
    assert!(names.is_sorted() && names.contains(&&TenantId::host()), "{names:?}");
    assert_eq!(all.len(), 4);
    let (mut paged, mut pages) = (Vec::new(), 0);
    loop {
        let page = store.heads(paged.last().map(|head: &Head| &head.tenant), 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        pages += 1;
        paged.extend(page);
    }
    assert_eq!((&paged, pages), (&all, 2));
    let after = tenant("b");
    let rest = store.heads(Some(&after), 10).await.unwrap();
    let rest: Vec<&str> =
        rest.iter().map(|head| head.tenant.as_str()).filter(|name| *name != TenantId::host().as_str()).collect();
    assert_eq!(rest, ["beta", "gamma"], "after a name that nobody has");
}

/// What is told is on disk: no crash takes it back, though it was appended lazily.
pub async fn no_crash_takes_back_an_end_that_was_told<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    for _ in 0..20 {
        store.append(owner.append(1), Durability::Lazy).await.unwrap();
    }
    let told = store.heads(None, 10).await.unwrap();
    assert_eq!(told.iter().map(|head| head.length).collect::<Vec<_>>(), [20]);
    let store = fixture.crash(store).await;
    assert_eq!(store.heads(None, 10).await.unwrap(), told);
    assert_eq!(store.last(&tenant("acme"), run_id(1)).await.unwrap(), Seq(20));
}
