//! Where things come from, asked of runs and their steps: ring by ring, as the graph's walks are, so that a step is looked at once
//! however many ways lead to it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use ltmc_model::journal::Forked;
use ltmc_model::provenance::{
    Dependent, Dependents, DependentsOf, MAX_DEPENDENTS, MAX_DEPTH, PartIn, RunsOf, RunsPage, covers, stands_for,
};
use ltmc_model::{AgentName, Digest, RunId, StepPath, TenantId};
use ltmc_ports::{ReadProvenance, StoreError};
use neo4rs::BoltType;
use serde::Deserialize;

use crate::Neo4j;
use crate::error::odd;
use crate::link::Transaction;
use crate::statement::{Statement, list, texts};

/// Steps looked from at once.
const FRONT: usize = 500;

#[async_trait]
impl ReadProvenance for Neo4j {
    async fn dependents(&self, tenant: &TenantId, of: &DependentsOf) -> Result<Dependents, StoreError> {
        let _reading = self.link.reading("neo4j.dependents", tenant).await?;
        let mut asking = self.link.begin_reading("neo4j.dependents").await?;
        let runs = lineage(&mut asking, tenant, of.run).await?;
        let mut found = Dependents::default();
        let mut seen = BTreeSet::from([of.step.clone()]);
        let mut front = vec![of.step.clone()];
        'rings: for distance in 1..=of.depth.clamp(1, MAX_DEPTH) {
            let mut ring: BTreeMap<StepPath, BTreeSet<StepPath>> = BTreeMap::new();
            for some in front.chunks(FRONT) {
                // So many are enough, for those that were found before are among them.
                let most = MAX_DEPENDENTS + 1 + seen.len();
                next(&mut asking, tenant, &runs, some, most, &mut ring).await?;
            }
            front.clear();
            for (step, needs) in ring {
                if !seen.insert(step.clone()) {
                    continue;
                }
                if found.found.len() == MAX_DEPENDENTS {
                    found.cut = true;
                    break 'rings;
                }
                front.push(step.clone());
                let needs = needs.into_iter().collect();
                found.found.push(Dependent { step, distance, needs, agent: None, version: None, began: None });
            }
            if front.is_empty() {
                break;
            }
        }
        made(&mut asking, tenant, &runs, &mut found.found).await?;
        asking.commit().await?;
        Ok(found)
    }

    async fn runs_of(&self, tenant: &TenantId, of: &RunsOf) -> Result<RunsPage, StoreError> {
        const OP: &str = "neo4j.runs-of";
        #[derive(Deserialize)]
        struct Found {
            run: String,
            versions: Vec<String>,
        }
        let text = "MATCH ()-[u:USED]->() WHERE u.tenant = $tenant AND u.agent = $agent AND u.run < $before";
        let mut statement = Statement::of(tenant, text)
            .then_if(of.version.is_some(), "AND u.version = $version")
            .then("WITH DISTINCT u.run AS run ORDER BY run DESC LIMIT $limit")
            .then("MATCH ()-[u:USED]->() WHERE u.tenant = $tenant AND u.agent = $agent AND u.run = run")
            .then("RETURN run, collect(DISTINCT u.version) AS versions ORDER BY run DESC")
            .with("agent", of.agent.as_str())
            // Behind every id there is.
            .with("before", of.before.map_or_else(|| "g".to_owned(), |before| before.to_string()))
            .with("limit", i64::from(of.limit) + 1);
        if let Some(version) = &of.version {
            statement = statement.with("version", version.to_string());
        }
        let _reading = self.link.reading(OP, tenant).await?;
        let found: Vec<Found> = self.link.ask(OP, statement).await?;
        let more = found.len() > of.limit as usize;
        let part = |found: Found| {
            let run = found.run.parse().map_err(|error| odd(OP, error))?;
            let versions: Result<Vec<Digest>, _> = found.versions.iter().map(|version| version.parse()).collect();
            let mut versions = versions.map_err(|error| odd(OP, error))?;
            versions.sort_unstable();
            Ok(PartIn { run, versions })
        };
        let runs: Result<Vec<PartIn>, StoreError> = found.into_iter().take(of.limit as usize).map(part).collect();
        let runs = runs?;
        let next = runs.last().filter(|_| more).map(|last| last.run);
        Ok(RunsPage { runs, next })
    }
}

/// A run, and those that it was forked from, each with up to which entry of it counts.
async fn lineage(asking: &mut Transaction<'_>, tenant: &TenantId, run: RunId) -> Result<Vec<BoltType>, StoreError> {
    #[derive(Deserialize)]
    struct Found {
        forked: Option<String>,
        at: Option<i64>,
    }
    let (mut runs, mut next) = (Vec::new(), Some((run.to_string(), i64::MAX)));
    while let Some((id, until)) = next.take().filter(|_| runs.len() <= Forked::MOST) {
        let text = "MATCH (r:Run {tenant: $tenant, id: $id}) RETURN r.forked AS forked, r.forked_at AS at";
        let found: Vec<Found> = asking.ask(Statement::of(tenant, text).with("id", id.as_str())).await?;
        runs.push(list([id.into(), until.into()]));
        next = found.into_iter().next().and_then(|found| Some((found.forked?, found.at?)));
    }
    Ok(runs)
}

/// Steps that work on what these gave, with the nodes whose outputs they work on.
async fn next(
    asking: &mut Transaction<'_>,
    tenant: &TenantId,
    runs: &[BoltType],
    front: &[StepPath],
    most: usize,
    ring: &mut BTreeMap<StepPath, BTreeSet<StepPath>>,
) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Found {
        step: String,
        nodes: Vec<String>,
    }
    let nodes: BTreeSet<StepPath> = front.iter().flat_map(covers).collect();
    let text = "UNWIND $runs AS run UNWIND $nodes AS node \
                MATCH (:Step {tenant: $tenant, run: run[0], path: node})<-[n:NEEDS]-(s:Step) \
                WHERE n.at <= run[1] AND (node IN $front OR NOT s.path STARTS WITH node + '/') \
                RETURN s.path AS step, collect(DISTINCT node) AS nodes ORDER BY step LIMIT $limit";
    let statement = Statement::of(tenant, text)
        .with("runs", list(runs.iter().cloned()))
        .with("nodes", texts(nodes.iter().map(StepPath::as_str)))
        .with("front", texts(front.iter().map(StepPath::as_str)))
        .with("limit", i64::try_from(most).unwrap_or(i64::MAX));
    let found: Vec<Found> = asking.ask(statement).await?;
    for Found { step, nodes } in found {
        let by = path(&step)?;
        for node in nodes {
            let node = path(&node)?;
            if front.iter().any(|step| stands_for(&node, step, &by)) {
                ring.entry(by.clone()).or_default().insert(node);
            }
        }
    }
    Ok(())
}

/// Who did them, and what they began: as the newest of these runs says.
async fn made(
    asking: &mut Transaction<'_>,
    tenant: &TenantId,
    runs: &[BoltType],
    found: &mut [Dependent],
) -> Result<(), StoreError> {
    const OP: &str = "neo4j.dependents";
    #[derive(Deserialize)]
    struct Found {
        step: String,
        agent: Option<String>,
        version: Option<String>,
        began: Option<String>,
    }
    if found.is_empty() {
        return Ok(());
    }
    let text = "UNWIND range(0, size($runs) - 1) AS age WITH age, $runs[age] AS run UNWIND $steps AS path \
                MATCH (s:Step {tenant: $tenant, run: run[0], path: path}) \
                WHERE s.agent IS NOT NULL OR s.child IS NOT NULL \
                RETURN s.path AS step, s.agent AS agent, s.version AS version, s.child AS began ORDER BY age";
    let statement = Statement::of(tenant, text)
        .with("runs", list(runs.iter().cloned()))
        .with("steps", texts(found.iter().map(|one| one.step.as_str())));
    let mut known: BTreeMap<StepPath, Found> = BTreeMap::new();
    for one in asking.ask::<Found>(statement).await? {
        known.entry(path(&one.step)?).or_insert(one);
    }
    for one in found {
        let Some(made) = known.remove(&one.step) else { continue };
        one.agent = made.agent.map(|agent| agent.parse::<AgentName>()).transpose().map_err(|e| odd(OP, e))?;
        one.version = made.version.map(|version| version.parse::<Digest>()).transpose().map_err(|e| odd(OP, e))?;
        one.began = made.began.map(|run| run.parse::<RunId>()).transpose().map_err(|e| odd(OP, e))?;
    }
    Ok(())
}

fn path(text: &str) -> Result<StepPath, StoreError> {
    text.parse().map_err(|error| odd("neo4j.dependents", error))
}
