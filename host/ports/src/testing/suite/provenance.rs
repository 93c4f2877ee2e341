//! What everybody does who is asked where things come from. [`crate::provenance_contract`] makes a test of every case.
//!
//! Each case has tenants of its own, so that all may share a database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use ltmc_model::journal::{Entry, Event, Forked, RunStarted};
use ltmc_model::provenance::{Dependents, DependentsOf, MAX_DEPENDENTS, Made, PartIn, RunsOf, dependents};
use ltmc_model::{AgentName, Digest, Payload, RunId, Seq, StepPath, TenantId};

use crate::testing::sample::{Owner, at, completed, run_id, started, tenant};
use crate::{Append, ReadProvenance};

/// How the suite gets who is asked.
#[async_trait]
pub trait ProvenanceFixture: Send + Sync {
    /// A tenant of a case: two fixtures over one database have different ones.
    fn tenant(&self, case: &str) -> TenantId {
        tenant(&format!("v-{case}"))
    }

    /// Makes these appends true of a tenant that had none, and gives who knows of all of them.
    async fn told(&self, tenant: &TenantId, appends: Vec<Append>) -> Arc<dyn ReadProvenance>;
}

/// Makes a test of every case: `ltmc_ports::provenance_contract!(MyFixture::default());`. The crate needs tokio's macros.
#[macro_export]
macro_rules! provenance_contract {
    ($fixture:expr) => {
        $crate::contract! { @port provenance, $fixture;
            dependents_are_followed_over_what_steps_work_on
            what_a_node_gave_stands_for_the_steps_below_it
            a_fork_has_what_it_was_forked_from_up_to_there
            nodes_that_begin_runs_depend_too
            of_many_dependents_the_nearest_are_told
            chance_finds_no_difference
            runs_are_found_by_the_version_that_did_a_step
            runs_are_paged_the_newest_first
            tenants_with_the_same_names_never_meet
        }
    };
}

fn path(text: &str) -> StepPath {
    text.parse().expect("a path")
}

fn agent(name: &str) -> AgentName {
    name.parse().expect("an agent's name")
}

fn version(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn entry(event: Event) -> Entry {
    Entry { at: at(1), event }
}

/// A step begins: who does it, in which version, and on what.
fn begins(step: &str, by: &str, needs: &[&str]) -> Entry {
    entry(Event::StepStarted {
        step: path(step),
        attempt: 1,
        agent: by.split('@').next().map(agent),
        version: Some(version(by)),
        needs: needs.iter().map(|need| path(need)).collect(),
        transaction: true,
    })
}

fn ends(step: &str) -> Entry {
    let Entry { at, event } = completed(1, Payload::text("out"));
    let event = match event {
        Event::StepCompleted { attempt, output, usage, .. } => {
            Event::StepCompleted { step: path(step), attempt, output, usage }
        }
        other => other,
    };
    Entry { at, event }
}

fn beginning(of: &TenantId, forked: Option<Forked>) -> Entry {
    entry(Event::RunStarted(Box::new(RunStarted { forked, ..started(of) })))
}

/// A run, each step's beginning in an append of its own.
fn run(of: &TenantId, number: u64, forked: Option<Forked>, steps: &[(&str, &str, &[&str])]) -> Vec<Append> {
    let mut owner = Owner::new(of.as_str(), number);
    let mut appends = vec![owner.write(vec![beginning(of, forked)])];
    for (step, by, needs) in steps {
        appends.push(owner.write(vec![begins(step, by, needs)]));
        appends.push(owner.write(vec![ends(step)]));
    }
    appends
}

async fn asked(who: &dyn ReadProvenance, of: &TenantId, run: RunId, step: &str, depth: u32) -> Dependents {
    who.dependents(of, &DependentsOf { run, step: path(step), depth }).await.expect("it answers")
}

/// Steps and distances, in order.
fn told(found: &Dependents) -> String {
    let told: Vec<String> = found.found.iter().map(|one| format!("{}:{}", one.step, one.distance)).collect();
    told.join(" ")
}

/// Dependents are followed over what steps work on, as far as was asked, each once.
pub async fn dependents_are_followed_over_what_steps_work_on<F: ProvenanceFixture>(fixture: &F) {
    let acme = fixture.tenant("follow");
    let steps: &[(&str, &str, &[&str])] = &[
        ("0/0", "reader@1", &[]),
        ("0/1", "writer@1", &["0/0"]),
        ("0/2", "critic@1", &["0/0", "0/1"]),
        ("0/3", "editor@2", &["0/2"]),
        ("0/4", "idler@1", &[]),
    ];
    let who = fixture.told(&acme, run(&acme, 1, None, steps)).await;
    let found = asked(&*who, &acme, run_id(1), "0/0", 32).await;
    assert_eq!(told(&found), "0/1:1 0/2:1 0/3:2");
    let critic = &found.found[1];
    assert_eq!((critic.agent.clone(), critic.version), (Some(agent("critic")), Some(version("critic@1"))));
    assert_eq!((critic.needs.clone(), critic.began, found.cut), (vec![path("0/0")], None, false));
    assert_eq!(told(&asked(&*who, &acme, run_id(1), "0/0", 1).await), "0/1:1 0/2:1");
    assert_eq!(told(&asked(&*who, &acme, run_id(1), "0/1", 32).await), "0/2:1 0/3:2");
    for nothing in ["0/3", "0/4", "0/17"] {
        assert_eq!(told(&asked(&*who, &acme, run_id(1), nothing, 32).await), "", "{nothing}");
    }
    assert_eq!(asked(&*who, &acme, run_id(2), "0/0", 32).await, Dependents::default(), "there is no such run");
}

/// What a node gave stands for every step below it, but for those that stand below it with who asks.
pub async fn what_a_node_gave_stands_for_the_steps_below_it<F: ProvenanceFixture>(fixture: &F) {
    let acme = fixture.tenant("cover");
    let steps: &[(&str, &str, &[&str])] = &[
        ("0/0/0", "reader@1", &[]),
        ("0/0/1", "reader@1", &[]),
        ("0/10/0", "writer@1", &["0/0"]),
        ("0/10/7", "undoer@1", &["0/10"]),
    ];
    let who = fixture.told(&acme, run(&acme, 1, None, steps)).await;
    assert_eq!(told(&asked(&*who, &acme, run_id(1), "0/0/1", 32).await), "0/10/0:1");
    assert_eq!(told(&asked(&*who, &acme, run_id(1), "0/0", 32).await), "0/10/0:1");
    assert_eq!(told(&asked(&*who, &acme, run_id(1), "0/10/0", 32).await), "", "both stand below it");
    assert_eq!(told(&asked(&*who, &acme, run_id(1), "0/1", 32).await), "", "0/10 does not stand below it");
}

/// A fork has what happened in the run it was forked from, up to there, and what it did itself counts first.
pub async fn a_fork_has_what_it_was_forked_from_up_to_there<F: ProvenanceFixture>(fixture: &F) {
    let acme = fixture.tenant("fork");
    let steps: &[(&str, &str, &[&str])] = &[
        ("0/0", "reader@1", &[]),
        ("0/1", "writer@1", &["0/0"]),
        ("0/2", "critic@1", &["0/1"]),
        ("0/3", "late@1", &["0/0"]),
    ];
    let mut appends = run(&acme, 1, None, steps);
    // Its entries: how it began, then two for each step. The fork knows of the first three.
    let first = Forked { of: run_id(1), at: Seq(7) };
    appends.extend(run(&acme, 2, Some(first), &[("0/2", "critic@2", &["0/1"]), ("0/5", "editor@1", &["0/2"])]));
    let second = Forked { of: run_id(2), at: Seq(3) };
    appends.extend(run(&acme, 3, Some(second), &[("0/6", "judge@1", &["0/2", "0/0"])]));
    let who = fixture.told(&acme, appends).await;
    assert_eq!(told(&asked(&*who, &acme, run_id(1), "0/0", 32).await), "0/1:1 0/3:1 0/2:2");
    let found = asked(&*who, &acme, run_id(2), "0/0", 32).await;
    assert_eq!(told(&found), "0/1:1 0/2:2 0/5:3");
    assert_eq!(found.found[1].version, Some(version("critic@2")));
    let found = asked(&*who, &acme, run_id(3), "0/0", 32).await;
    assert_eq!(told(&found), "0/1:1 0/6:1 0/2:2", "a fork of a fork");
    assert_eq!(found.found[2].version, Some(version("critic@2")));
}

/// A node that begins a run depends on what that works on.
pub async fn nodes_that_begin_runs_depend_too<F: ProvenanceFixture>(fixture: &F) {
    let acme = fixture.tenant("child");
    let mut owner = Owner::new(acme.as_str(), 1);
    let child = Event::ChildStarted { node: path("0/1"), run: run_id(2), needs: vec![path("0/0")], planned: true };
    let ended = Event::ChildEnded { node: path("0/1"), run: run_id(2), result: Ok(Payload::text("out")) };
    let mut appends = vec![owner.write(vec![beginning(&acme, None), begins("0/0", "planner@1", &[]), ends("0/0")])];
    appends.push(owner.write(vec![entry(child)]));
    appends.extend(run(&acme, 2, None, &[("0", "worker@1", &[])]));
    appends.push(owner.write(vec![entry(ended), begins("0/2", "editor@1", &["0/1"])]));
    let who = fixture.told(&acme, appends).await;
    let found = asked(&*who, &acme, run_id(1), "0/0", 32).await;
    assert_eq!(told(&found), "0/1:1 0/2:2");
    assert_eq!((found.found[0].began, found.found[0].agent.clone()), (Some(run_id(2)), None));
}

/// Of many dependents the nearest are told, and that there are more.
pub async fn of_many_dependents_the_nearest_are_told<F: ProvenanceFixture>(fixture: &F) {
    let acme = fixture.tenant("many");
    let mut owner = Owner::new(acme.as_str(), 1);
    let mut entries = vec![beginning(&acme, None), begins("0/0", "reader@1", &[])];
    entries.extend((0..MAX_DEPENDENTS + 5).map(|n| begins(&format!("0/1/{n}"), "worker@1", &["0/0"])));
    entries.push(begins("0/2", "editor@1", &["0/1"]));
    let who = fixture.told(&acme, vec![owner.write(entries)]).await;
    let found = asked(&*who, &acme, run_id(1), "0/0", 32).await;
    assert_eq!((found.found.len(), found.cut), (MAX_DEPENDENTS, true));
    assert!(found.found.iter().all(|one| one.distance == 1));
}

/// Whatever steps work on, it answers as the plain search over all of it does.
pub async fn chance_finds_no_difference<F: ProvenanceFixture>(fixture: &F) {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for round in 0..3 {
        let acme = fixture.tenant(&format!("chance-{round}"));
        let names: Vec<String> = (0..24)
            .map(|_| ["0".to_owned(), draw(4).to_string(), draw(3).to_string()][..2 + draw(2) as usize].join("/"))
            .collect();
        let mut owner = Owner::new(acme.as_str(), 1);
        let (mut appends, mut made) = (vec![owner.write(vec![beginning(&acme, None)])], BTreeMap::new());
        for name in &names {
            let needs: Vec<&str> = (0..draw(3)).map(|_| names[draw(24) as usize].as_str()).collect();
            appends.push(owner.write(vec![begins(name, "worker@1", &needs)]));
            let step: &mut Made = made.entry(path(name)).or_default();
            step.needs.extend(needs.iter().map(|need| path(need)));
            (step.agent, step.version) = (Some(agent("worker")), Some(version("worker@1")));
        }
        let who = fixture.told(&acme, appends).await;
        for name in names.iter().chain([&"0".to_owned()]).collect::<BTreeSet<_>>() {
            for depth in [2, 32] {
                let found = asked(&*who, &acme, run_id(1), name, depth).await;
                assert_eq!(found, dependents(&made, &path(name), depth), "round {round}, {name}, depth {depth}");
            }
        }
    }
}

/// All pages of so many.
async fn pages(who: &dyn ReadProvenance, of: &TenantId, name: &str, wanted: Option<Digest>, limit: u32) -> Vec<PartIn> {
    let (mut runs, mut before) = (Vec::new(), None);
    loop {
        let asked = RunsOf { agent: agent(name), version: wanted, before, limit };
        let page = who.runs_of(of, &asked).await.expect("it answers");
        assert!(page.runs.len() <= limit as usize);
        runs.extend(page.runs);
        match page.next {
            Some(next) => before = Some(next),
            None => return runs,
        }
    }
}

/// Runs are found by the version that did a step of them; by none, all versions of an agent are meant.
pub async fn runs_are_found_by_the_version_that_did_a_step<F: ProvenanceFixture>(fixture: &F) {
    let acme = fixture.tenant("runs");
    let mut appends = run(&acme, 1, None, &[("0/0", "scan@1", &[]), ("0/1", "fix@1", &["0/0"])]);
    appends.extend(run(&acme, 2, None, &[("0/0", "scan@2", &[])]));
    appends.extend(run(&acme, 3, None, &[("0/0", "scan@1", &[]), ("0/0", "scan@2", &[])]));
    appends.extend(run(&acme, 4, None, &[("0/0", "fix@1", &[])]));
    appends.extend(run(&acme, 5, None, &[]));
    let who = fixture.told(&acme, appends).await;
    let runs = async |name: &str, wanted: Option<Digest>| {
        let found = pages(&*who, &acme, name, wanted, 10).await;
        found.iter().map(|part| part.run).collect::<Vec<_>>()
    };
    assert_eq!(runs("scan", None).await, [run_id(3), run_id(2), run_id(1)]);
    assert_eq!(runs("scan", Some(version("scan@1"))).await, [run_id(3), run_id(1)]);
    assert_eq!(runs("scan", Some(version("scan@2"))).await, [run_id(3), run_id(2)]);
    assert_eq!(runs("fix", Some(version("scan@1"))).await, []);
    assert_eq!(runs("nobody", None).await, []);
    let mut both = vec![version("scan@1"), version("scan@2")];
    both.sort_unstable();
    assert_eq!(pages(&*who, &acme, "scan", Some(version("scan@2")), 10).await[0].versions, both);
}

/// Runs are paged, the newest first, none missing and none twice.
pub async fn runs_are_paged_the_newest_first<F: ProvenanceFixture>(fixture: &F) {
    let acme = fixture.tenant("pages");
    let appends = (1..=25).flat_map(|number| {
        let by = if number % 3 == 0 { "other@1" } else { "scan@1" };
        run(&acme, number, None, &[("0", by, &[])])
    });
    let who = fixture.told(&acme, appends.collect()).await;
    let expected: Vec<RunId> = (1..=25).rev().filter(|number| number % 3 != 0).map(run_id).collect();
    for limit in [1, 7, 100] {
        let found = pages(&*who, &acme, "scan", None, limit).await;
        assert_eq!(found.iter().map(|part| part.run).collect::<Vec<_>>(), expected, "pages of {limit}");
    }
}

/// Tenants with the same names, and the same runs, never meet.
pub async fn tenants_with_the_same_names_never_meet<F: ProvenanceFixture>(fixture: &F) {
    let (acme, other) = (fixture.tenant("tenant"), fixture.tenant("tenant-2"));
    fixture.told(&acme, run(&acme, 1, None, &[("0/0", "scan@1", &[]), ("0/1", "fix@1", &["0/0"])])).await;
    let who = fixture.told(&other, run(&other, 2, None, &[("0/0", "scan@1", &[])])).await;
    assert_eq!(told(&asked(&*who, &other, run_id(1), "0/0", 32).await), "");
    let found = pages(&*who, &other, "scan", None, 10).await;
    assert_eq!(found.iter().map(|part| part.run).collect::<Vec<_>>(), [run_id(2)]);
}
