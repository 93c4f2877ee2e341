//! Runs: listed, shown, read entry by entry, cancelled, paused, gone on with.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use ltmc_model::agent::AgentRef;
use ltmc_model::run::{self, State as RunState, Target};
use ltmc_model::{AgentName, KeyId, Payload, RunId, Seq, SessionId, Timestamp, WorkflowName};
use ltmc_orchestration::{Cancelled, Content, RunView, Shown};
use ltmc_ports::journal::RunFilter;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answers::{ONE, PAGE};
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, AtBoth, By};
use crate::page::{Page, Paging};
use crate::problem::{Problem, Result};

const LIST: &str = "runs";
const JOURNAL: &str = "journal";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(output))
        .routes(routes!(journal))
        .routes(routes!(entry))
        .routes(routes!(cancel))
        .routes(routes!(pause))
        .routes(routes!(continue_run))
}

/// A run, as lists show it.
#[derive(Serialize, ToSchema)]
pub(super) struct Run {
    /// The run's id.
    #[schema(value_type = String, format = Uuid)]
    id: RunId,
    /// Where it stands: `queued`, `running`, `waiting`, `completed`, `failed`, `cancelled`, `quarantined`, `paused` or `stuck`.
    #[schema(value_type = String, example = "completed")]
    state: RunState,
    /// The workflow, if it is a run of one.
    #[schema(value_type = Option<String>, required, example = "review")]
    workflow: Option<WorkflowName>,
    /// The agent, if it is a lone call.
    #[schema(value_type = Option<String>, required)]
    agent: Option<AgentRef>,
    /// The run that began it; none: a client did.
    #[schema(value_type = Option<String>, format = Uuid, required)]
    parent: Option<RunId>,
    /// The session it works in.
    #[schema(value_type = String)]
    session: SessionId,
    /// The key that started it.
    #[schema(value_type = String)]
    by: KeyId,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When its journal last grew.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// How many entries its journal has.
    #[schema(value_type = u64)]
    entries: Seq,
}

impl From<run::Run> for Run {
    fn from(run: run::Run) -> Self {
        let (agent, workflow) = match run.target {
            Target::Agent(agent) => (Some(agent), None),
            Target::Workflow(workflow) => (None, Some(workflow)),
        };
        Self {
            id: run.id,
            state: run.state,
            workflow,
            agent,
            parent: run.parent,
            session: run.session,
            by: run.by,
            created_at: run.created_at,
            updated_at: run.updated_at,
            entries: run.seq,
        }
    }
}

/// Which runs to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// In this state: `queued`, `running`, `waiting`, `completed`, `failed`, `cancelled`, `quarantined`, `paused` or `stuck`.
    #[param(value_type = Option<String>)]
    state: Option<RunState>,
    /// Of this workflow.
    #[param(value_type = Option<String>)]
    workflow: Option<WorkflowName>,
    /// Lone calls of this agent.
    #[param(value_type = Option<String>)]
    agent: Option<AgentName>,
    /// In this session.
    #[param(value_type = Option<String>)]
    session: Option<SessionId>,
    /// Begun by this run.
    #[param(value_type = Option<String>, format = Uuid)]
    parent: Option<RunId>,
    /// Items of a page, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

impl Which {
    fn filter(self) -> Result<(u32, RunFilter)> {
        let paging = Paging { limit: self.limit, cursor: self.cursor };
        let limit = paging.limit()?;
        if self.workflow.is_some() && self.agent.is_some() {
            let why = "A run is of a workflow or of an agent: name one of both.";
            return Err(Problem::new("bad-query", why).field("agent"));
        }
        let target = self.workflow.map(String::from).or(self.agent.map(String::from));
        let before = paging.after(LIST)?;
        Ok((
            limit,
            RunFilter {
                state: self.state,
                target,
                session: self.session,
                parent: self.parent,
                by: None,
                before,
                limit: limit + 1,
            },
        ))
    }
}

/// List runs
///
/// The newest first. A key of the role `caller` sees its own.
#[utoipa::path(
    get, path = "/v1/runs", tag = "runs", params(Which),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = Page<Run>)),
)]
async fn list(State(api): State<Api>, By(caller): By, Asked(which): Asked<Which>) -> Answer {
    let (limit, filter) = which.filter()?;
    let found = api.runs.list(&caller, filter).await?;
    let page = Page::of(LIST, limit, found, |run| run.id.to_string(), Run::from);
    Ok(axum::Json(page).into_response())
}

/// Show a run
///
/// With its tree of steps, and its result or error. Of a result of more than 16 KiB its size and digest are shown, and
/// `output_href` leads to it.
#[utoipa::path(
    get, path = "/v1/runs/{id}", tag = "runs",
    params(("id" = String, Path, description = "The run")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = Object)),
)]
async fn get(State(api): State<Api>, By(caller): By, At(run): At<RunId>) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    let view = api.runs.get(&caller, run).await?;
    let is_large = matches!(view.output, Some(Content::Large { .. }));
    let output_href = is_large.then(|| format!("/v1/runs/{run}/output"));
    room.json(&Whole { view, output_href })
}

/// A run and where its result is.
#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    view: RunView,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_href: Option<String>,
}

/// Read a run's result
///
/// As it came from the agent, in its own content type. How a run ended badly is a problem; one that is not over is `conflict`.
#[utoipa::path(
    get, path = "/v1/runs/{id}/output", tag = "runs",
    params(("id" = String, Path, description = "The run")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"])), ("x-ltmc-codes" = json!(["conflict", "busy", "agent-error"]))),
    responses((status = 200, description = "The result, in its content type", content((Vec<u8> = "*/*")))),
)]
async fn output(State(api): State<Api>, By(caller): By, At(run): At<RunId>) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    match api.runs.output(&caller, run).await? {
        Some(Ok(output)) => {
            let bytes = room.around(output.bytes)?;
            Ok(super::call::returned(run, Payload { bytes, ..output }))
        }
        Some(Err(failure)) => Err(Problem::ending(run, failure)),
        None => Err(Problem::new("conflict", "The run is not over, and has no result yet.").run(run)),
    }
}

/// Read a run's journal
///
/// Entry by entry, in order: at most 1 MiB of them, where one is not larger by itself. What has more than 16 KiB is left out, and
/// the entry's `href` leads to all of it. What the key may not read elsewhere is `redacted`.
#[utoipa::path(
    get, path = "/v1/runs/{id}/journal", tag = "runs",
    params(("id" = String, Path, description = "The run"), Paging),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = Page<EntryForm>)),
)]
async fn journal(State(api): State<Api>, By(caller): By, At(run): At<RunId>, Asked(paging): Asked<Paging>) -> Answer {
    let limit = paging.limit()?;
    let after = Seq(paging.after(JOURNAL)?.unwrap_or_default());
    let room = api.answers.room(&caller, PAGE)?;
    let (found, next) = api.runs.journal(&caller, run, after, limit).await?;
    let items = found.into_iter().map(|shown| Entry::of(run, shown)).collect();
    room.json(&Page { items, next: next.map(|after| crate::page::seal(JOURNAL, &after.to_string())) })
}

/// Read an entry of a run's journal
///
/// All of it, however large.
#[utoipa::path(
    get, path = "/v1/runs/{id}/journal/{seq}", tag = "runs",
    params(("id" = String, Path, description = "The run"), ("seq" = u64, Path, description = "The entry's number, from 1 on")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"])), ("x-ltmc-codes" = json!(["busy"]))),
    responses((status = 200, body = EntryForm)),
)]
async fn entry(State(api): State<Api>, By(caller): By, AtBoth(run, seq): AtBoth<RunId, u64>) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    room.json(&api.runs.entry(&caller, run, Seq(seq)).await?)
}

/// An entry, and where all of it is.
#[derive(Serialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    shown: Shown,
    #[serde(skip_serializing_if = "Option::is_none")]
    href: Option<String>,
}

impl Entry {
    pub(super) fn of(run: RunId, shown: Shown) -> Self {
        let href = shown.is_short.then(|| format!("/v1/runs/{run}/journal/{}", shown.seq));
        Self { shown, href }
    }
}

/// An entry of a run's journal.
#[derive(Serialize, ToSchema)]
#[schema(as = Entry)]
pub(super) struct EntryForm {
    /// Its number in the run, from 1 on.
    seq: u64,
    /// When, by the host's clock.
    #[schema(format = DateTime)]
    at: String,
    /// What happened: an object with one field, whose name is the kind.
    #[schema(value_type = Object, example = json!({"step-started": {"step": "0/1", "attempt": 1}}))]
    event: (),
    /// Where all of it is, where something large was left out.
    #[schema(required = false)]
    href: Option<String>,
}

/// Cancel a run
///
/// What its steps and checkpoints made true is kept. Where its nodes have what undoes their work, that is done first: the answer
/// is then 202 as soon as it is on disk that the run is being cancelled, and to cancel it again changes nothing. It can be resumed. One that
/// is quarantined, paused or stuck can be cancelled too; of one that is stuck, what is not undone yet is given up.
#[utoipa::path(
    post, path = "/v1/runs/{id}/cancel", tag = "runs",
    params(("id" = String, Path, description = "The run")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["conflict"]))),
    responses(
        (status = 204, description = "Cancelled"),
        (status = 202, description = "It is being cancelled: what it did is undone first", body = super::call::Accepted, headers(("Location" = String, description = "The run"))),
    ),
)]
async fn cancel(State(api): State<Api>, By(caller): By, At(run): At<RunId>) -> Answer {
    match api.runs.cancel(&caller, run).await? {
        Cancelled::Over => Ok(StatusCode::NO_CONTENT.into_response()),
        Cancelled::BeingUndone => super::call::accepted(run),
    }
}

/// Pause a run
///
/// It stops where it is, and waits until it is continued, also over restarts: it takes no room meanwhile, and its time-outs stand still.
/// A step that is under way is made again from its last checkpoint then. What it began is paused with it, run by run, unless that is `abandon`ed
/// at its end. One that is paused stays so.
#[utoipa::path(
    post, path = "/v1/runs/{id}/pause", tag = "runs",
    params(("id" = String, Path, description = "The run")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["conflict", "busy"]))),
    responses((status = 204, description = "Paused")),
)]
async fn pause(State(api): State<Api>, By(caller): By, At(run): At<RunId>) -> Answer {
    api.runs.pause(&caller, run).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Continue a run
///
/// One that is paused goes on, and so does what was paused with it. Where something of it failed that was to wait for people, that is tried again.
#[utoipa::path(
    post, path = "/v1/runs/{id}/continue", tag = "runs",
    params(("id" = String, Path, description = "The run")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["conflict", "busy"]))),
    responses((status = 202, description = "It runs again", body = super::call::Accepted, headers(("Location" = String, description = "The run")))),
)]
async fn continue_run(State(api): State<Api>, By(caller): By, At(run): At<RunId>) -> Answer {
    api.runs.go_on_with(&caller, run).await?;
    super::call::accepted(run)
}
