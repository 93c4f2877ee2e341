//! What every catalog does.

use ltmc_model::agent::{Agent, Carry, Export, Grants, VERSIONS_WITH_GRANTS};
use ltmc_model::caller::Role;
use ltmc_model::journal::{Act, Change, Event};
use ltmc_model::manifest::Manifest;
use ltmc_model::tenancy::{Ceiling, Key, Tenant};
use ltmc_model::{AgentName, Capability, Digest, KeyId, RunId, Seq, TenantId};

use super::{Fixture, Store};
use crate::testing::sample::{Owner, at, tenant};
use crate::{
    Durability, Kind, Purge as _, ReadCatalog, ReadChains as _, ReadJournal as _, WriteCatalog as _, WriteJournal as _,
};

fn act(change: Change) -> Act {
    Act { by: None, change }
}

async fn made<S: Store>(store: &S, of: &str) {
    let change = Change::TenantCreated(Tenant { name: tenant(of), created_at: at(1) });
    store.act(&TenantId::host(), at(1), act(change)).await.unwrap();
}

fn key(id: &str, of: &TenantId) -> Key {
    Key {
        id: id.parse().unwrap(),
        tenant: of.clone(),
        role: if *of == TenantId::host() { Role::Operator } else { Role::Author },
        hash: [3; 32],
        created_at: at(1),
        expires_at: Some(at(9)),
        revoked_at: None,
    }
}

fn agent(name: &str, content: &str, pushed: u64) -> Agent {
    Agent {
        name: name.parse().unwrap(),
        digest: Digest::of(content.as_bytes()),
        manifest: Manifest { version: Some("1.2".into()), asks: vec![Capability::Log], ..Manifest::default() },
        exports: vec![Export::Agent, Export::Validator],
        size: content.len() as u64,
        pushed_at: at(pushed),
    }
}

async fn push<S: Store>(store: &S, of: &str, agent: &Agent) {
    store.act(&tenant(of), at(1), act(Change::AgentPushed(agent.clone()))).await.unwrap();
}

/// Tenants are made once and listed.
pub async fn tenants_are_made_once_and_listed<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for name in ["beta", "acme", "gamma"] {
        made(&*store, name).await;
    }
    let again = act(Change::TenantCreated(Tenant { name: tenant("acme"), created_at: at(2) }));
    assert_eq!(store.act(&TenantId::host(), at(2), again).await.unwrap_err().kind, Kind::Conflict);
    let store = fixture.crash(store).await;
    let names = async |after: Option<&TenantId>, limit| -> Vec<String> {
        store.tenants(after, limit).await.unwrap().into_iter().map(|t| t.name.to_string()).collect()
    };
    assert_eq!(names(None, 10).await, ["acme", "beta", "gamma"]);
    assert_eq!(names(None, 2).await, ["acme", "beta"]);
    assert_eq!(names(Some(&tenant("acme")), 10).await, ["beta", "gamma"]);
    assert_eq!(store.tenant(&tenant("acme")).await.unwrap().map(|t| t.created_at), Some(at(1)));
    assert_eq!(store.tenant(&tenant("nobody")).await.unwrap(), None);
}

/// Ceilings have a default.
pub async fn ceilings_have_a_default<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    assert_eq!(store.ceiling(&tenant("acme")).await.unwrap(), Ceiling::default());
    let ceiling = Ceiling { capabilities: vec![Capability::Log], concurrency: 3, ..Ceiling::default() };
    for ceiling in [Ceiling { concurrency: 2, ..ceiling.clone() }, ceiling.clone()] {
        let change = Change::CeilingSet { tenant: tenant("acme"), ceiling };
        store.act(&tenant("acme"), at(1), act(change)).await.unwrap();
    }
    let store = fixture.crash(store).await;
    assert_eq!(store.ceiling(&tenant("acme")).await.unwrap(), ceiling);
    assert_eq!(store.ceiling(&tenant("beta")).await.unwrap(), Ceiling::default());
}

/// Keys are made once and revoked by their tenant.
pub async fn keys_are_made_once_and_revoked_by_their_tenant<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, beta) = (tenant("acme"), tenant("beta"));
    for (id, of) in [("bbbbbbbbbbbb", &acme), ("aaaaaaaaaaaa", &acme), ("cccccccccccc", &TenantId::host())] {
        store.act(of, at(1), act(Change::KeyCreated(key(id, of)))).await.unwrap();
    }
    let again = act(Change::KeyCreated(key("aaaaaaaaaaaa", &beta)));
    assert_eq!(store.act(&beta, at(1), again).await.unwrap_err().kind, Kind::Conflict);
    let a: KeyId = "aaaaaaaaaaaa".parse().unwrap();
    assert_eq!(store.key(&a).await.unwrap(), Some(key("aaaaaaaaaaaa", &acme)));
    assert_eq!(store.key(&"cccccccccccc".parse().unwrap()).await.unwrap().unwrap().tenant, TenantId::host());
    let ids: Vec<String> = store.keys(&acme, None, 10).await.unwrap().into_iter().map(|k| k.id.to_string()).collect();
    assert_eq!(ids, ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]);
    assert_eq!(store.keys(&acme, Some(&a), 10).await.unwrap().len(), 1);

    let revoke = |at| act(Change::KeyRevoked { key: a.clone(), at });
    store.act(&beta, at(2), revoke(at(2))).await.unwrap();
    assert_eq!(store.key(&a).await.unwrap().unwrap().revoked_at, None, "it is not beta's to revoke");
    store.act(&acme, at(3), revoke(at(3))).await.unwrap();
    store.act(&acme, at(4), revoke(at(4))).await.unwrap();
    let store = fixture.crash(store).await;
    assert_eq!(store.key(&a).await.unwrap().unwrap().revoked_at, Some(at(3)));
}

/// Agents have versions and a newest one.
pub async fn agents_have_versions_and_a_newest_one<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (one, two) = (agent("echo", "one", 1), agent("echo", "two", 2));
    for version in [&one, &two] {
        push(&*store, "acme", version).await;
    }
    push(&*store, "acme", &agent("abacus", "a", 1)).await;
    let acme = tenant("acme");
    let newest = async || store.agent(&acme, &one.name, None).await.unwrap().unwrap();
    assert_eq!(newest().await, two);
    assert_eq!(store.agent(&acme, &one.name, Some(&one.digest)).await.unwrap(), Some(one.clone()));
    assert_eq!(store.agent(&acme, &one.name, Some(&Digest::of(b"three"))).await.unwrap(), None);
    let again = Agent { pushed_at: at(3), ..one.clone() };
    push(&*store, "acme", &again).await;
    assert_eq!(newest().await, again, "what is pushed again is the newest");
    let listed = async |after: Option<&_>, limit| -> Vec<String> {
        store.agents(&acme, after, limit).await.unwrap().into_iter().map(|a| a.name.to_string()).collect()
    };
    assert_eq!(listed(None, 10).await, ["abacus", "echo"]);
    assert_eq!(listed(Some(&"abacus".parse().unwrap()), 10).await, ["echo"]);
    assert_eq!(listed(None, 1).await, ["abacus"]);
}

/// A deleted tenant is written no more, and its name is free once nothing of it is left.
pub async fn a_deleted_tenant_is_written_no_more_and_its_name_is_free_once_nothing_is_left<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, host) = (tenant("acme"), TenantId::host());
    for name in ["acme", "beta"] {
        made(&*store, name).await;
        push(&*store, name, &agent("echo", "one", 1)).await;
        store.append(Owner::new(name, 1).append(2), Durability::Barrier).await.unwrap();
    }
    assert!(!store.purge(&acme).await.unwrap(), "nobody deleted it");
    store.act(&host, at(2), act(Change::TenantDeleted { tenant: acme.clone() })).await.unwrap();
    let mut store = fixture.crash(store).await;
    loop {
        assert_eq!(store.deleted().await.unwrap(), std::slice::from_ref(&acme));
        assert_eq!(store.tenant(&acme).await.unwrap(), None);
        let pushed = store.act(&acme, at(3), act(Change::AgentPushed(agent("echo", "two", 2)))).await;
        assert_eq!(pushed.unwrap_err().kind, Kind::Fenced);
        let append = store.append(Owner::new("acme", 2).append(1), Durability::Barrier).await;
        assert_eq!(append.unwrap_err().kind, Kind::Fenced);
        let anew = Change::TenantCreated(Tenant { name: acme.clone(), created_at: at(3) });
        assert_eq!(store.act(&host, at(3), act(anew)).await.unwrap_err().kind, Kind::Conflict, "its name is taken");
        if !store.purge(&acme).await.unwrap() {
            break;
        }
        // What is gone stays gone.
        store = fixture.crash(store).await;
    }
    assert_eq!(store.run(&acme, Owner::new("acme", 1).row.id).await.unwrap(), None);
    assert!(store.run(&tenant("beta"), Owner::new("beta", 1).row.id).await.unwrap().is_some());
    let heads = store.heads(None, 10).await.unwrap();
    let head = heads.into_iter().find(|head| head.tenant == acme).expect("the end of its chain stays to the last");
    store.act(&host, at(4), act(Change::TenantGone { head })).await.unwrap();
    assert_eq!(store.gone().await.unwrap(), [(acme.clone(), at(4))].into());
    assert!(store.deleted().await.unwrap().is_empty());
    made(&*store, "acme").await;
    assert!(store.agents(&acme, None, 10).await.unwrap().is_empty());
    assert_eq!(store.agents(&tenant("beta"), None, 10).await.unwrap().len(), 1);
    assert!(store.verify().await.unwrap().damage.is_empty());
}

/// Deleted agents leave nothing.
pub async fn deleted_agents_leave_nothing<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let acme = tenant("acme");
    let (one, two) = (agent("echo", "one", 1), agent("echo", "two", 2));
    for version in [&one, &two] {
        push(&*store, "acme", version).await;
    }
    let grants = granted(&one.name, &["log"], None, Carry::Never);
    store.act(&acme, at(2), act(grants)).await.unwrap();
    store.act(&acme, at(3), act(Change::AgentDeleted { name: one.name.clone() })).await.unwrap();
    let store = fixture.crash(store).await;
    assert_eq!(store.agent(&acme, &one.name, None).await.unwrap(), None);
    assert_eq!(store.agent(&acme, &one.name, Some(&one.digest)).await.unwrap(), None);
    assert!(store.granted_versions(&acme, &one.name).await.unwrap().is_empty());
    assert!(store.grants(&acme, &one.name, &two.digest).await.unwrap().capabilities.is_empty());
    assert!(store.agents(&acme, None, 10).await.unwrap().is_empty());
}

/// Grants are set whole.
pub async fn grants_are_set_whole<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, one) = (tenant("acme"), agent("echo", "one", 1));
    push(&*store, "acme", &one).await;
    assert_eq!(store.grants(&acme, &one.name, &one.digest).await.unwrap(), Grants::default());
    let sets: [(&[&str], Carry); 3] =
        [(&["log", "call:*"], Carry::SameAsks), (&["memory:read:agent"], Carry::Never), (&[], Carry::SameAsks)];
    for (grants, carry) in sets {
        let capabilities = capabilities(grants);
        store.act(&acme, at(1), act(granted(&one.name, grants, None, carry))).await.unwrap();
        assert_eq!(store.grants(&acme, &one.name, &one.digest).await.unwrap(), Grants { capabilities, carry });
    }
}

/// Grants are a version's: what one is granted no other has, unless it was pushed to take it over; what is taken back is taken
/// back from all.
pub async fn grants_are_a_version_s<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let acme = tenant("acme");
    let [one, two, three] = ["one", "two", "three"].map(|component| agent("echo", component, 1));
    let name = &one.name;
    let held = async |store: &dyn ReadCatalog| {
        let mut all = Vec::new();
        for version in [&one, &two, &three] {
            let found = store.grants(&acme, name, &version.digest).await.unwrap();
            all.push(found.capabilities.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        }
        all
    };
    push(&*store, "acme", &one).await;
    let change = granted(name, &["log", "memory:read:agent", "graph:read"], None, Carry::SameAsks);
    store.act(&acme, at(2), act(change)).await.unwrap();
    push(&*store, "acme", &two).await;
    assert_eq!(
        held(&*store).await,
        ["log memory:read:agent graph:read", "", ""],
        "a push takes nothing over by itself"
    );
    let upgraded = Change::AgentUpgraded { agent: three.clone(), grants_of: one.digest };
    store.act(&acme, at(3), act(upgraded)).await.unwrap();
    assert_eq!(store.agent(&acme, name, None).await.unwrap().unwrap().digest, three.digest);
    let found = store.grants(&acme, name, &three.digest).await.unwrap();
    assert_eq!(found.carry, Carry::SameAsks, "the rule is taken over too");
    let whole = "log memory:read:agent graph:read";
    assert_eq!(held(&*store).await, [whole, "", whole]);
    // One version's alone.
    let change = granted(name, &["log", "graph:read"], Some(two.digest), Carry::Never);
    store.act(&acme, at(4), act(change)).await.unwrap();
    assert_eq!(held(&*store).await, [whole, "log graph:read", whole]);
    // Of no version that is there.
    let change = granted(name, &["log"], Some(Digest::of(b"nobody's")), Carry::Never);
    store.act(&acme, at(5), act(change)).await.unwrap();
    assert_eq!(store.granted_versions(&acme, name).await.unwrap().len(), 3);
    // The newest one's; the others have no more than it covers.
    let change = granted(name, &["memory:read:*", "log"], None, Carry::Never);
    store.act(&acme, at(6), act(change)).await.unwrap();
    assert_eq!(held(&*store).await, ["log memory:read:agent", "log", "memory:read:* log"]);
    let change = Change::GrantRevoked { agent: name.clone(), grant: Capability::Log };
    store.act(&acme, at(7), act(change)).await.unwrap();
    let store = fixture.crash(store).await;
    assert_eq!(held(&*store).await, ["memory:read:agent", "", "memory:read:*"]);
    assert_eq!(store.granted_versions(&acme, name).await.unwrap().len(), 2);
}

/// Only the newest versions have grants.
pub async fn only_the_newest_versions_have_grants<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let acme = tenant("acme");
    let version = |number: usize| agent("echo", &format!("version {number}"), 1);
    push(&*store, "acme", &version(0)).await;
    let change = granted(&version(0).name, &["log"], None, Carry::SameAsks);
    store.act(&acme, at(2), act(change)).await.unwrap();
    for number in 1..=VERSIONS_WITH_GRANTS {
        let upgraded = Change::AgentUpgraded { agent: version(number), grants_of: version(number - 1).digest };
        store.act(&acme, at(3), act(upgraded)).await.unwrap();
    }
    let held = store.granted_versions(&acme, &version(0).name).await.unwrap();
    assert_eq!(held.len(), VERSIONS_WITH_GRANTS);
    assert!(held.iter().all(|(digest, _)| *digest != version(0).digest), "the oldest has none");
}

fn granted(agent: &AgentName, grants: &[&str], digest: Option<Digest>, carry: Carry) -> Change {
    Change::GrantsSet { agent: agent.clone(), grants: capabilities(grants), digest, carry: Some(carry) }
}

fn capabilities(texts: &[&str]) -> Vec<Capability> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Workflows are put and deleted.
pub async fn workflows_are_put_and_deleted<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let acme = tenant("acme");
    for (name, source) in [("b", "one"), ("a", "x"), ("b", "two")] {
        let digest = Digest::of(source.as_bytes());
        let change = Change::WorkflowPut {
            name: name.parse().unwrap(),
            source: source.into(),
            digest,
            schedules: Vec::new(),
            triggers: Vec::new(),
        };
        store.act(&acme, at(5), act(change)).await.unwrap();
    }
    let store = fixture.crash(store).await;
    let b = "b".parse().unwrap();
    let found = store.workflow(&acme, &b).await.unwrap().unwrap();
    assert_eq!((found.source.as_str(), found.digest, found.updated_at), ("two", Digest::of(b"two"), at(5)));
    let names: Vec<String> =
        store.workflows(&acme, None, 10).await.unwrap().into_iter().map(|w| w.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(store.workflows(&acme, Some(&"a".parse().unwrap()), 10).await.unwrap().len(), 1);
    store.act(&acme, at(6), act(Change::WorkflowDeleted { name: b.clone() })).await.unwrap();
    assert_eq!(store.workflow(&acme, &b).await.unwrap(), None);
}

/// Components are in use while any tenant has them.
pub async fn components_are_in_use_while_any_tenant_has_them<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let one = agent("echo", "one", 1);
    assert!(!store.component_in_use(&one.digest).await.unwrap());
    push(&*store, "acme", &one).await;
    push(&*store, "beta", &one).await;
    for (of, used) in [("acme", true), ("beta", false)] {
        store.act(&tenant(of), at(2), act(Change::AgentDeleted { name: one.name.clone() })).await.unwrap();
        assert_eq!(store.component_in_use(&one.digest).await.unwrap(), used);
    }
}

/// Catalogs of tenants never meet.
pub async fn catalogs_of_tenants_never_meet<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (one, beta) = (agent("echo", "one", 1), tenant("beta"));
    push(&*store, "acme", &one).await;
    let put = Change::WorkflowPut {
        name: "w".parse().unwrap(),
        source: "s".into(),
        digest: Digest::of(b"s"),
        schedules: Vec::new(),
        triggers: Vec::new(),
    };
    let grants = granted(&one.name, &["log"], None, Carry::Never);
    for change in [put, grants, Change::KeyCreated(key("aaaaaaaaaaaa", &tenant("acme")))] {
        store.act(&tenant("acme"), at(1), act(change)).await.unwrap();
    }
    assert_eq!(store.agent(&beta, &one.name, Some(&one.digest)).await.unwrap(), None);
    assert!(store.agents(&beta, None, 10).await.unwrap().is_empty());
    assert!(store.grants(&beta, &one.name, &one.digest).await.unwrap().capabilities.is_empty());
    assert_eq!(store.workflow(&beta, &"w".parse().unwrap()).await.unwrap(), None);
    assert!(store.workflows(&beta, None, 10).await.unwrap().is_empty());
    assert!(store.keys(&beta, None, 10).await.unwrap().is_empty());
}

/// Every act is in the ledger and durable.
pub async fn every_act_is_in_the_ledger_and_durable<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let acme = tenant("acme");
    let refused = Change::Refused { action: "push an agent".into(), why: "no".into() };
    for change in [refused, Change::AgentDeleted { name: "echo".parse().unwrap() }] {
        store.act(&acme, at(7), act(change)).await.unwrap();
    }
    let store = fixture.crash(store).await;
    let ledger = store.entries(&acme, RunId::ledger(), Seq(0), 10).await.unwrap();
    assert_eq!(ledger.len(), 2);
    assert!(matches!(&ledger[0].entry.event, Event::Act(act) if matches!(act.change, Change::Refused { .. })));
    assert_eq!(ledger[1].seq, Seq(2));
    let audit = store.verify().await.unwrap();
    assert_eq!((audit.verified, audit.damage), (2, vec![]));

    let operators = Change::KeyCreated(key("aaaaaaaaaaaa", &TenantId::host()));
    store.act(&TenantId::host(), at(8), act(operators.clone())).await.unwrap();
    let store = fixture.crash(store).await;
    let ledger = store.entries(&TenantId::host(), RunId::ledger(), Seq(0), 10).await.unwrap();
    assert!(matches!(&ledger[0].entry.event, Event::Act(act) if act.change == operators));
}

/// A refused act leaves no trace.
pub async fn a_refused_act_leaves_no_trace<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    made(&*store, "acme").await;
    let again = act(Change::TenantCreated(Tenant { name: tenant("acme"), created_at: at(2) }));
    assert!(store.act(&TenantId::host(), at(2), again).await.is_err());
    assert_eq!(store.entries(&TenantId::host(), RunId::ledger(), Seq(0), 10).await.unwrap().len(), 1);
    made(&*store, "beta").await;
    assert!(store.verify().await.unwrap().damage.is_empty());
}
