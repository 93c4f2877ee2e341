//! What every memory does.

use ltmc_model::memory::Drawer;
use ltmc_model::{Revision, TenantId};

use super::Fixture;
use crate::testing::sample::{Owner, at, delete, put, tenant};
use crate::{Durability, ReadMemory as _, WriteJournal as _};
use ltmc_model::delta::{MemoryChange, MemoryValue};

use Durability::{Barrier, Lazy};

/// What was put is got until deleted.
pub async fn what_was_put_is_got_until_deleted<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, drawer, mut owner) = (tenant("acme"), Drawer::Global, Owner::new("acme", 1));
    assert_eq!(store.get(&acme, &drawer, "k", at(0)).await.unwrap(), None);
    let revision = store.next_revision(&tenant("acme"));
    store.append(owner.remember(vec![put(&drawer, "k", revision, &b"\0v\xff"[..])]), Barrier).await.unwrap();
    let store = fixture.crash(store).await;
    let item = store.get(&acme, &drawer, "k", at(0)).await.unwrap().unwrap();
    assert_eq!((item.key.as_str(), &item.value[..], item.revision), ("k", &b"\0v\xff"[..], revision));
    store.append(owner.remember(vec![delete(&drawer, "k", store.next_revision(&tenant("acme")))]), Lazy).await.unwrap();
    assert_eq!(store.get(&acme, &drawer, "k", at(0)).await.unwrap(), None);
}

/// A value may be empty.
pub async fn a_value_may_be_empty<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, drawer, mut owner) = (tenant("acme"), Drawer::Global, Owner::new("acme", 1));
    store
        .append(owner.remember(vec![put(&drawer, "k", store.next_revision(&tenant("acme")), "")]), Barrier)
        .await
        .unwrap();
    let item = store.get(&acme, &drawer, "k", at(0)).await.unwrap().unwrap();
    assert!(item.value.is_empty());
}

/// The last change of an append counts.
pub async fn the_last_change_of_an_append_counts<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, drawer, mut owner) = (tenant("acme"), Drawer::Global, Owner::new("acme", 1));
    let next = || store.next_revision(&tenant("acme"));
    let changes = vec![
        put(&drawer, "a", next(), "1"),
        put(&drawer, "a", next(), "2"),
        put(&drawer, "b", next(), "1"),
        delete(&drawer, "b", next()),
        delete(&drawer, "c", next()),
        put(&drawer, "c", next(), "3"),
    ];
    store.append(owner.remember(changes), Lazy).await.unwrap();
    let get = async |key: &str| store.get(&acme, &drawer, key, at(0)).await.unwrap().map(|item| item.value);
    assert_eq!((get("a").await, get("b").await, get("c").await), (Some("2".into()), None, Some("3".into())));
}

/// Drawers and tenants never meet.
pub async fn drawers_and_tenants_never_meet<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let drawers = [
        Drawer::Global,
        Drawer::Session("x".parse().unwrap()),
        Drawer::Session("y".parse().unwrap()),
        Drawer::Agent("x".parse().unwrap()),
        Drawer::State("x".parse().unwrap()),
    ];
    for (number, of) in ["acme", "beta"].into_iter().enumerate() {
        let mut owner = Owner::new(of, number as u64 + 1);
        for (index, drawer) in drawers.iter().enumerate() {
            let value = format!("{of} {index}");
            store
                .append(owner.remember(vec![put(drawer, "k", store.next_revision(&tenant("acme")), value)]), Lazy)
                .await
                .unwrap();
        }
    }
    for of in ["acme", "beta"] {
        for (index, drawer) in drawers.iter().enumerate() {
            let item = store.get(&tenant(of), drawer, "k", at(0)).await.unwrap().unwrap();
            assert_eq!(item.value, format!("{of} {index}"));
            assert_eq!(store.list(&tenant(of), drawer, "", None, 10, at(0)).await.unwrap().items.len(), 1);
        }
    }
    assert_eq!(store.get(&tenant("gamma"), &Drawer::Global, "k", at(0)).await.unwrap(), None);
}

/// What has expired is not there.
pub async fn what_has_expired_is_not_there<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, drawer, mut owner) = (tenant("acme"), Drawer::Global, Owner::new("acme", 1));
    // Later than any append of these tests: what has expired may be thrown away.
    let value = Some(MemoryValue { bytes: "v".into(), expires_at: Some(at(1_000_000_000)) });
    let change = MemoryChange {
        drawer: drawer.clone(),
        key: "k".into(),
        revision: store.next_revision(&tenant("acme")),
        value,
        trail: None,
    };
    store.append(owner.remember(vec![change]), Lazy).await.unwrap();
    let there = async |millis| store.get(&acme, &drawer, "k", at(millis)).await.unwrap().is_some();
    assert_eq!((there(999_999_999).await, there(1_000_000_000).await), (true, false));
    let listed = async |millis| store.list(&acme, &drawer, "", None, 10, at(millis)).await.unwrap().items.len();
    assert_eq!((listed(999_999_999).await, listed(1_000_000_000).await), (1, 0));
}

/// Usage counts keys and values of the tenant alone.
pub async fn usage_counts_keys_and_values_of_the_tenant<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, mut owner, mut other) = (tenant("acme"), Owner::new("acme", 1), Owner::new("beta", 2));
    assert_eq!(store.usage(&acme).await.unwrap(), 0);
    let next = || store.next_revision(&tenant("acme"));
    let changes = vec![
        put(&Drawer::Global, "\u{e4}", next(), "12345"),
        put(&Drawer::Session("s".parse().unwrap()), "k", next(), "1"),
    ];
    store.append(owner.remember(changes), Lazy).await.unwrap();
    store.append(other.remember(vec![put(&Drawer::Global, "k", next(), "123")]), Lazy).await.unwrap();
    assert_eq!(store.usage(&acme).await.unwrap(), 9);
    store.append(owner.remember(vec![delete(&Drawer::Global, "\u{e4}", next())]), Lazy).await.unwrap();
    assert_eq!(store.usage(&acme).await.unwrap(), 2);
}

/// Lists are by prefix in byte order.
pub async fn lists_are_by_prefix_in_byte_order<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, drawer, mut owner) = (tenant("acme"), Drawer::Global, Owner::new("acme", 1));
    let mut keys = ["a", "a/1", "a/10", "a/2", "aa", "b", "ä", "a%", "a_", "A", "\u{10ffff}"];
    let changes = keys.iter().map(|key| put(&drawer, key, store.next_revision(&tenant("acme")), *key)).collect();
    store.append(owner.remember(changes), Lazy).await.unwrap();
    keys.sort_unstable();
    for prefix in ["", "a", "a/", "a%", "A", "ä", "\u{10ffff}", "z"] {
        let page = store.list(&acme, &drawer, prefix, None, 100, at(0)).await.unwrap();
        let wanted: Vec<&str> = keys.into_iter().filter(|key| key.starts_with(prefix)).collect();
        assert_eq!(page.items.iter().map(|item| item.key.as_str()).collect::<Vec<_>>(), wanted, "`{prefix}`");
        assert_eq!(page.next, None);
    }
}

/// Lists are paged by cursor.
pub async fn lists_are_paged_by_cursor<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, drawer, mut owner) = (tenant("acme"), Drawer::Global, Owner::new("acme", 1));
    let changes =
        (0..150).map(|n| put(&drawer, &format!("k/{n:03}"), store.next_revision(&tenant("acme")), "v")).collect();
    store.append(owner.remember(changes), Lazy).await.unwrap();
    for limit in [1, 7, 64, 75, 149, 150, 151] {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.list(&acme, &drawer, "k/", cursor.as_deref(), limit, at(0)).await.unwrap();
            assert!(page.items.len() <= limit as usize);
            found.extend(page.items.into_iter().map(|item| item.key));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, (0..150).map(|n| format!("k/{n:03}")).collect::<Vec<_>>(), "{limit} at a time");
    }
}

/// Lists are bounded in bytes.
pub async fn lists_are_bounded_in_bytes<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, drawer, mut owner) = (tenant("acme"), Drawer::Global, Owner::new("acme", 1));
    for n in 0..6 {
        let change = put(&drawer, &n.to_string(), store.next_revision(&tenant("acme")), vec![0; 1 << 20]);
        store.append(owner.remember(vec![change]), Lazy).await.unwrap();
    }
    let page = store.list(&acme, &drawer, "", None, 100, at(0)).await.unwrap();
    assert_eq!((page.items.len(), page.next.as_deref()), (4, Some("3")));
    let rest = store.list(&acme, &drawer, "", page.next.as_deref(), 100, at(0)).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (2, None));
}

/// Lists see what is not on disk yet.
pub async fn lists_see_what_is_not_on_disk_yet<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, drawer, mut owner) = (tenant("acme"), Drawer::Global, Owner::new("acme", 1));
    for n in 0..20 {
        let change = put(&drawer, &format!("{n:02}"), store.next_revision(&tenant("acme")), "v");
        store.append(owner.remember(vec![change]), Lazy).await.unwrap();
        assert_eq!(store.list(&acme, &drawer, "", None, 100, at(0)).await.unwrap().items.len(), n + 1);
    }
}

/// Revisions only grow.
pub async fn revisions_only_grow<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (drawer, mut owner) = (Drawer::Global, Owner::new("acme", 1));
    let mut highest = Revision(0);
    for _ in 0..3 {
        let revision = store.next_revision(&tenant("acme"));
        assert!(revision > highest);
        highest = revision;
        let changes =
            vec![put(&drawer, "k", revision, "v"), delete(&drawer, "k", store.next_revision(&tenant("acme")))];
        store.append(owner.remember(changes), Barrier).await.unwrap();
        highest = highest.max(revision.next());
    }
    let store = fixture.crash(store).await;
    assert!(store.next_revision(&tenant("acme")) > highest, "a deleted entry's revision is not used again");
}

/// What others write, in what number ever, does not show in a tenant's revisions: not at once, and not after the record was opened again.
pub async fn revisions_are_each_tenants_own<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let [acme, beta] = ["acme", "beta"].map(tenant);
    let write = async |store: &F::Store, of: &TenantId, number: u64| {
        let revision = store.next_revision(of);
        let mut owner = Owner::new(of.as_str(), number);
        store.append(owner.remember(vec![put(&Drawer::Global, "k", revision, "v")]), Barrier).await.unwrap();
        revision.0
    };
    assert_eq!((write(&store, &acme, 1).await, write(&store, &beta, 2).await), (1, 1));
    for number in 3..20 {
        write(&store, &acme, number).await;
    }
    assert_eq!(write(&store, &beta, 20).await, 2, "as if nobody else were there");
    let store = fixture.crash(store).await;
    assert_eq!((write(&store, &acme, 21).await, write(&store, &beta, 22).await), (19, 3));
}
