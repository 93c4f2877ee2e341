//! What every journal does.

use ltmc_model::journal::{Entry, Event, Placed};
use ltmc_model::run::{State, TakenUp, Trial};
use ltmc_model::{Digest, Payload, Revision, RunId, Seq, StepPath, TenantId};

use super::Fixture;
use crate::journal::{RunFilter, Snapshot, Suspended};
use crate::testing::sample::{Owner, at, completed, put, run_id, tenant};
use crate::{Append, Durability, Kind, ReadJournal as _, ReadMemory as _, TakeUps as _, WriteJournal as _};
use ltmc_model::delta::Delta;
use ltmc_model::memory::Drawer;

use Durability::{Barrier, Lazy};

const ALL: u32 = 1_000;

/// Entries come back in order and in pages.
pub async fn entries_come_back_in_order_and_in_pages<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    let mut written = Vec::new();
    for count in [1, 3, 2] {
        let append = owner.append(count);
        written.extend(append.entries.clone());
        store.append(append, Lazy).await.unwrap();
    }
    let (acme, run) = (tenant("acme"), owner.row.id);
    let all = store.entries(&acme, run, Seq(0), ALL).await.unwrap();
    assert_eq!(all.iter().map(|placed| placed.seq.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(all.into_iter().map(|placed| placed.entry).collect::<Vec<_>>(), written);
    for after in 0..7 {
        for limit in 1..4 {
            let page = store.entries(&acme, run, Seq(after), limit).await.unwrap();
            let wanted: Vec<u64> = (after + 1..=6).take(limit as usize).collect();
            assert_eq!(page.iter().map(|placed| placed.seq.0).collect::<Vec<_>>(), wanted, "after {after}, {limit}");
        }
    }
    assert!(store.entries(&acme, run_id(9), Seq(0), ALL).await.unwrap().is_empty());
}

/// A page is bounded in bytes, within what one append wrote too, and has an entry at least; who reads on misses nothing.
pub async fn a_page_is_bounded_in_bytes_and_has_an_entry_at_least<F: Fixture>(fixture: &F) {
    const LARGE: usize = 40_000;
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    let large = |node: usize| {
        let output = Payload::text("x".repeat(LARGE));
        Entry { at: at(1), event: Event::NodeEnded { node: StepPath::root().child(node), output } }
    };
    store.append(owner.append(1), Lazy).await.unwrap();
    store.append(owner.write((0..6).map(large).collect()), Lazy).await.unwrap();
    store.append(owner.append(2), Lazy).await.unwrap();
    let (acme, run) = (tenant("acme"), owner.row.id);
    let all = store.entries(&acme, run, Seq(0), ALL).await.unwrap();
    for bytes in [1, LARGE, 2 * LARGE + 2_000, 100 * LARGE] {
        let mut read: Vec<Placed> = Vec::new();
        loop {
            let after = read.last().map_or(Seq(0), |last| last.seq);
            let page = store.page(&acme, run, after, ALL, bytes).await.unwrap();
            let has: usize = page.iter().map(|placed| placed.entry.to_bytes().len()).sum();
            assert!(
                page.len() == 1 || has <= bytes,
                "{} entries of {has} bytes where {bytes} are asked for",
                page.len()
            );
            if page.is_empty() {
                break;
            }
            read.extend(page);
        }
        assert_eq!(read, all, "{bytes}");
    }
    assert_eq!(store.page(&acme, run, Seq(0), 3, 100 * LARGE).await.unwrap().len(), 3);
}

/// Another length is a conflict.
pub async fn another_length_is_a_conflict<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    let mut behind = owner.clone();
    store.append(owner.append(1), Lazy).await.unwrap();
    behind.previous = owner.previous;
    behind.append(1);
    store.append(owner.append(1), Lazy).await.unwrap();
    assert_eq!(store.append(behind.append(1), Lazy).await.unwrap_err().kind, Kind::Conflict);
    let all = store.entries(&tenant("acme"), owner.row.id, Seq(0), ALL).await.unwrap();
    assert_eq!(all.len(), 2);
}

/// A new run exists once.
pub async fn a_new_run_exists_once<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    store.append(Owner::new("acme", 1).append(1), Lazy).await.unwrap();
    assert_eq!(store.append(Owner::new("acme", 1).append(2), Lazy).await.unwrap_err().kind, Kind::Conflict);
    let store = {
        store.append(Owner::new("acme", 2).append(1), Barrier).await.unwrap();
        fixture.crash(store).await
    };
    assert_eq!(store.append(Owner::new("acme", 1).append(1), Lazy).await.unwrap_err().kind, Kind::Conflict);
}

/// A claim fences the owner before.
pub async fn a_claim_fences_the_owner_before<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut old = Owner::new("acme", 1);
    store.append(old.append(2), Lazy).await.unwrap();
    let row = store.run(&tenant("acme"), old.row.id).await.unwrap().unwrap();
    let mut new = Owner::claim(&row);
    store.append(new.append(1), Barrier).await.unwrap();
    assert_eq!(store.append(old.append(1), Lazy).await.unwrap_err().kind, Kind::Fenced);
    store.append(new.append(1), Lazy).await.unwrap();
    let row = store.run(&tenant("acme"), old.row.id).await.unwrap().unwrap();
    assert_eq!((row.epoch, row.seq), (new.row.epoch, Seq(4)));
}

/// Two owners at once never both write.
pub async fn two_owners_at_once_never_both_write<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for number in 1..20 {
        let mut first = Owner::new("acme", number);
        store.append(first.append(1), Lazy).await.unwrap();
        let (mut a, mut b) = (Owner::claim(&first.row), Owner::claim(&first.row));
        let (one, two) = tokio::join!(store.append(a.append(1), Lazy), store.append(b.append(1), Lazy));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        let all = store.entries(&tenant("acme"), first.row.id, Seq(0), ALL).await.unwrap();
        assert_eq!(all.len(), 2);
    }
}

/// A run that the record lost is fenced.
pub async fn a_run_that_the_record_lost_is_fenced<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    drop(owner.append(1));
    assert_eq!(store.append(owner.append(1), Lazy).await.unwrap_err().kind, Kind::Fenced);
}

/// Lazy appends are seen at once.
pub async fn lazy_appends_are_seen_at_once<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    for length in 1..30 {
        store.append(owner.append(1), Lazy).await.unwrap();
        let all = store.entries(&tenant("acme"), owner.row.id, Seq(0), ALL).await.unwrap();
        assert_eq!(all.len(), length);
        assert_eq!(store.run(&tenant("acme"), owner.row.id).await.unwrap(), Some(owner.row.clone()));
    }
}

/// A barrier is durable with all before it.
pub async fn a_barrier_is_durable_with_all_before_it<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (mut lazy, mut sure) = (Owner::new("acme", 1), Owner::new("beta", 2));
    store.append(lazy.append(3), Lazy).await.unwrap();
    store.append(sure.append(1), Barrier).await.unwrap();
    let store = fixture.crash(store).await;
    assert_eq!(store.entries(&tenant("acme"), lazy.row.id, Seq(0), ALL).await.unwrap().len(), 3);
    assert_eq!(store.entries(&tenant("beta"), sure.row.id, Seq(0), ALL).await.unwrap().len(), 1);
    assert!(store.verify().await.unwrap().damage.is_empty());
}

/// An empty barrier makes durable.
pub async fn an_empty_barrier_makes_durable<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    store.append(owner.append(2), Lazy).await.unwrap();
    store.append(owner.append(0), Barrier).await.unwrap();
    let store = fixture.crash(store).await;
    assert_eq!(store.run(&tenant("acme"), owner.row.id).await.unwrap().map(|row| row.seq), Some(Seq(2)));
}

/// Nothing of a refused append is recorded.
pub async fn nothing_of_a_refused_append_is_recorded<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    store.append(owner.append(1), Lazy).await.unwrap();
    let mut stranger = Owner::new("acme", 1);
    let mut refused = stranger.remember(vec![put(&Drawer::Global, "k", store.next_revision(&tenant("acme")), "v")]);
    refused.idempotency = stranger.under("key", at(1_000)).idempotency;
    assert!(store.append(refused, Barrier).await.is_err());
    assert_eq!(store.get(&tenant("acme"), &Drawer::Global, "k", at(0)).await.unwrap(), None);
    assert_eq!(store.idempotent(&tenant("acme"), "key", at(0)).await.unwrap(), None);
    assert_eq!(store.entries(&tenant("acme"), owner.row.id, Seq(0), ALL).await.unwrap().len(), 1);
}

/// Rows say what was written.
pub async fn rows_say_what_was_written<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    for state in State::ALL {
        owner.row.state = state;
        owner.row.updated_at = at(77);
        store.append(owner.append(1), Lazy).await.unwrap();
        assert_eq!(store.run(&tenant("acme"), owner.row.id).await.unwrap(), Some(owner.row.clone()));
    }
    assert_eq!(store.run(&tenant("acme"), run_id(2)).await.unwrap(), None);
}

/// Lists of runs obey every filter.
pub async fn lists_of_runs_obey_every_filter<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for number in 1..=6 {
        let mut owner = Owner::new("acme", number);
        if number % 2 == 0 {
            owner.row.state = State::Completed;
            owner.row.session = "even".parse().unwrap();
            owner.row.target = ltmc_model::run::Target::Workflow("review".parse().unwrap());
            owner.row.by = "bbbbbbbbbbbb".parse().unwrap();
            owner.row.parent = (number > 2).then(|| run_id(2));
        }
        store.append(owner.append(1), Lazy).await.unwrap();
    }
    let list = async |filter: RunFilter| -> Vec<u64> {
        let found = store.runs(&tenant("acme"), &filter).await.unwrap();
        (1..=6).rev().filter(|number| found.iter().any(|run| run.id == run_id(*number))).collect()
    };
    let all = RunFilter { limit: 100, ..RunFilter::default() };
    assert_eq!(list(all.clone()).await, [6, 5, 4, 3, 2, 1]);
    let order: Vec<RunId> = store.runs(&tenant("acme"), &all).await.unwrap().iter().map(|run| run.id).collect();
    assert!(order.is_sorted_by(|a, b| a > b));
    assert_eq!(list(RunFilter { state: Some(State::Completed), ..all.clone() }).await, [6, 4, 2]);
    assert_eq!(list(RunFilter { target: Some("echo".into()), ..all.clone() }).await, [5, 3, 1]);
    assert_eq!(list(RunFilter { target: Some("review".into()), ..all.clone() }).await, [6, 4, 2]);
    assert_eq!(list(RunFilter { session: Some("even".parse().unwrap()), ..all.clone() }).await, [6, 4, 2]);
    assert_eq!(list(RunFilter { by: Some("bbbbbbbbbbbb".parse().unwrap()), ..all.clone() }).await, [6, 4, 2]);
    assert_eq!(list(RunFilter { parent: Some(run_id(2)), ..all.clone() }).await, [6, 4]);
    assert_eq!(store.run(&tenant("acme"), run_id(4)).await.unwrap().unwrap().parent, Some(run_id(2)));
    assert_eq!(list(RunFilter { before: Some(run_id(3)), ..all.clone() }).await, [2, 1]);
    assert_eq!(list(RunFilter { limit: 2, ..all.clone() }).await, [6, 5]);
    assert!(store.runs(&tenant("beta"), &all).await.unwrap().is_empty());
}

/// Unfinished runs are found again.
pub async fn unfinished_runs_are_found_again<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for (number, of) in [(1, "acme"), (2, "beta"), (3, "acme"), (4, "acme")] {
        let mut owner = Owner::new(of, number);
        owner.row.state = if number == 3 { State::Failed } else { State::Waiting };
        store.append(owner.append(1), Barrier).await.unwrap();
    }
    let mut suspended = Owner::new("acme", 5);
    (suspended.row.state, suspended.row.wakes_at) = (State::Waiting, Some(at(1_000)));
    store.append(suspended.append(1), Barrier).await.unwrap();
    let store = fixture.crash(store).await;
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store.unfinished(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.tenant.clone(), last.id));
        found.extend(page.into_iter().map(|run| run.id));
    }
    assert_eq!(found, [run_id(1), run_id(2), run_id(4)]);
    for (of, from, limit, expected) in [
        ("acme", 0, 9, vec![1, 4]),
        ("acme", 1, 1, vec![1]),
        ("acme", 2, 9, vec![4]),
        ("acme", 5, 9, vec![]),
        ("beta", 1, 9, vec![2]),
    ] {
        let page = store.unfinished_of(&tenant(of), run_id(from), limit).await.unwrap();
        let expected: Vec<_> = expected.into_iter().map(run_id).collect();
        assert_eq!(page.iter().map(|run| run.id).collect::<Vec<_>>(), expected, "of {of} from {from}");
    }
    let mut aside = Owner::new("acme", 9);
    aside.row.state = State::Quarantined;
    store.append(aside.append(1), Barrier).await.unwrap();
    for (number, state) in [(10, State::Stuck), (11, State::Stuck), (12, State::Paused)] {
        let mut aside = Owner::new("acme", number);
        aside.row.state = state;
        store.append(aside.append(1), Barrier).await.unwrap();
    }
    for (state, of_acme) in [(State::Quarantined, 1), (State::Paused, 1), (State::Stuck, 2)] {
        assert_eq!(store.set_aside(&tenant("acme"), state).await.unwrap(), of_acme);
        assert_eq!(store.set_aside(&tenant("beta"), state).await.unwrap(), 0);
    }
    assert_eq!(store.unfinished(None, 100).await.unwrap().len(), 3, "nobody takes up what is set aside");
}

/// A tenant's suspended runs stand in the order in which they go on, and only for as long as they are.
pub async fn suspended_runs_stand_in_the_order_in_which_they_go_on<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let wakes = [(1, "acme", 3_000), (2, "beta", 1_500), (3, "acme", 2_000), (4, "acme", 1_000), (5, "acme", 500)];
    let mut owners = Vec::new();
    for (number, of, wakes_at) in wakes {
        let mut owner = Owner::new(of, number);
        (owner.row.state, owner.row.wakes_at) = (State::Waiting, Some(at(wakes_at)));
        store.append(owner.append(1), Barrier).await.unwrap();
        owners.push(owner);
    }
    // The fifth goes on.
    let mut awake = owners.pop().unwrap();
    (awake.row.state, awake.row.wakes_at) = (State::Running, None);
    store.append(awake.append(1), Barrier).await.unwrap();
    let store = fixture.crash(store).await;
    for (of, expected) in [("acme", vec![(4, 1_000), (3, 2_000), (1, 3_000)]), ("beta", vec![(2, 1_500)])] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.suspended(&tenant(of), after, 2).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Suspended::of(last);
            found.extend(page.into_iter().map(|run| (run.id, run.wakes_at)));
        }
        let expected: Vec<_> = expected.into_iter().map(|(number, time)| (run_id(number), Some(at(time)))).collect();
        assert_eq!(found, expected, "of {of}");
    }
    let [acme, beta] = [(tenant("acme"), at(1_000)), (tenant("beta"), at(1_500))];
    assert_eq!(store.sleepers(None, 10).await.unwrap(), [acme.clone(), beta.clone()]);
    assert_eq!(store.sleepers(None, 1).await.unwrap(), std::slice::from_ref(&acme));
    assert_eq!(store.sleepers(Some(&acme.0), 10).await.unwrap(), std::slice::from_ref(&beta));
    assert_eq!(store.sleepers(Some(&beta.0), 10).await.unwrap(), []);
}

/// The end of a run makes the one that began it due, and those that it began, where they are suspended; and what is decided on a run
/// that is not over is taken only while it is not.
pub async fn the_end_of_a_run_makes_its_parent_and_its_children_due<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (acme, beta) = (tenant("acme"), tenant("beta"));
    let mut parents = Vec::new();
    for (number, of, wakes_at) in [(1, "acme", Some(9_000)), (2, "acme", None), (1, "beta", Some(9_000))] {
        let mut owner = Owner::new(of, number);
        (owner.row.state, owner.row.wakes_at) = (State::Waiting, wakes_at.map(at));
        store.append(owner.append(1), Lazy).await.unwrap();
        parents.push(owner);
    }
    let mut children = Vec::new();
    for (number, parent) in [(11, 1), (12, 2)] {
        let mut child = Owner::new("acme", number);
        child.row.parent = Some(run_id(parent));
        store.append(child.append(1), Lazy).await.unwrap();
        children.push(child);
    }
    let under_way = |number| vec![crate::Expect::UnderWay { run: run_id(number) }];
    store.append(Owner::new("acme", 21).expecting(under_way(11), Vec::new()), Lazy).await.unwrap();
    for child in &mut children {
        child.row.state = State::Failed;
        store.append(child.append(1), Barrier).await.unwrap();
    }
    for (of, number) in [("acme", 11), ("acme", 99), ("beta", 12)] {
        let refused = store.append(Owner::new(of, 22).expecting(under_way(number), Vec::new()), Lazy).await;
        assert_eq!(refused.unwrap_err().kind, Kind::Stale, "run {number} of {of}");
    }
    let store = fixture.crash(store).await;
    let wakes_at = async |of: &TenantId, number| store.run(of, run_id(number)).await.unwrap().unwrap().wakes_at;
    assert!(wakes_at(&acme, 1).await < Some(at(9_000)), "it is due");
    assert_eq!(
        (wakes_at(&acme, 2).await, wakes_at(&beta, 1).await),
        (None, Some(at(9_000))),
        "others are as they were"
    );
    let mut grandchild = Owner::new("acme", 13);
    (grandchild.row.state, grandchild.row.wakes_at) = (State::Waiting, Some(at(9_000)));
    grandchild.row.parent = Some(run_id(2));
    store.append(grandchild.append(1), Lazy).await.unwrap();
    parents[1].row.state = State::Completed;
    store.append(parents[1].append(1), Lazy).await.unwrap();
    assert!(wakes_at(&acme, 13).await < Some(at(9_000)), "it is due");
    // Its owner goes on with it as if nothing had been.
    let mut claim = Owner::claim(&parents[0].row);
    (claim.row.state, claim.row.wakes_at) = (State::Running, None);
    store.append(claim.append(1), Lazy).await.unwrap();
}

/// Idempotency keys expire.
pub async fn idempotency_keys_expire<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    store.append(owner.under("key", at(1_000)), Barrier).await.unwrap();
    let store = fixture.crash(store).await;
    let acme = tenant("acme");
    let found = store.idempotent(&acme, "key", at(999)).await.unwrap().unwrap();
    assert_eq!((found.run, found.request), (owner.row.id, Digest::of(b"key")));
    assert_eq!(store.idempotent(&acme, "key", at(1_000)).await.unwrap(), None);
    assert_eq!(store.idempotent(&acme, "other", at(0)).await.unwrap(), None);
    let mut next = Owner::new("acme", 2);
    next.row.updated_at = at(2_000);
    store.append(next.under("key", at(3_000)), Lazy).await.unwrap();
    assert_eq!(store.idempotent(&acme, "key", at(2_500)).await.unwrap().unwrap().run, next.row.id);
}

/// An idempotency key starts one run.
pub async fn an_idempotency_key_starts_one_run<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owners: Vec<Owner> = (1..=16).map(|number| Owner::new("acme", number)).collect();
    let appends = owners.iter_mut().map(|owner| owner.under("key", at(1_000_000))).collect::<Vec<_>>();
    let mut tasks = tokio::task::JoinSet::new();
    for append in appends {
        let store = store.clone();
        tasks.spawn(async move { store.append(append, Lazy).await });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().filter_map(|result| result.as_ref().err()).all(|error| error.kind == Kind::Conflict));
    let all = RunFilter { limit: 100, ..RunFilter::default() };
    assert_eq!(store.runs(&tenant("acme"), &all).await.unwrap().len(), 1);
}

/// How often a run was taken up outlives the host, until an append says that it got on.
pub async fn how_often_a_run_was_taken_up_outlives_the_host<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let [mut one, mut other, mut over] = [1, 2, 3].map(|number| Owner::new("acme", number));
    over.row.state = State::Completed;
    for owner in [&mut one, &mut other, &mut over] {
        store.append(owner.append(1), Barrier).await.unwrap();
    }
    let all = [&one, &other, &over].map(|owner| (tenant("acme"), owner.row.id));
    store.take_up(&all, 1, Trial::None).await.unwrap();
    store.take_up(&all[1..2], 1, Trial::Alone).await.unwrap();
    store.take_up(&all[1..2], 0, Trial::Bounded).await.unwrap();
    let store = fixture.crash(store).await;
    let of = async |store: &F::Store| {
        let mut found = Vec::new();
        for (tenant, run) in &all {
            found.push(store.run(tenant, *run).await.unwrap().unwrap().taken_up);
        }
        found
    };
    let taken = |times, trial| TakenUp { times, trial };
    let counted = vec![taken(1, Trial::None), taken(2, Trial::Bounded), TakenUp::default()];
    assert_eq!(of(&store).await, counted, "what is over is not taken up");
    // Who writes for it meanwhile says nothing of it, until it gets on.
    let row = store.run(&all[1].0, all[1].1).await.unwrap().unwrap();
    let mut owner = Owner::claim(&row);
    store.take_up(&all[1..2], 1, Trial::None).await.unwrap();
    store.append(owner.append(1), Lazy).await.unwrap();
    assert_eq!(of(&store).await[1], taken(3, Trial::None));
    owner.row.taken_up = TakenUp::default();
    store.append(owner.append(1), Lazy).await.unwrap();
    assert!(of(&store).await[1].is_none());
    store.take_up(&all[..1], -1, Trial::None).await.unwrap();
    store.take_up(&all[..1], -1, Trial::None).await.unwrap();
    assert!(of(&store).await[0].is_none(), "what came to nothing is taken back, and no more");
    store.take_up(&all, 4, Trial::Alone).await.unwrap();
    store.forget_take_ups().await.unwrap();
    assert!(of(&store).await.iter().all(TakenUp::is_none));
}

/// Tenants with the same names never meet.
pub async fn tenants_with_the_same_names_never_meet<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (mut a, mut b) = (Owner::new("acme", 1), Owner::new("beta", 1));
    store.append(a.under("key", at(1_000)), Lazy).await.unwrap();
    assert_eq!(store.run(&tenant("beta"), a.row.id).await.unwrap(), None);
    assert!(store.entries(&tenant("beta"), a.row.id, Seq(0), ALL).await.unwrap().is_empty());
    assert_eq!(store.idempotent(&tenant("beta"), "key", at(0)).await.unwrap(), None);
    store.append(b.append(2), Lazy).await.unwrap();
    let of = async |name: &str| store.entries(&tenant(name), a.row.id, Seq(0), ALL).await.unwrap();
    let (acme, beta) = (of("acme").await, of("beta").await);
    assert_eq!((acme.len(), beta.len()), (1, 2));
    assert_ne!(acme[0], beta[0]);
}

/// Large payloads come back.
pub async fn large_payloads_come_back<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut owner = Owner::new("acme", 1);
    store.append(owner.append(1), Lazy).await.unwrap();
    let large = Payload { content_type: "application/octet-stream".into(), bytes: vec![7; 8 << 20].into() };
    store.append(owner.write(vec![completed(2, large.clone())]), Barrier).await.unwrap();
    let store = fixture.crash(store).await;
    let all = store.entries(&tenant("acme"), owner.row.id, Seq(1), ALL).await.unwrap();
    assert!(matches!(&all[0].entry.event, Event::StepCompleted { output, .. } if *output == large));
}

/// Many at once are all there and the chain is whole.
pub async fn many_at_once_are_all_there_and_the_chain_is_whole<F: Fixture>(fixture: &F) {
    const RUNS: u64 = 64;
    let store = fixture.fresh().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=RUNS {
        let store = store.clone();
        tasks.spawn(async move {
            let mut owner = Owner::new(if number % 2 == 0 { "acme" } else { "beta" }, number);
            let mut highest = Revision(0);
            for count in [1, 2, 3] {
                let revision = store.next_revision(&tenant("acme"));
                assert!(revision > highest);
                highest = revision;
                let mut append = owner.append(count);
                let change = put(&Drawer::Global, &format!("{number}"), revision, format!("{count}"));
                append.changes.deltas = vec![Delta::Memory(change)];
                let durability = if count == 3 { Barrier } else { Lazy };
                store.append(append, durability).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let store = fixture.crash(store).await;
    let audit = store.verify().await.unwrap();
    assert_eq!((audit.verified, audit.damage), (RUNS * 6, vec![]));
    for number in 1..=RUNS {
        let of = tenant(if number % 2 == 0 { "acme" } else { "beta" });
        assert_eq!(store.entries(&of, run_id(number), Seq(0), ALL).await.unwrap().len(), 6);
        let kept = store.get(&of, &Drawer::Global, &number.to_string(), at(0)).await.unwrap().unwrap();
        assert_eq!(kept.value, "3");
    }
}

/// What is kept of a run's state comes back, the newest first, and goes where its entries go.
pub async fn the_last_two_snapshots_of_a_run_are_kept<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (mut owner, mut other) = (Owner::new("acme", 1), Owner::new("other", 1));
    let run = owner.row.id;
    let snapshot = |append: Append, at: u64| {
        let (digest, bytes) = (Digest::of(&[at as u8; 3]), 3);
        let mut entries = append.entries.clone();
        entries[0].event = Event::Sealed { form: 1, digest, bytes };
        Append { snapshot: Some(Snapshot { at: Seq(at), bytes: [at as u8; 3].into() }), entries, ..append }
    };
    store.append(owner.append(1), Lazy).await.unwrap();
    store.append(other.append(1), Lazy).await.unwrap();
    let (acme, all) = (tenant("acme"), Seq(u64::MAX));
    assert_eq!(store.snapshot(&acme, run, all).await.unwrap(), None);
    for at in [2, 4, 6] {
        store.append(snapshot(owner.append(2), at), Lazy).await.unwrap();
    }
    store.append(snapshot(other.append(1), 2), Barrier).await.unwrap();
    let at = async |until| {
        let found = store.snapshot(&acme, run, Seq(until)).await.unwrap();
        found.map(|found| (found.at.0, found.bytes.to_vec()))
    };
    assert_eq!(at(u64::MAX).await, Some((6, vec![6; 3])));
    assert_eq!((at(6).await, at(5).await), (Some((6, vec![6; 3])), Some((4, vec![4; 3]))));
    assert_eq!(at(3).await, None, "the one before the last two is gone");
    let refused = Append { expected: Seq(1), ..snapshot(owner.clone().append(1), 8) };
    store.append(refused, Lazy).await.unwrap_err();
    assert_eq!(at(u64::MAX).await, Some((6, vec![6; 3])), "what is refused leaves nothing");
    let audit = store.verify().await.unwrap();
    assert!(audit.damage.is_empty(), "{audit:?}");
    store.append(snapshot(owner.append(1), 8), Lazy).await.unwrap();
    let store = fixture.crash(store).await;
    let newest = store.snapshot(&acme, run, all).await.unwrap().unwrap();
    let last = store.last(&acme, run).await.unwrap();
    assert!(newest.at <= last && newest.at >= Seq(6), "it is there as its entry is: {newest:?}, {last:?}");
    assert_eq!(store.snapshot(&tenant("other"), run, all).await.unwrap().unwrap().bytes[..], [2; 3]);
}
