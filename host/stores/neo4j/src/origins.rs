//! Where runs and their steps come from: the tree that steps stand in, whose outputs they work on, the runs that runs began or were
//! forked from, and the versions of agents that did anything.
//!
//! Invariant: what a run says of other runs stands in its own node, too, so that whichever of both is told first, or anew, the
//! relationship between them is made once both are there.

use std::collections::BTreeSet;

use ltmc_model::provenance::covers;
use ltmc_model::{RunId, StepPath, TenantId};
use ltmc_ports::StoreError;
use neo4rs::BoltType;

use crate::link::Transaction;
use crate::runs::Run;
use crate::statement::{Statement, maybe, number, texts};

/// Of runs that are removed: what they used, and versions that nobody else has used.
pub(crate) const UNUSED: &str = "UNWIND $ids AS id MATCH (:Run {tenant: $tenant, id: id})-[u:USED]->(v) DELETE u \
                                 WITH DISTINCT v WHERE NOT (v)<-[:USED]-() DETACH DELETE v";

/// Makes it true of runs and steps that are there.
pub(crate) async fn write<'a>(
    tenant: &TenantId,
    changes: &mut Transaction<'_>,
    runs: impl Iterator<Item = (&'a RunId, &'a Run<'a>)>,
) -> Result<(), StoreError> {
    let mut rows = Rows::default();
    runs.for_each(|(id, run)| rows.add(*id, run));
    let Rows { ids, origins, tree, needs, used } = rows;
    if !origins.is_empty() {
        let text = "UNWIND $rows AS row MATCH (r:Run {tenant: $tenant, id: row[0]}) \
                    SET r.parent = row[1], r.parent_step = row[2], r.forked = row[3], r.forked_at = row[4]";
        changes.run(Statement::of(tenant, text).rows(origins)).await?;
    }
    if !tree.is_empty() {
        let text = "UNWIND $rows AS row MATCH (r:Run {tenant: $tenant, id: row[0]}) \
                    MERGE (s:Step {tenant: $tenant, run: row[0], path: row[1]}) MERGE (r)-[:HAS_STEP]->(s) \
                    MERGE (up:Step {tenant: $tenant, run: row[0], path: row[2]}) MERGE (r)-[:HAS_STEP]->(up) \
                    MERGE (s)-[:BELOW]->(up)";
        changes.run(Statement::of(tenant, text).rows(tree)).await?;
    }
    if !needs.is_empty() {
        let text = "UNWIND $rows AS row MATCH (r:Run {tenant: $tenant, id: row[0]}) \
                    MATCH (s:Step {tenant: $tenant, run: row[0], path: row[1]}) \
                    MERGE (of:Step {tenant: $tenant, run: row[0], path: row[2]}) MERGE (r)-[:HAS_STEP]->(of) \
                    MERGE (s)-[n:NEEDS]->(of) ON CREATE SET n.at = row[3]";
        changes.run(Statement::of(tenant, text).rows(needs)).await?;
    }
    if !used.is_empty() {
        let text = "UNWIND $rows AS row MATCH (r:Run {tenant: $tenant, id: row[0]}) \
                    MATCH (a:Agent {tenant: $tenant, name: row[1]}) \
                    MERGE (v:Version {tenant: $tenant, agent: row[1], digest: row[2]}) MERGE (v)-[:OF]->(a) \
                    MERGE (r)-[:USED {tenant: $tenant, agent: row[1], version: row[2], run: row[0]}]->(v)";
        changes.run(Statement::of(tenant, text).rows(used)).await?;
    }
    link(tenant, changes, &ids).await
}

/// Makes relationships between runs of which one is among these.
async fn link(tenant: &TenantId, changes: &mut Transaction<'_>, ids: &[String]) -> Result<(), StoreError> {
    let began = "OPTIONAL MATCH (s:Step {tenant: $tenant, run: up.id, path: r.parent_step}) \
                 MERGE (up)-[b:BEGAN]->(r) SET b.step = r.parent_step, b.planned = coalesce(s.planned, false)";
    let forked = "MERGE (r)-[f:FORKED_FROM]->(up) SET f.at = r.forked_at";
    let up = [
        "UNWIND $ids AS id MATCH (r:Run {tenant: $tenant, id: id}) WHERE r.parent IS NOT NULL \
         MATCH (up:Run {tenant: $tenant, id: r.parent})",
        "UNWIND $ids AS id MATCH (r:Run {tenant: $tenant, id: id}) WHERE r.forked IS NOT NULL \
         MATCH (up:Run {tenant: $tenant, id: r.forked})",
    ];
    let down = [
        "UNWIND $ids AS id MATCH (up:Run {tenant: $tenant, id: id}) MATCH (r:Run {tenant: $tenant, parent: id})",
        "UNWIND $ids AS id MATCH (up:Run {tenant: $tenant, id: id}) MATCH (r:Run {tenant: $tenant, forked: id})",
    ];
    for (from, to) in [(up[0], began), (down[0], began), (up[1], forked), (down[1], forked)] {
        let ids = texts(ids.iter().map(String::as_str));
        changes.run(Statement::of(tenant, from).then(to).with("ids", ids)).await?;
    }
    Ok(())
}

/// What runs say, as statements take it.
#[derive(Default)]
struct Rows {
    /// Of runs that begin, or of which steps began others: those between which and others anything may be new.
    ids: Vec<String>,
    /// Run, parent, its step, forked from, up to where.
    origins: Vec<[BoltType; 5]>,
    /// Run, node, the node above it.
    tree: Vec<[BoltType; 3]>,
    /// Run, step, whose output, since which entry.
    needs: Vec<[BoltType; 4]>,
    /// Run, agent, version.
    used: Vec<[BoltType; 3]>,
}

impl Rows {
    fn add(&mut self, id: RunId, run: &Run<'_>) {
        let id = id.to_string();
        let row = || BoltType::from(id.as_str());
        if let Some(origin) = run.origin {
            let (parent, step) = origin.parent.as_ref().map_or((None, None), |(run, step)| (Some(run), Some(step)));
            self.origins.push([
                row(),
                maybe(parent.map(|run| run.to_string().into())),
                maybe(step.map(|step| step.as_str().into())),
                maybe(origin.forked.map(|forked| forked.of.to_string().into())),
                maybe(origin.forked.map(|forked| number(forked.at.0))),
            ]);
        }
        if run.is_to_be_linked() {
            self.ids.push(id.clone());
        }
        let (mut tree, mut used) = (BTreeSet::new(), BTreeSet::new());
        let mut stand = |path: &StepPath| {
            let way: Vec<StepPath> = covers(path).collect();
            tree.extend(way.windows(2).filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone()))));
        };
        for (path, step) in &run.steps {
            stand(path);
            for (need, at) in &step.needs {
                stand(need);
                self.needs.push([row(), path.as_str().into(), need.as_str().into(), number(at.0)]);
            }
            used.extend(step.versions.iter().filter_map(|version| Some((step.agent?, *version))));
        }
        self.tree.extend(tree.iter().map(|(path, up)| [row(), path.as_str().into(), up.as_str().into()]));
        let used = used.iter().map(|(agent, version)| [row(), agent.as_str().into(), version.to_string().into()]);
        self.used.extend(used);
    }
}
