//! What every record does with what a change was decided on.

use ltmc_model::agent::{Agent, Carry, Export, Grants};
use ltmc_model::delta::{Delta, FactEnd, MemoryValue};
use ltmc_model::graph::Fact;
use ltmc_model::journal::{Act, Change};
use ltmc_model::manifest::Manifest;
use ltmc_model::memory::Drawer;
use ltmc_model::message::{MAX_MAILBOX, Taker};
use ltmc_model::recall::Note;
use ltmc_model::{AgentName, Digest, Revision, Seq, StepPath};

use super::Fixture;
use crate::expect::Part;
use crate::testing::sample::{Owner, at, delete, mailbox, put, run_id, sent, tenant, topic};
use crate::{
    Changes, Durability, Expect, Kind, ReadCatalog as _, ReadJournal as _, ReadLog as _, ReadMemory as _,
    WriteCatalog as _,
};
use crate::{StoreError, WriteJournal as _};

use Durability::{Barrier, Lazy};

fn key(revision: Option<u64>) -> Expect {
    Expect::Key { drawer: Drawer::Global, key: "k".into(), revision: revision.map(Revision) }
}

fn value(revision: u64) -> Delta {
    Delta::Memory(put(&Drawer::Global, "k", Revision(revision), format!("{revision}")))
}

fn bob() -> AgentName {
    "bob".parse().expect("a name")
}

fn taker(part: u32) -> Taker {
    Taker { run: run_id(1), step: StepPath::root(), attempt: 1, part }
}

/// A step: what is expected, what changes, and whether the record takes it.
type Step = (Vec<Expect>, Vec<Delta>, bool);

/// One append after the other, each of a run of its own; what is refused leaves nothing.
async fn walk<F: Fixture>(store: &F::Store, steps: Vec<Step>) {
    walk_from::<F>(store, 100, steps).await;
}

/// The same, by runs from this number on.
async fn walk_from<F: Fixture>(store: &F::Store, first: u64, steps: Vec<Step>) {
    for (number, (expects, deltas, taken)) in (first..).zip(steps) {
        let mut owner = Owner::new("acme", number);
        let what = format!("{expects:?} {deltas:?}");
        let outcome = store.append(owner.expecting(expects, deltas), Lazy).await;
        let there = store.entries(&tenant("acme"), owner.row.id, Seq(0), 10).await.unwrap().len();
        match taken {
            true => assert!(outcome.is_ok() && there == 1, "{what}: {outcome:?}"),
            false => assert!(is_stale(&outcome) && there == 0, "{what}: {outcome:?}"),
        }
    }
}

fn is_stale(outcome: &Result<(), StoreError>) -> bool {
    outcome.as_ref().is_err_and(|error| error.kind == Kind::Stale)
}

/// A key stands where it is expected to.
pub async fn a_key_stands_where_it_is_expected<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    walk::<F>(
        &store,
        vec![
            (vec![key(Some(1))], vec![value(2)], false),
            (vec![key(None)], vec![value(3)], true),
            (vec![key(None)], vec![value(4)], false),
            (vec![key(Some(2))], vec![value(5)], false),
            (vec![key(Some(3))], vec![value(6)], true),
            (vec![key(Some(6))], vec![Delta::Memory(delete(&Drawer::Global, "k", Revision(7)))], true),
            (vec![key(Some(6))], vec![value(8)], false),
            (vec![key(None)], vec![value(9)], true),
        ],
    )
    .await;
    let found = store.get(&tenant("acme"), &Drawer::Global, "k", at(0)).await.unwrap().unwrap();
    assert_eq!((found.value.as_ref(), found.revision), (&b"9"[..], Revision(9)));
    // Of another tenant, and in another drawer, nothing stands there.
    let other = Expect::Key { drawer: Drawer::Agent(bob()), key: "k".into(), revision: None };
    walk::<F>(&store, vec![(vec![other], vec![], true)]).await;
    let mut beta = Owner::new("beta", 1);
    store.append(beta.expecting(vec![key(None)], vec![value(10)]), Lazy).await.unwrap();
}

/// What has expired by the change's own time is not there.
pub async fn what_has_expired_is_not_expected<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let Delta::Memory(mut change) = value(1) else { unreachable!("a change of memory") };
    change.value = Some(MemoryValue { bytes: "1".into(), expires_at: Some(at(500)) });
    let mut owner = Owner::new("acme", 1);
    store.append(owner.change(vec![Delta::Memory(change)]), Lazy).await.unwrap();
    let mut late = Owner::new("acme", 2);
    late.row.updated_at = at(500);
    assert!(is_stale(&store.append(late.clone().expecting(vec![key(Some(1))], vec![value(2)]), Lazy).await));
    store.append(late.expecting(vec![key(None)], vec![value(3)]), Lazy).await.unwrap();
}

/// A part that is read as a whole is as it was: nothing of it came, went or became another since, whatever else did.
pub async fn a_part_of_the_record_is_as_it_was_at_a_place_of_the_log<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let global = |prefix: &str| Part::Keys(Drawer::Global, prefix.to_owned());
    let parts = [global("k"), global("k1"), Part::Keys(Drawer::Agent(bob()), "k".into()), Part::Facts, Part::Notes];
    let kept = |key: &str, revision| Delta::Memory(put(&Drawer::Global, key, Revision(revision), "value"));
    let fact = Fact {
        id: Revision(20),
        subject: "a".parse().unwrap(),
        relation: "knows".parse().unwrap(),
        object: "b".parse().unwrap(),
        properties: String::new(),
        valid_from: at(0),
        valid_to: None,
        recorded_at: at(0),
        ended_at: None,
    };
    let Fact { id, subject, relation, object, .. } = fact.clone();
    let end = FactEnd { id, subject, relation, object, valid_to: at(1), ended_at: at(1) };
    let note = Note {
        id: "n".into(),
        text: "text".into(),
        metadata: Default::default(),
        revision: Revision(30),
        kept_at: at(0),
    };
    // What changes, and which of the parts it is a change of.
    let changes: [(Delta, &[usize]); 9] = [
        (kept("k", 10), &[0]),
        (kept("k12", 11), &[0, 1]),
        (kept("other", 12), &[]),
        (Delta::Memory(delete(&Drawer::Global, "k", Revision(13))), &[0]),
        (Delta::Memory(put(&Drawer::Agent(bob()), "k", Revision(14), "value")), &[2]),
        (Delta::FactBegan(fact), &[3]),
        (Delta::FactEnded(end), &[3]),
        (Delta::NoteKept(note), &[4]),
        (sent(topic("news"), 40, "an event"), &[]),
    ];
    for (number, (delta, concerned)) in (10..).zip(changes) {
        let since = store.ends().borrow().visible;
        let mut beta = Owner::new("beta", number);
        store.append(beta.change(vec![kept("k1", 1_000 + number)]), Lazy).await.unwrap();
        let all = |since| parts.iter().cloned().map(move |part| Expect::Unchanged { part, since });
        walk_from::<F>(&store, number * 100, vec![(all(since).collect(), vec![delta.clone()], true)]).await;
        for (place, expect) in all(since).enumerate() {
            let is_so = !concerned.contains(&place);
            walk_from::<F>(&store, number * 100 + 10 + place as u64, vec![(vec![expect], vec![], is_so)]).await;
        }
    }
}

/// A change that was decided before the one that stands there is refused, expected or not.
pub async fn revisions_of_a_key_and_of_a_note_only_grow<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let note = |revision| {
        let (id, text, revision) = ("n".to_owned(), "text".to_owned(), Revision(revision));
        Delta::NoteKept(Note { id, text, metadata: Default::default(), revision, kept_at: at(0) })
    };
    walk::<F>(
        &store,
        vec![
            (vec![], vec![value(5), note(6)], true),
            (vec![], vec![value(4)], false),
            (vec![], vec![note(3)], false),
            (vec![], vec![value(7), note(2)], false),
            (vec![], vec![Delta::Memory(delete(&Drawer::Global, "k", Revision(1)))], false),
            (vec![], vec![value(8), value(9), note(10)], true),
        ],
    )
    .await;
}

/// Facts and notes stand where they are expected to.
pub async fn facts_and_notes_stand_where_they_are_expected<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (subject, relation, object) = ("a".parse().unwrap(), "knows".parse().unwrap(), "b".parse().unwrap());
    let fact = Fact {
        id: Revision(1),
        subject,
        relation,
        object,
        properties: String::new(),
        valid_from: at(0),
        valid_to: None,
        recorded_at: at(0),
        ended_at: None,
    };
    let holds = |id: Option<u64>| {
        let Fact { subject, relation, object, .. } = fact.clone();
        Expect::Fact { subject, relation, object, id: id.map(Revision) }
    };
    let end = {
        let Fact { id, subject, relation, object, .. } = fact.clone();
        Delta::FactEnded(FactEnd { id, subject, relation, object, valid_to: at(1), ended_at: at(1) })
    };
    let note = |revision: Option<u64>| Expect::Note { id: "n".into(), revision: revision.map(Revision) };
    let kept =
        Note { id: "n".into(), text: "t".into(), metadata: Default::default(), revision: Revision(2), kept_at: at(0) };
    walk::<F>(
        &store,
        vec![
            (vec![holds(Some(1))], vec![], false),
            (vec![holds(None), note(None)], vec![Delta::FactBegan(fact.clone()), Delta::NoteKept(kept)], true),
            (vec![holds(None)], vec![], false),
            (vec![note(None)], vec![], false),
            (vec![holds(Some(1)), note(Some(2))], vec![end], true),
            (vec![holds(Some(1))], vec![], false),
            (vec![note(Some(2))], vec![Delta::NoteForgotten { id: "n".into(), revision: Revision(3) }], true),
            (vec![holds(None), note(None)], vec![], true),
        ],
    )
    .await;
}

/// Messages are where they are expected to be.
pub async fn messages_are_where_they_are_expected<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let waiting =
        |ids: &[u64]| Expect::Waiting { agent: bob(), messages: ids.iter().map(|id| Revision(*id)).collect() };
    let taken = |id, part| Delta::Taken { agent: bob(), messages: vec![Revision(id)], places: vec![], by: taker(part) };
    let in_hands = |id, part| Expect::InHands { agent: bob(), message: Revision(id), by: taker(part) };
    let processed = |id| Delta::Processed { agent: bob(), message: Revision(id) };
    let buried = |id| Delta::Buried { agent: bob(), message: Revision(id), reason: "wrong".into(), at: at(3) };
    let dead = |id| Expect::DeadLetter { agent: bob(), message: Revision(id) };
    walk::<F>(
        &store,
        vec![
            (vec![waiting(&[1])], vec![], false),
            (vec![], (1..=4).map(|id| sent(mailbox("bob"), id, "x")).collect(), true),
            (vec![waiting(&[1, 2])], vec![taken(1, 0)], true),
            (vec![waiting(&[2, 1])], vec![taken(2, 0)], false),
            (vec![in_hands(1, 1)], vec![processed(1)], false),
            (vec![in_hands(1, 0)], vec![processed(1)], true),
            (vec![in_hands(1, 0)], vec![], false),
            (vec![waiting(&[2, 3])], vec![taken(2, 0), taken(3, 1)], true),
            // What was taken after a checkpoint goes back by itself.
            (vec![], vec![Delta::Released { by: taker(1), at: at(1) }], true),
            (vec![in_hands(2, 0), waiting(&[3])], vec![], true),
            (vec![in_hands(2, 0)], vec![buried(2)], true),
            (vec![waiting(&[2])], vec![], false),
            (vec![dead(3)], vec![], false),
            (vec![dead(2)], vec![Delta::Revived { agent: bob(), message: Revision(2) }], true),
            (vec![dead(2)], vec![], false),
            (vec![waiting(&[2, 3, 4])], vec![], true),
        ],
    )
    .await;
}

/// A mailbox and a tenant's memory are not filled beyond their bounds.
pub async fn what_is_bounded_stays_within_its_bound<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let room = |more| Expect::Room { agent: bob(), more };
    let send = |from: u64, to: u64| (from..=to).map(|id| sent(mailbox("bob"), id, "")).collect::<Vec<_>>();
    let most = u64::from(MAX_MAILBOX);
    let storage = |more, quota| Expect::Storage { more, quota };
    let drop_one = Delta::Processed { agent: bob(), message: Revision(1) };
    walk::<F>(
        &store,
        vec![
            (vec![room(MAX_MAILBOX + 1)], vec![], false),
            (vec![room(MAX_MAILBOX - 1)], send(1, most - 1), true),
            (vec![room(2)], vec![], false),
            (vec![room(1)], send(most, most), true),
            (vec![room(1)], vec![], false),
            (vec![], vec![drop_one], true),
            (vec![room(1)], send(most + 1, most + 1), true),
            (vec![room(1)], vec![], false),
            (vec![storage(10, 9)], vec![], false),
            (vec![storage(6, 9)], vec![Delta::Memory(put(&Drawer::Global, "k", Revision(20_000), "12345"))], true),
            (vec![storage(4, 9)], vec![], false),
            (vec![], vec![Delta::Memory(delete(&Drawer::Global, "k", Revision(20_001)))], true),
            (vec![storage(9, 9)], vec![Delta::Memory(put(&Drawer::Global, "k", Revision(20_002), "12345678"))], true),
        ],
    )
    .await;
}

/// An act is decided on what it expects, too.
pub async fn an_act_is_refused_where_its_ground_is_gone<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let acme = tenant("acme");
    let grants = |granted: &[&str]| granted.iter().map(|one| one.parse().unwrap()).collect::<Vec<_>>();
    let version = Agent {
        name: bob(),
        digest: Digest::of(b"one"),
        manifest: Manifest::default(),
        exports: vec![Export::Agent],
        size: 3,
        pushed_at: at(1),
    };
    let act = |change| Act { by: None, change };
    store.act(&acme, at(1), act(Change::AgentPushed(version.clone()))).await.unwrap();
    let version = version.digest;
    let set = async |expected: &[&str], new: &[&str]| {
        let expects = vec![Expect::Grants {
            agent: bob(),
            version,
            grants: Grants { capabilities: grants(expected), carry: Carry::Never },
        }];
        let change = Change::GrantsSet { agent: bob(), grants: grants(new), digest: None, carry: Some(Carry::Never) };
        store.act_with(&acme, at(1), act(change), Changes { deltas: Vec::new(), expects }).await
    };
    set(&[], &["log", "graph:read"]).await.unwrap();
    assert!(is_stale(&set(&[], &["log"]).await));
    assert!(is_stale(&set(&["log"], &[]).await));
    assert_eq!(store.grants(&acme, &bob(), &version).await.unwrap().capabilities.len(), 2);
    set(&["graph:read", "log"], &["log"]).await.unwrap();
    assert_eq!(store.grants(&acme, &bob(), &version).await.unwrap().capabilities, grants(&["log"]));
    let put = async |name: &str, source: &str, of: &str, digest: Option<&str>| {
        let digest = digest.map(|digest| Digest::of(digest.as_bytes()));
        let expects = vec![Expect::Workflow { name: of.parse().unwrap(), digest }];
        let (name, source) = (name.parse().unwrap(), source.to_owned());
        let digest = Digest::of(source.as_bytes());
        let change = Change::WorkflowPut { name, source, digest, schedules: Vec::new(), triggers: Vec::new() };
        store.act_with(&acme, at(1), act(change), Changes { deltas: Vec::new(), expects }).await
    };
    put("a", "one", "b", None).await.unwrap();
    assert!(is_stale(&put("b", "two", "a", None).await) && is_stale(&put("b", "two", "a", Some("two")).await));
    put("b", "two", "a", Some("one")).await.unwrap();
    assert!(is_stale(&put("a", "three", "b", None).await));
    let act =
        Act { by: None, change: Change::Context { call: "c".into(), about: String::new(), request: Digest::of(b"c") } };
    let changes = Changes { deltas: vec![value(1)], expects: vec![key(Some(9))] };
    assert!(is_stale(&store.act_with(&acme, at(2), act, changes).await));
    assert_eq!(store.get(&acme, &Drawer::Global, "k", at(2)).await.unwrap(), None);
}

/// Sixteen who decide on what they read, and begin anew where that has changed, lose no update; one handed over before another
/// is looked at before it.
pub async fn sixteen_who_decide_on_what_they_read_lose_nothing<F: Fixture>(fixture: &F) {
    const WRITERS: u64 = 16;
    const EACH: u64 = 8;
    let store = fixture.fresh().await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        tasks.spawn(async move {
            let mut refused = 0;
            for round in 0..EACH {
                for try_ in 0.. {
                    let there = store.get(&tenant("acme"), &Drawer::Global, "k", at(0)).await.unwrap();
                    let count: u64 =
                        there.as_ref().map_or(0, |item| std::str::from_utf8(&item.value).unwrap().parse().unwrap());
                    let revision = store.next_revision(&tenant("acme"));
                    let change = put(&Drawer::Global, "k", revision, (count + 1).to_string());
                    let expects = vec![key(there.map(|item| item.revision.0))];
                    let mut owner = Owner::new("acme", 1 + writer * 10_000 + round * 1_000 + try_);
                    let durability = if round % 2 == 0 { Lazy } else { Barrier };
                    match store.append(owner.expecting(expects, vec![Delta::Memory(change)]), durability).await {
                        Ok(()) => break,
                        Err(error) => assert_eq!(error.kind, Kind::Stale, "{error}"),
                    }
                    refused += 1;
                }
            }
            refused
        });
    }
    let refused: u64 = tasks.join_all().await.into_iter().sum();
    let found = store.get(&tenant("acme"), &Drawer::Global, "k", at(0)).await.unwrap().unwrap();
    assert_eq!(found.value, (WRITERS * EACH).to_string(), "{refused} were refused");
    // Handed over one after the other without waiting: each decides on the one before.
    let mut receipts = Vec::new();
    let mut before = found.revision;
    for number in 0..64 {
        let revision = store.next_revision(&tenant("acme"));
        let change = Delta::Memory(put(&Drawer::Global, "k", revision, "x"));
        let mut owner = Owner::new("acme", 900_000 + number);
        receipts.push(store.hand_over(owner.expecting(vec![key(Some(before.0))], vec![change]), Lazy).await);
        before = revision;
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
}
