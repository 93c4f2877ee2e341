//! Runs and their steps: what ran, who did it, and what came after what.

use std::collections::{BTreeMap, HashMap};

use ltmc_model::delta::{RunMark, StepMark};
use ltmc_model::run::{State, Target};
use ltmc_model::{AgentName, RunId, StepPath, TenantId, Timestamp};
use ltmc_ports::StoreError;
use serde::Deserialize;

use crate::link::Transaction;
use crate::statement::{Statement, maybe, number, read, texts, time};

/// What rows say of runs.
#[derive(Debug, Default)]
pub(crate) struct Told {
    marks: Vec<RunMark>,
}

/// A run after all marks of it.
struct Run<'a> {
    last: &'a RunMark,
    new: bool,
    steps: BTreeMap<&'a StepPath, Step<'a>>,
}

/// A step after all marks of it. Beginning and end are counted along the run's journal, so that they can be compared.
struct Step<'a> {
    attempt: u32,
    state: State,
    at: Timestamp,
    agent: Option<&'a AgentName>,
    began: Option<u64>,
    over: Option<u64>,
}

impl Told {
    pub(crate) fn came(&mut self, mark: &RunMark) {
        self.marks.push(mark.clone());
    }

    /// Makes it true, of runs that are not further already.
    pub(crate) async fn write(self, tenant: &TenantId, changes: &mut Transaction<'_>) -> Result<(), StoreError> {
        if self.marks.is_empty() {
            return Ok(());
        }
        let known = known(tenant, changes, &self.marks).await?;
        let mut runs: BTreeMap<RunId, Run<'_>> = BTreeMap::new();
        for mark in &self.marks {
            let before = known.get(&mark.run.to_string());
            if before.is_some_and(|seq| mark.seq.0 <= *seq) {
                continue;
            }
            let run = runs.entry(mark.run).or_insert_with(|| Run {
                last: mark,
                new: before.is_none(),
                steps: BTreeMap::new(),
            });
            if mark.seq >= run.last.seq {
                run.last = mark;
            }
            for (number, step) in mark.steps.iter().enumerate() {
                run.step(step, (mark.seq.0 << 16) + (number as u64).min(0xffff));
            }
        }
        write_runs(tenant, changes, &runs).await?;
        write_steps(tenant, changes, &runs).await
    }

    /// The same, whatever is there.
    pub(crate) async fn put(self, tenant: &TenantId, changes: &mut Transaction<'_>) -> Result<(), StoreError> {
        let keys: Vec<String> = self.marks.iter().map(|mark| mark.run.to_string()).collect();
        if !keys.is_empty() {
            remove(tenant, changes, &keys).await?;
        }
        self.write(tenant, changes).await
    }
}

impl<'a> Run<'a> {
    fn step(&mut self, mark: &'a StepMark, place: u64) {
        let step = self.steps.entry(&mark.step).or_insert_with(|| Step {
            attempt: mark.attempt,
            state: mark.state,
            at: mark.at,
            agent: None,
            began: None,
            over: None,
        });
        (step.attempt, step.state, step.at) = (mark.attempt, mark.state, mark.at);
        step.agent = mark.agent.as_ref().or(step.agent);
        if mark.state == State::Running {
            step.began = step.began.or(Some(place));
        }
        step.over = mark.state.is_over().then_some(place);
    }
}

/// How long the journals were of which there were marks already.
async fn known(
    tenant: &TenantId,
    changes: &mut Transaction<'_>,
    marks: &[RunMark],
) -> Result<HashMap<String, u64>, StoreError> {
    #[derive(Deserialize)]
    struct Found {
        id: String,
        seq: i64,
    }
    let text = "UNWIND $ids AS id MATCH (r:Run {tenant: $tenant, id: id}) RETURN r.id AS id, r.seq AS seq";
    let mut ids: Vec<String> = marks.iter().map(|mark| mark.run.to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    let statement = Statement::of(tenant, text).with("ids", texts(ids.iter().map(String::as_str)));
    let found: Vec<Found> = changes.ask(statement).await?;
    Ok(found.into_iter().map(|found| (found.id, read(found.seq))).collect())
}

async fn write_runs(
    tenant: &TenantId,
    changes: &mut Transaction<'_>,
    runs: &BTreeMap<RunId, Run<'_>>,
) -> Result<(), StoreError> {
    if runs.is_empty() {
        return Ok(());
    }
    let text = "UNWIND $rows AS row MERGE (r:Run {tenant: $tenant, id: row[0]}) \
                SET r.seq = row[1], r.state = row[2], r.updated_at = row[3], r.target = row[4], r.session = row[5], \
                r.by = row[6], r.created_at = row[7]";
    let rows = runs.iter().map(|(id, run)| {
        let mark = run.last;
        [
            id.to_string().into(),
            number(mark.seq.0),
            mark.state.as_str().into(),
            time(mark.updated_at),
            target(&mark.target).into(),
            mark.session.as_str().into(),
            mark.by.as_str().into(),
            time(mark.created_at),
        ]
    });
    changes.run(Statement::of(tenant, text).rows(rows)).await?;
    let agent = "UNWIND $rows AS row MATCH (r:Run {tenant: $tenant, id: row[0]}) \
                 MERGE (a:Agent {tenant: $tenant, name: row[1]}) MERGE (r)-[:OF]->(a)";
    let workflow = "UNWIND $rows AS row MATCH (r:Run {tenant: $tenant, id: row[0]}) \
                    MERGE (w:Workflow {tenant: $tenant, name: row[1]}) MERGE (r)-[:OF]->(w)";
    for (text, agents) in [(agent, true), (workflow, false)] {
        let of = |(id, run): (&RunId, &Run<'_>)| match &run.last.target {
            Target::Agent(agent) if agents => Some([id.to_string().into(), agent.name.as_str().into()]),
            Target::Workflow(name) if !agents => Some([id.to_string().into(), name.as_str().into()]),
            _ => None,
        };
        let rows: Vec<_> = runs.iter().filter(|(_, run)| run.new).filter_map(of).collect();
        if !rows.is_empty() {
            changes.run(Statement::of(tenant, text).rows(rows)).await?;
        }
    }
    Ok(())
}

async fn write_steps(
    tenant: &TenantId,
    changes: &mut Transaction<'_>,
    runs: &BTreeMap<RunId, Run<'_>>,
) -> Result<(), StoreError> {
    let (mut steps, mut by, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for (id, run) in runs {
        let id = id.to_string();
        for (path, step) in &run.steps {
            steps.push([
                id.as_str().into(),
                path.as_str().into(),
                i64::from(step.attempt).into(),
                step.state.as_str().into(),
                time(step.at),
                maybe(step.began.map(number)),
                maybe(step.over.map(number)),
            ]);
            if let Some(agent) = step.agent {
                by.push([id.as_str().into(), path.as_str().into(), agent.as_str().into()]);
            }
            if step.began.is_some()
                && let Some(before) = neighbour(path)
            {
                after.push([id.as_str().into(), path.as_str().into(), before.into()]);
            }
        }
    }
    if !steps.is_empty() {
        let text = "UNWIND $rows AS row MATCH (r:Run {tenant: $tenant, id: row[0]}) \
                    MERGE (s:Step {tenant: $tenant, run: row[0], path: row[1]}) \
                    SET s.attempt = row[2], s.state = row[3], s.at = row[4], s.began = coalesce(s.began, row[5]), \
                    s.over = row[6] MERGE (r)-[:HAS_STEP]->(s)";
        changes.run(Statement::of(tenant, text).rows(steps)).await?;
    }
    if !by.is_empty() {
        let text = "UNWIND $rows AS row MATCH (s:Step {tenant: $tenant, run: row[0], path: row[1]}) \
                    MERGE (a:Agent {tenant: $tenant, name: row[2]}) MERGE (s)-[:BY]->(a)";
        changes.run(Statement::of(tenant, text).rows(by)).await?;
    }
    if !after.is_empty() {
        let text = "UNWIND $rows AS row MATCH (s:Step {tenant: $tenant, run: row[0], path: row[1]}) \
                    MATCH (before:Step {tenant: $tenant, run: row[0], path: row[2]}) WHERE before.over < s.began \
                    MERGE (s)-[:AFTER]->(before)";
        changes.run(Statement::of(tenant, text).rows(after)).await?;
    }
    Ok(())
}

/// The step before this one under the same parent.
fn neighbour(path: &StepPath) -> Option<String> {
    let (parent, last) = path.as_str().rsplit_once('/')?;
    let before = last.parse::<u32>().ok()?.checked_sub(1)?;
    Some(format!("{parent}/{before}"))
}

fn target(target: &Target) -> String {
    match target {
        Target::Agent(agent) => format!("agent {agent}"),
        Target::Workflow(name) => format!("workflow {name}"),
    }
}

/// Keys and versions after `$after`.
pub(crate) const INVENTORY: &str = "MATCH (r:Run) WHERE r.tenant = $tenant AND r.id > $after \
                                    RETURN r.id AS key, r.seq AS version ORDER BY r.tenant, r.id LIMIT $limit";

/// Removes runs and their steps, and agents and workflows with whom nothing else has to do.
pub(crate) async fn discard(
    tenant: &TenantId,
    changes: &mut Transaction<'_>,
    keys: &[String],
) -> Result<(), StoreError> {
    let text = "UNWIND $ids AS id MATCH (r:Run {tenant: $tenant, id: id}) \
                OPTIONAL MATCH (r)-[:OF]->(of) OPTIONAL MATCH (r)-[:HAS_STEP]->(s) OPTIONAL MATCH (s)-[:BY]->(by) \
                WITH collect(DISTINCT r) + collect(DISTINCT s) AS gone, collect(DISTINCT of) + collect(DISTINCT by) AS left \
                FOREACH (node IN gone | DETACH DELETE node) \
                WITH left UNWIND left AS node WITH DISTINCT node WHERE NOT (node)--() DELETE node";
    changes.run(Statement::of(tenant, text).with("ids", texts(keys.iter().map(String::as_str)))).await
}

async fn remove(tenant: &TenantId, changes: &mut Transaction<'_>, keys: &[String]) -> Result<(), StoreError> {
    let text = "UNWIND $ids AS id MATCH (r:Run {tenant: $tenant, id: id}) \
                OPTIONAL MATCH (r)-[:HAS_STEP]->(s) DETACH DELETE s, r";
    changes.run(Statement::of(tenant, text).with("ids", texts(keys.iter().map(String::as_str)))).await
}

/// How much work a mark is, in rows.
pub(crate) fn weight(mark: &RunMark) -> usize {
    1 + mark.steps.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_have_the_same_parent() {
        let before = |path: &str| neighbour(&path.parse().unwrap());
        assert_eq!(before("0/2/1").as_deref(), Some("0/2/0"));
        assert_eq!((before("0/2/0"), before("0")), (None, None));
    }
}
