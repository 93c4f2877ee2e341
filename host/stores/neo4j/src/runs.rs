//! Runs and their steps: what ran, who did it, and what came after what. What of it comes from what: `origins`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ltmc_model::delta::{Origin, RunMark, StepMark};
use ltmc_model::run::{State, Target};
use ltmc_model::{AgentName, Digest, RunId, Seq, StepPath, TenantId, Timestamp};
use ltmc_ports::StoreError;
use neo4rs::BoltType;
use serde::Deserialize;

use crate::link::Transaction;
use crate::origins;
use crate::statement::{Statement, list, maybe, number, read, texts, time};

/// What rows say of runs.
#[derive(Debug, Default)]
pub(crate) struct Told {
    marks: Vec<RunMark>,
}

/// A run after all marks of it.
pub(crate) struct Run<'a> {
    last: &'a RunMark,
    new: bool,
    pub(crate) origin: Option<&'a Origin>,
    pub(crate) steps: BTreeMap<&'a StepPath, Step<'a>>,
}

pub(crate) type Runs<'a> = BTreeMap<RunId, Run<'a>>;

/// A step after all marks of it. Beginning and end are counted along the run's journal, so that they can be compared.
pub(crate) struct Step<'a> {
    attempt: u32,
    state: State,
    at: Timestamp,
    pub(crate) agent: Option<&'a AgentName>,
    /// The versions of the agent that did anything of it, the last one last.
    pub(crate) versions: Vec<Digest>,
    /// Whose outputs it works on, each with the entry that first says so.
    pub(crate) needs: BTreeMap<&'a StepPath, Seq>,
    /// The run that it began, and whether an agent wrote that one's document.
    pub(crate) child: Option<(RunId, bool)>,
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
        let mut runs = Runs::new();
        for mark in &self.marks {
            let before = known.get(&mark.run.to_string());
            if before.is_some_and(|seq| mark.seq.0 <= *seq) {
                continue;
            }
            let run = runs.entry(mark.run).or_insert_with(|| Run {
                last: mark,
                new: before.is_none(),
                origin: None,
                steps: BTreeMap::new(),
            });
            run.origin = mark.origin.as_deref().or(run.origin);
            if mark.seq >= run.last.seq {
                run.last = mark;
            }
            for (number, step) in mark.steps.iter().enumerate() {
                run.step(step, (mark.seq.0 << 16) + (number as u64).min(0xffff));
            }
        }
        let (new, begun): (Runs<'_>, Runs<'_>) = runs.into_iter().partition(|(_, run)| run.new);
        create(tenant, changes, &new).await?;
        merge(tenant, changes, &begun).await?;
        order(tenant, changes, new.iter().chain(&begun)).await?;
        origins::write(tenant, changes, new.iter().chain(&begun)).await
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
    /// Whether there may be other runs that it is to be linked with.
    pub(crate) fn is_to_be_linked(&self) -> bool {
        self.new || self.steps.values().any(|step| step.child.is_some())
    }

    fn step(&mut self, mark: &'a StepMark, place: u64) {
        let step = self.steps.entry(&mark.step).or_insert_with(|| Step {
            attempt: mark.attempt,
            state: mark.state,
            at: mark.at,
            agent: None,
            versions: Vec::new(),
            needs: BTreeMap::new(),
            child: None,
            began: None,
            over: None,
        });
        (step.attempt, step.state, step.at) = (mark.attempt, mark.state, mark.at);
        step.agent = mark.agent.as_ref().or(step.agent);
        step.child = mark.began.or(step.child);
        if let Some(version) = mark.version {
            step.versions.retain(|known| *known != version);
            step.versions.push(version);
        }
        for need in &mark.needs {
            step.needs.entry(need).or_insert(mark.seq);
        }
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

/// Runs of which nothing is there. Most are: a run is often over before anybody is told of it. To make one whole costs
/// less than half of what it costs to look for each part first.
async fn create(tenant: &TenantId, changes: &mut Transaction<'_>, runs: &Runs<'_>) -> Result<(), StoreError> {
    let mut agents: BTreeSet<&str> = BTreeSet::new();
    let mut of_agents: BTreeMap<&str, Vec<BoltType>> = BTreeMap::new();
    let mut of_workflows: BTreeMap<&str, Vec<BoltType>> = BTreeMap::new();
    for (id, run) in runs {
        let steps = run.steps.iter().map(|(path, step)| list(columns(path, step)));
        let whole = list(properties(*id, run).into_iter().chain([list(steps)]));
        agents.extend(run.steps.values().filter_map(|step| step.agent.map(AgentName::as_str)));
        match &run.last.target {
            Target::Agent(agent) => {
                agents.insert(agent.name.as_str());
                of_agents.entry(agent.name.as_str()).or_default().push(whole);
            }
            Target::Workflow(name) => of_workflows.entry(name.as_str()).or_default().push(whole),
        }
    }
    if !agents.is_empty() {
        let text = "UNWIND $names AS name MERGE (:Agent {tenant: $tenant, name: name})";
        changes.run(Statement::of(tenant, text).with("names", texts(agents))).await?;
    }
    let of_agent = "UNWIND $rows AS row MATCH (of:Agent {tenant: $tenant, name: row[0]})";
    let of_workflow = "UNWIND $rows AS row MERGE (of:Workflow {tenant: $tenant, name: row[0]})";
    let whole = "WITH of, row UNWIND row[1] AS run \
                 CREATE (r:Run {tenant: $tenant, id: run[0], seq: run[1], state: run[2], updated_at: run[3], \
                 target: run[4], session: run[5], by: run[6], created_at: run[7], form: $form})-[:OF]->(of) \
                 WITH r, run UNWIND run[8] AS step \
                 CREATE (r)-[:HAS_STEP]->(s:Step {tenant: $tenant, run: run[0], path: step[0], attempt: step[1], \
                 state: step[2], at: step[3], began: step[4], over: step[5], agent: step[6], version: step[7], \
                 child: step[8], planned: step[9]}) \
                 WITH s, step WHERE step[6] IS NOT NULL MATCH (by:Agent {tenant: $tenant, name: step[6]}) \
                 CREATE (s)-[:BY]->(by)";
    for (of, runs) in [(of_agent, of_agents), (of_workflow, of_workflows)] {
        if !runs.is_empty() {
            let rows = runs.into_iter().map(|(name, runs)| [name.into(), list(runs)]);
            changes.run(Statement::of(tenant, of).then(whole).with("form", FORM).rows(rows)).await?;
        }
    }
    Ok(())
}

/// Runs of which something is there. What they are of does not change.
async fn merge(tenant: &TenantId, changes: &mut Transaction<'_>, runs: &Runs<'_>) -> Result<(), StoreError> {
    if runs.is_empty() {
        return Ok(());
    }
    let text = "UNWIND $rows AS row MATCH (r:Run {tenant: $tenant, id: row[0]}) \
                SET r.seq = row[1], r.state = row[2], r.updated_at = row[3], r.target = row[4], r.session = row[5], \
                r.by = row[6], r.created_at = row[7]";
    changes.run(Statement::of(tenant, text).rows(runs.iter().map(|(id, run)| properties(*id, run)))).await?;
    let (mut steps, mut by) = (Vec::new(), Vec::new());
    for (id, run) in runs {
        let id = id.to_string();
        for (path, step) in &run.steps {
            steps.push([id.as_str().into(), list(columns(path, step))]);
            if let Some(agent) = step.agent {
                by.push([id.as_str().into(), path.as_str().into(), agent.as_str().into()]);
            }
        }
    }
    if !steps.is_empty() {
        let text = "UNWIND $rows AS row WITH row[0] AS run, row[1] AS step MATCH (r:Run {tenant: $tenant, id: run}) \
                    MERGE (s:Step {tenant: $tenant, run: run, path: step[0]}) \
                    SET s.attempt = step[1], s.state = step[2], s.at = step[3], s.began = coalesce(s.began, step[4]), \
                    s.over = step[5], s.agent = coalesce(step[6], s.agent), s.version = coalesce(step[7], s.version), \
                    s.child = coalesce(step[8], s.child), s.planned = coalesce(step[9], s.planned) \
                    MERGE (r)-[:HAS_STEP]->(s)";
        changes.run(Statement::of(tenant, text).rows(steps)).await?;
    }
    if !by.is_empty() {
        let text = "UNWIND $rows AS row MATCH (s:Step {tenant: $tenant, run: row[0], path: row[1]}) \
                    MERGE (a:Agent {tenant: $tenant, name: row[2]}) MERGE (s)-[:BY]->(a)";
        changes.run(Statement::of(tenant, text).rows(by)).await?;
    }
    Ok(())
}

/// Which step came after which.
async fn order<'a>(
    tenant: &TenantId,
    changes: &mut Transaction<'_>,
    runs: impl Iterator<Item = (&'a RunId, &'a Run<'a>)>,
) -> Result<(), StoreError> {
    let mut rows: Vec<[BoltType; 3]> = Vec::new();
    for (id, run) in runs {
        for (path, _) in run.steps.iter().filter(|(_, step)| step.began.is_some()) {
            if let Some(before) = neighbour(path) {
                rows.push([id.to_string().into(), path.as_str().into(), before.into()]);
            }
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let text = "UNWIND $rows AS row MATCH (s:Step {tenant: $tenant, run: row[0], path: row[1]}) \
                MATCH (before:Step {tenant: $tenant, run: row[0], path: row[2]}) WHERE before.over < s.began \
                MERGE (s)-[:AFTER]->(before)";
    changes.run(Statement::of(tenant, text).rows(rows)).await
}

/// What a run's node has: id, seq, state, updated_at, target, session, by, created_at.
fn properties(id: RunId, run: &Run<'_>) -> [BoltType; 8] {
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
}

/// What a step's node has: path, attempt, state, at, began, over, agent, version, and of a node that began a run which one, and
/// whether that was planned.
fn columns(path: &StepPath, step: &Step<'_>) -> [BoltType; 10] {
    [
        path.as_str().into(),
        i64::from(step.attempt).into(),
        step.state.as_str().into(),
        time(step.at),
        maybe(step.began.map(number)),
        maybe(step.over.map(number)),
        maybe(step.agent.map(|agent| agent.as_str().into())),
        maybe(step.versions.last().map(|version| version.to_string().into())),
        maybe(step.child.map(|(run, _)| run.to_string().into())),
        maybe(step.child.map(|(_, planned)| planned.into())),
    ]
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

/// Which form a run's part of the graph has. One that an earlier version of the host told is told anew: it lacks what came since.
pub(crate) const FORM: i64 = 2;

/// Keys and versions after `$after`.
pub(crate) const INVENTORY: &str = "MATCH (r:Run) WHERE r.tenant = $tenant AND r.id > $after \
                                    RETURN r.id AS key, CASE WHEN r.form = 2 THEN r.seq ELSE 0 END AS version \
                                    ORDER BY r.tenant, r.id LIMIT $limit";

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
    let ids = || texts(keys.iter().map(String::as_str));
    changes.run(Statement::of(tenant, origins::UNUSED).with("ids", ids())).await?;
    changes.run(Statement::of(tenant, text).with("ids", ids())).await
}

async fn remove(tenant: &TenantId, changes: &mut Transaction<'_>, keys: &[String]) -> Result<(), StoreError> {
    let text = "UNWIND $ids AS id MATCH (r:Run {tenant: $tenant, id: id}) \
                OPTIONAL MATCH (r)-[:HAS_STEP]->(s) DETACH DELETE s, r";
    changes.run(Statement::of(tenant, text).with("ids", texts(keys.iter().map(String::as_str)))).await
}

/// How much work a mark is, in rows.
pub(crate) fn weight(mark: &RunMark) -> usize {
    1 + mark.steps.iter().map(|step| 1 + step.needs.len()).sum::<usize>()
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
