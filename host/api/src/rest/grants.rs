//! Grants: what a version of an agent may do. The whole set is read and set; one capability is taken back by its name.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use ltmc_model::agent::{AgentRef, Carry};
use ltmc_model::{AgentName, Capability};
use ltmc_policy::Action;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{Answer, Api};
use crate::extract::{Asked, At, AtBoth, By, Document, Json};
use crate::problem::{Problem, Result};

/// The most capabilities one agent is granted.
const MOST: usize = 256;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(get, set)).routes(routes!(revoke))
}

/// Show an agent's grants
#[utoipa::path(
    get, path = "/v1/agents/{name}/grants", tag = "agents",
    params(("name" = String, Path, description = "The agent's name, for its newest version, or `name@sha256:…`", example = "read-diff")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"]))),
    responses((status = 200, description = "Every capability granted", body = Vec<String>, example = json!(["log", "memory:read:session"]))),
)]
async fn get(State(api): State<Api>, By(caller): By, At(agent): At<AgentRef>) -> Answer {
    let grants = api.agents.grants(&caller, &agent).await?;
    Ok(axum::Json(grants.capabilities).into_response())
}

/// How grants are set.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Rule {
    /// Whether the next version that is pushed takes the grants over: `never`, or `same-asks`, where it asks for nothing that this
    /// one does not ask for.
    #[param(value_type = Option<String>, default = "never")]
    carry: Option<String>,
}

/// The set that is wanted.
#[derive(Deserialize)]
struct Wanted(Vec<String>);

impl Document for Wanted {
    const FOR: Action = Action::SetGrants;
}

/// Set an agent's grants
///
/// The whole set: what is not in it is taken back, and the next host call notices. In force is what is granted and
/// within the tenant's ceiling. Grants are a version's: with `name@sha256:…` that one's alone; with a name the newest one's, while
/// older versions (of runs under way) keep of theirs what the new set covers.
#[utoipa::path(
    put, path = "/v1/agents/{name}/grants", tag = "agents",
    params(Rule, ("name" = String, Path, description = "The agent's name, for its newest version, or `name@sha256:…`", example = "read-diff")),
    request_body(content = Vec<String>, example = json!(["log", "memory:read:session"])),
    extensions(("x-ltmc-role" = json!(["admin"]))),
    responses((status = 200, description = "The set as it now is", body = Vec<String>, example = json!(["log", "memory:read:session"]))),
)]
async fn set(
    State(api): State<Api>,
    By(caller): By,
    At(agent): At<AgentRef>,
    Asked(rule): Asked<Rule>,
    Json(Wanted(texts)): Json<Wanted>,
) -> Answer {
    let carry = rule.carry.map_or(Ok(Carry::default()), |text| text.parse());
    let carry = carry.map_err(|why: String| Problem::new("bad-query", why).field("carry"))?;
    if texts.len() > MOST {
        return Err(Problem::new("bad-json", format!("An agent is granted at most {MOST} capabilities.")));
    }
    let mut grants = texts.iter().enumerate().map(parse).collect::<Result<Vec<_>>>()?;
    grants.sort_unstable();
    grants.dedup();
    api.agents.set_grants(&caller, &agent, grants.clone(), carry).await?;
    Ok(axum::Json(grants).into_response())
}

fn parse((index, text): (usize, &String)) -> Result<Capability> {
    text.parse().map_err(|e| Problem::new("bad-json", format!("{e}")).field(format!("[{index}]")))
}

/// Take one capability back
///
/// From every version of the agent. The next host call that needs it is refused, also in runs under way.
#[utoipa::path(
    delete, path = "/v1/agents/{name}/grants/{cap}", tag = "agents",
    params(
        ("name" = String, Path, description = "The agent's name", example = "read-diff"),
        ("cap" = String, Path, description = "The capability as it was granted, percent-encoded", example = "memory:read:session"),
    ),
    extensions(("x-ltmc-role" = json!(["admin"]))),
    responses((status = 204, description = "Taken back")),
)]
async fn revoke(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(agent, capability): AtBoth<AgentName, Capability>,
) -> Answer {
    api.agents.revoke_grant(&caller, &agent, &capability).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
