//! Schedules: when workflows are started by themselves; paused, continued, and started at once.

use std::str::FromStr;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use ltmc_model::schedule::{Outcome, Overlap, ScheduleId};
use ltmc_model::{KeyId, RunId, Timestamp, WorkflowName};
use ltmc_ports::schedules::StoredSchedule;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{Answer, Api};
use crate::extract::{Asked, AtBoth, By};
use crate::headers;
use crate::page::{Page, Paging};

const LIST: &str = "schedules";
/// How many of the ticks that are to come are shown.
const SHOWN: usize = 5;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(pause))
        .routes(routes!(go_on))
        .routes(routes!(run_now))
}

/// A schedule of a workflow's document.
#[derive(Serialize, ToSchema)]
struct Schedule {
    /// The workflow whose document has the schedule.
    #[schema(value_type = String, example = "report")]
    workflow: WorkflowName,
    /// Its number in the document, from 1 on.
    number: u32,
    /// When it comes: a cron expression.
    #[schema(example = "0 6 * * 1-5")]
    schedule: String,
    /// By the clock of which time zone.
    #[schema(example = "Europe/Berlin")]
    zone: String,
    /// What becomes of a tick while the run of the one before is under way: `skip`, `queue` or `parallel`.
    #[schema(value_type = String, example = "skip")]
    overlap: Overlap,
    /// How long after its time a tick is still started.
    #[schema(example = "1h")]
    catch_up: String,
    /// After when it comes no more; none: it goes on for ever.
    #[schema(value_type = Option<String>, required)]
    until: Option<Timestamp>,
    /// The key in whose name it starts runs.
    #[schema(value_type = Option<String>, required)]
    by: Option<KeyId>,
    /// Since when it starts nothing, by whom, and why; none: it is not paused.
    #[schema(required)]
    paused: Option<Paused>,
    /// Its next ticks; none while it is paused.
    next: Vec<Tick>,
    /// The run that it started last.
    #[schema(required)]
    last: Option<Last>,
    /// How many runs it has started.
    started: u64,
    /// How many of its ticks were passed over, for the run before was under way.
    skipped: u64,
    /// How many were missed: no host was there in time, or it could not be started.
    missed: u64,
    /// The newest tick of which there is something to tell: it waits, was passed over, or missed.
    #[schema(required)]
    trouble: Option<Trouble>,
}

/// That a schedule starts nothing.
#[derive(Serialize, ToSchema)]
#[schema(as = PausedSchedule)]
struct Paused {
    /// When it was paused.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Whose key did it; none: the host.
    #[schema(value_type = Option<String>, required)]
    by: Option<KeyId>,
    /// Why the host did it.
    #[schema(required)]
    why: Option<String>,
}

/// When a schedule comes.
#[derive(Serialize, ToSchema)]
struct Tick {
    /// The moment.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The same by the clock of the schedule's zone.
    #[schema(example = "2027-03-29T06:00:00+02:00[Europe/Berlin]")]
    local: String,
}

/// The run that a schedule started last.
#[derive(Serialize, ToSchema)]
#[schema(as = LastRun)]
struct Last {
    /// The id of the run.
    #[schema(value_type = String, format = Uuid)]
    run: RunId,
    /// The scheduled time that the run was started for.
    #[schema(value_type = String, format = DateTime)]
    tick: Timestamp,
}

/// What became of a tick that was not started at once.
#[derive(Serialize, ToSchema)]
struct Trouble {
    /// The scheduled time that was not started at once.
    #[schema(value_type = String, format = DateTime)]
    tick: Timestamp,
    /// `waits`, `skipped` or `missed`.
    #[schema(value_type = String, example = "missed")]
    outcome: Outcome,
    /// Why it was not started at once, for people.
    why: String,
}

impl From<StoredSchedule> for Schedule {
    fn from(row: StoredSchedule) -> Self {
        let timing = &row.timing;
        let ticks = std::iter::successors(Some(row.next), |tick| timing.next(*tick));
        let ticks = ticks.take_while(|tick| timing.until().is_none_or(|until| *tick <= until));
        let shown = if row.paused.is_some() { 0 } else { SHOWN };
        let next = ticks.take(shown).map(|at| Tick { at, local: timing.zone().show(at) }).collect();
        Self {
            workflow: row.id.workflow,
            number: row.id.number,
            schedule: timing.cron().as_str().to_owned(),
            zone: timing.zone().as_str().to_owned(),
            overlap: timing.overlap(),
            catch_up: humantime::format_duration(timing.catch_up()).to_string(),
            until: timing.until(),
            next,
            by: row.by,
            paused: row.paused.map(|paused| Paused { at: paused.at, by: paused.by, why: paused.why }),
            last: row.last.map(|last| Last { run: last.run, tick: last.tick }),
            started: row.started,
            skipped: row.skipped,
            missed: row.missed,
            trouble: row.trouble.map(|told| Trouble { tick: told.tick, outcome: told.outcome, why: told.why }),
        }
    }
}

/// A schedule's number, from a path.
struct Number(u32);

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = text.parse().ok().filter(|number| *number > 0).map(Self);
        number.ok_or_else(|| "a schedule's number is its place in the document's `on`, from 1 on".to_owned())
    }
}

/// Which schedules to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Of this workflow.
    #[param(value_type = Option<String>)]
    workflow: Option<WorkflowName>,
    /// Items of a page, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// List schedules
///
/// By workflow and number, each with its next five ticks, and what became of those before.
#[utoipa::path(
    get, path = "/v1/schedules", tag = "workflows", params(Which),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"]))),
    responses((status = 200, body = Page<Schedule>)),
)]
async fn list(State(api): State<Api>, By(caller): By, Asked(which): Asked<Which>) -> Answer {
    let paging = Paging { limit: which.limit, cursor: which.cursor };
    let limit = paging.limit()?;
    let after: Option<ScheduleId> = paging.after(LIST)?;
    let found = api.schedules.list(&caller, which.workflow.as_ref(), after.as_ref(), limit + 1).await?;
    let page = Page::of(LIST, limit, found, |row| row.id.to_string(), Schedule::from);
    Ok(axum::Json(page).into_response())
}

/// Pause a schedule
///
/// It starts nothing until it is continued. Runs under way go on; ticks that come meanwhile are neither made up for nor counted.
#[utoipa::path(
    post, path = "/v1/schedules/{workflow}/{number}/pause", tag = "workflows",
    params(
        ("workflow" = String, Path, description = "The workflow's name", example = "report"),
        ("number" = u32, Path, description = "The schedule's number in the document, from 1 on", example = 1),
    ),
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["conflict"]))),
    responses((status = 204, description = "Paused")),
)]
async fn pause(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(workflow, Number(number)): AtBoth<WorkflowName, Number>,
) -> Answer {
    api.schedules.pause(&caller, &ScheduleId { workflow, number }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Continue a schedule
///
/// One that was paused, or set aside by the host, starts runs again from its next tick on, in the name of the key that continues it.
#[utoipa::path(
    post, path = "/v1/schedules/{workflow}/{number}/continue", tag = "workflows",
    params(
        ("workflow" = String, Path, description = "The workflow's name", example = "report"),
        ("number" = u32, Path, description = "The schedule's number in the document, from 1 on", example = 1),
    ),
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["conflict"]))),
    responses((status = 204, description = "It goes on")),
)]
async fn go_on(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(workflow, Number(number)): AtBoth<WorkflowName, Number>,
) -> Answer {
    api.schedules.go_on(&caller, &ScheduleId { workflow, number }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Run a schedule now
///
/// On the schedule's input, beside its ticks, also where it is paused and whatever is under way. Each request starts a run of its own, unless they have the same idempotency key.
#[utoipa::path(
    post, path = "/v1/schedules/{workflow}/{number}/run-now", tag = "workflows",
    params(
        ("workflow" = String, Path, description = "The workflow's name", example = "report"),
        ("number" = u32, Path, description = "The schedule's number in the document, from 1 on", example = 1),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters. The same key and request within 24 hours mean the same run"),
    ),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["conflict", "busy", "idempotency-key-reused"]))),
    responses((status = 202, description = "It runs", body = super::call::Accepted, headers(("Location" = String, description = "The run")))),
)]
async fn run_now(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(workflow, Number(number)): AtBoth<WorkflowName, Number>,
    sent: HeaderMap,
) -> Answer {
    let key = headers::idempotency_key(&sent)?;
    let started = api.schedules.run_now(&caller, &ScheduleId { workflow, number }, key).await?;
    // What is accepted is on disk.
    api.runs.wait(&caller, &started, Some(Duration::ZERO)).await?;
    super::call::accepted(started.run)
}
