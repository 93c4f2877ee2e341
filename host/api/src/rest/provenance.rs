//! Where things come from: what depends on a step, and which runs an agent had a part in.

use axum::extract::State;
use ltmc_model::agent::AgentRef;
use ltmc_model::{RunId, provenance};
use ltmc_orchestration::DependentsPage;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::context::marked;
use super::runs::Run;
use crate::answers::PAGE;
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, By};
use crate::page::{Page, Paging, seal};

const DEPENDENTS: &str = "dependents";
const RUNS: &str = "agent-runs";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(dependents)).routes(routes!(runs))
}

/// On what, and how far.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// The step, or another node, by its name or its path.
    #[param(example = "scan")]
    step: String,
    /// Over how many steps dependents are followed, 1 to 32.
    #[param(minimum = 1, maximum = 32, default = 32)]
    depth: Option<u32>,
    /// Items of a page, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// Tell what depends on a step
///
/// Steps of the run that work on what the step gave, or were decided by it, and steps that depend on these: the nearest first, at most
/// 1,000 of them (`cut` says that there are more). `needs` names the steps, or other nodes, whose outputs each works on. Of a node that
/// began a run, `began` is that one. `Ltmc-Degraded: true` says that the journals answered in the place of a graph database that did
/// not in time. Of runs that were made before this was kept, nothing is known.
#[utoipa::path(
    get, path = "/v1/runs/{id}/dependents", tag = "runs",
    params(("id" = String, Path, description = "The run"), Which),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"])), ("x-ltmc-codes" = json!(["busy", "read-too-costly"]))),
    responses((status = 200, body = Object)),
)]
async fn dependents(State(api): State<Api>, By(caller): By, At(run): At<RunId>, Asked(which): Asked<Which>) -> Answer {
    let paging = Paging { limit: which.limit, cursor: which.cursor };
    let limit = paging.limit()? as usize;
    let skip = paging.after::<usize>(DEPENDENTS)?.unwrap_or_default();
    let depth = which.depth.unwrap_or(provenance::MAX_DEPTH);
    let room = api.answers.room(&caller, PAGE)?;
    let page = api.runs.dependents(&caller, run, &which.step, depth, (skip, limit)).await?;
    let end = skip.saturating_add(page.items.len());
    let next = (end < page.count && !page.items.is_empty()).then(|| seal(DEPENDENTS, &end.to_string()));
    marked(room, page.degraded, &Found { page: &page, next })
}

/// A page of what depends on a step.
#[derive(Serialize)]
struct Found<'a> {
    #[serde(flatten)]
    page: &'a DependentsPage,
    next: Option<String>,
}

/// A run that an agent had a part in.
#[derive(Serialize, ToSchema)]
struct PartIn {
    #[serde(flatten)]
    run: Run,
    /// The digests of the agent's versions that did anything of it.
    #[schema(example = json!(["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]))]
    versions: Vec<String>,
}

/// List the runs that an agent had a part in
///
/// The newest first: those of which it did a step, or began to. With `name@sha256:…` in that version. A key of the role `caller` sees its
/// own. Where no graph database follows the host the journals are looked through, so many runs for a page: it may have fewer items than
/// were asked for, and a `next` all the same. `Ltmc-Degraded: true` says that they stood in for one that did not answer in time.
#[utoipa::path(
    get, path = "/v1/agents/{name}/runs", tag = "agents",
    params(("name" = String, Path, description = "A name, for any of its versions, or `name@sha256:…`", example = "read-diff"), Paging),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = Page<PartIn>)),
)]
async fn runs(State(api): State<Api>, By(caller): By, At(agent): At<AgentRef>, Asked(paging): Asked<Paging>) -> Answer {
    let limit = paging.limit()?;
    let room = api.answers.room(&caller, PAGE)?;
    let found = api.runs.runs_of(&caller, &agent, paging.after(RUNS)?, limit).await?;
    let part = |(run, versions): (ltmc_model::run::Run, Vec<ltmc_model::Digest>)| {
        let versions = versions.iter().map(ToString::to_string).collect();
        PartIn { run: Run::from(run), versions }
    };
    let next = found.next.map(|before| seal(RUNS, &before.to_string()));
    let page = Page { items: found.runs.into_iter().map(part).collect(), next };
    marked(room, found.degraded, &page)
}
