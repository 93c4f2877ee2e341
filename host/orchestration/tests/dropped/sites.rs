//! That there is a case for each use case, by the source: what takes a change over from its client, whom clients ask, and what
//! they can ask of shared context. A use case that is added without a case here fails, and says what to add.
//!
//! Invariant: a site is named by its file and its function, as in `tenancy/src/access.rs: create_key`. What a case claims under
//! `of` is there, so that no claim outlives what it was about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::case::Covered;
use crate::{catalog, context, events, runs, sessions};

/// Every case.
const CASES: [Covered; 5] = [catalog::COVERED, context::COVERED, events::COVERED, runs::COVERED, sessions::COVERED];

/// Where use cases are, and what asks for them.
const CRATES: [&str; 7] = ["tenancy", "context", "projections", "crossing", "orchestration", "api", "ltmc"];

/// What takes a change over from its client: whoever is dropped while it waits for this leaves it to somebody else, or half done.
const TAKES_OVER: [&str; 6] = [".perform(", "tasks().own(", ".tasks.own(", ".came_true(", "to_its_end(", "Tied::new("];

/// What clients ask for that changes nothing. Reads are counted for the tenant's audit by a task that nobody waits for.
const READS: [&str; 49] = [
    "context/src/clients.rs: dead_letters",
    "context/src/clients.rs: events",
    "context/src/clients.rs: subscribe",
    "context/src/context.rs: room_in_session",
    "context/src/state_people.rs: state",
    "context/src/state_people.rs: state_history",
    "orchestration/src/approvals.rs: answered",
    "orchestration/src/approvals.rs: question",
    "orchestration/src/approvals.rs: questions",
    "orchestration/src/cascade.rs: trace",
    "orchestration/src/provenance.rs: dependents",
    "orchestration/src/provenance.rs: runs_of",
    "orchestration/src/recovery/conflicts.rs: conflicts",
    "orchestration/src/recovery/diff.rs: diff",
    "orchestration/src/recovery/why.rs: why",
    "orchestration/src/runs/look.rs: cause",
    "orchestration/src/runs/look.rs: entry",
    "orchestration/src/runs/look.rs: get",
    "orchestration/src/runs/look.rs: journal",
    "orchestration/src/runs/look.rs: list",
    "orchestration/src/runs/look.rs: output",
    "orchestration/src/runs/wait.rs: wait",
    "orchestration/src/runs/follow.rs: watch",
    "orchestration/src/schedules.rs: list",
    "orchestration/src/sessions.rs: archive",
    "orchestration/src/sessions.rs: get",
    "orchestration/src/sessions.rs: history",
    "orchestration/src/sessions.rs: list",
    "orchestration/src/similar.rs: similar",
    "orchestration/src/triggers.rs: arrivals",
    "orchestration/src/triggers.rs: get",
    "orchestration/src/triggers.rs: list",
    "orchestration/src/workflows.rs: get",
    "orchestration/src/workflows.rs: list",
    "projections/src/repair.rs: statuses",
    "tenancy/src/access.rs: ceiling",
    "tenancy/src/access.rs: confirm",
    "tenancy/src/access.rs: disk_usage",
    "tenancy/src/access.rs: keys",
    "tenancy/src/access.rs: lapse",
    "tenancy/src/access.rs: ledger",
    "tenancy/src/access.rs: ledger_end",
    "tenancy/src/access.rs: may",
    "tenancy/src/access.rs: tenants",
    "tenancy/src/access.rs: while_good",
    "tenancy/src/agents.rs: get",
    "tenancy/src/agents.rs: grants",
    "tenancy/src/agents.rs: list",
    "tenancy/src/authority.rs: authorize",
];

/// What every one of the others goes through.
const EVERYWHERE: &str = "tenancy/src/authority.rs: perform";

/// Calls that change something and are a guest's alone: they are about its attempt, its own mailbox, its run's children, the
/// conversation that it holds, its own state, or its log.
const GUESTS: [&str; 14] = [
    "attempt.checkpoint",
    "coordination.ask",
    "coordination.begin",
    "coordination.call",
    "coordination.hand-back",
    "coordination.hand-off",
    "coordination.join",
    "coordination.need",
    "log.write",
    "messages.ack",
    "messages.receive",
    "messages.reject",
    "state.get",
    "state.transition",
];

fn host() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Files of Rust in a directory and below it, without their tests, by their paths from `host` on.
fn sources(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let source = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
                let name = path.strip_prefix(host()).unwrap().to_str().unwrap().to_owned();
                found.insert(name, source);
            }
        }
    }
    found
}

/// The name of the function that a line begins.
fn begins(line: &str) -> Option<&str> {
    let mut words = line.trim_start();
    while let Some(rest) = ["pub ", "pub(crate) ", "pub(super) ", "async "].iter().find_map(|w| words.strip_prefix(w)) {
        words = rest;
    }
    let rest = words.strip_prefix("fn ")?;
    Some(&rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_')?])
}

/// Each function that takes a change over from its client, and each that clients ask for something.
fn found() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut takes_over, mut asked) = (BTreeSet::new(), BTreeSet::new());
    for (file, source) in CRATES.iter().flat_map(|name| sources(&host().join(name).join("src"))) {
        let mut within = "";
        let lines: Vec<&str> = source.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            if let Some(name) = begins(line) {
                within = name;
                let signature: String = lines[number..].iter().take_while(|line| !line.is_empty()).copied().collect();
                let signature = &signature[..signature.find(" {").unwrap_or(signature.len())];
                if line.trim_start().starts_with("pub async fn") && signature.contains(": &Caller") {
                    asked.insert(format!("{file}: {within}"));
                }
            } else if TAKES_OVER.iter().any(|takes| line.contains(takes)) {
                takes_over.insert(format!("{file}: {within}"));
            }
        }
    }
    (takes_over, asked)
}

fn claimed() -> BTreeSet<String> {
    let all = CASES.iter().flat_map(|cases| cases.iter()).flat_map(|(_, sites)| sites.iter());
    all.map(|site| (*site).to_owned()).collect()
}

fn set(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|one| (*one).to_owned()).collect()
}

#[test]
fn there_is_a_case_for_whatever_takes_a_change_over_from_its_client() {
    let (takes_over, _) = found();
    assert!(takes_over.len() >= 30, "only {takes_over:?} were found");
    let without: Vec<String> = takes_over.difference(&claimed()).filter(|site| *site != EVERYWHERE).cloned().collect();
    assert!(
        without.is_empty(),
        "no case drops what asks for these: {without:#?}\nadd one to the file of this test that fits, with the site under `of`, and \
         what must be so however it is dropped"
    );
}

#[test]
fn there_is_a_case_for_each_use_case_that_is_no_read() {
    let (takes_over, asked) = found();
    assert!(asked.len() >= 60, "only {asked:?} were found");
    let reads = set(&READS);
    let without: Vec<String> =
        asked.difference(&claimed()).filter(|site| !reads.contains(*site) && *site != EVERYWHERE).cloned().collect();
    assert!(
        without.is_empty(),
        "clients ask for these, and no case drops them: {without:#?}\nadd a case, or, where it changes nothing, a line to READS"
    );
    let gone: Vec<&String> = reads.difference(&asked).collect();
    assert!(gone.is_empty(), "these reads are not there any more: {gone:#?}");
    let changing: Vec<&String> = reads.intersection(&takes_over).collect();
    assert!(changing.is_empty(), "these are said to change nothing, and take something over: {changing:#?}");
}

#[test]
fn there_is_a_case_for_each_call_by_which_a_client_changes_shared_context() {
    let mut calls = BTreeSet::new();
    for source in sources(&host().join("model/src/call")).into_values() {
        let name = |text: &str| text.split('"').nth(1).map(str::to_owned);
        let (names, changes): (Vec<_>, Vec<_>) = source
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .fold((Vec::new(), Vec::new()), |(mut names, mut changes), line| {
                if line.contains("const NAME: &'static str =") {
                    names.extend(name(line));
                } else if line.contains("const CHANGES: bool =") {
                    changes.push(line.contains("true"));
                }
                (names, changes)
            });
        calls.extend(names.into_iter().zip(changes).filter(|(_, changes)| *changes).map(|(name, _)| name));
    }
    let claimed: BTreeSet<String> =
        claimed().iter().filter_map(|site| site.strip_prefix("call ").map(str::to_owned)).collect();
    let both = claimed.union(&set(&GUESTS)).cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        calls, both,
        "each call that changes something has a case (`of [\"call NAME\"]` in context.rs), or is a guest's alone (GUESTS)"
    );
}

#[test]
fn what_a_case_claims_is_there() {
    let (takes_over, asked) = found();
    let gone: Vec<String> = claimed()
        .into_iter()
        .filter(|site| !site.starts_with("call ") && !takes_over.contains(site) && !asked.contains(site))
        .collect();
    assert!(gone.is_empty(), "cases claim to go through these, which are not there: {gone:#?}");
}
