//! What followed from an event, as a tree.

use axum::extract::State;
use ltmc_model::Revision;
use ltmc_model::run::Target;
use ltmc_model::trigger::Stage;
use ltmc_orchestration::cascade::{self, Extent, Traced};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::messages::Event;
use crate::answers::PAGE;
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, By};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(trace))
}

/// How much of a cascade is shown.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Over how many events that led to each other, 1 to 16.
    #[param(minimum = 1, maximum = 16, default = 16)]
    depth: Option<u32>,
    /// How many events are shown, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<usize>,
}

/// An event, and what followed from it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Shown {
    topic: String,
    event: Event,
    taken: Vec<Taken>,
    passed: Vec<Passed>,
    /// Events that followed from it, and from none of the runs that are shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    led_to: Vec<Self>,
    #[serde(skip_serializing_if = "is_none")]
    left_out: usize,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

/// What a subscription made of an event.
#[derive(Serialize)]
struct Taken {
    subscription: String,
    r#where: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<String>,
    run: Option<String>,
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<Stage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    events: Vec<Shown>,
}

/// A subscription that did not take an event.
#[derive(Serialize)]
struct Passed {
    subscription: String,
    why: &'static str,
}

impl From<Traced> for Shown {
    fn from(traced: Traced) -> Self {
        let Traced { position, topic, event, taken, passed, led_to, left_out } = traced;
        Self {
            topic: topic.to_string(),
            event: Event::of(position, event),
            taken: taken.into_iter().map(Taken::from).collect(),
            passed: passed.into_iter().map(|one| Passed { subscription: one.by.to_string(), why: one.why }).collect(),
            led_to: led_to.into_iter().map(Self::from).collect(),
            left_out,
        }
    }
}

impl From<cascade::Taken> for Taken {
    fn from(taken: cascade::Taken) -> Self {
        let cascade::Taken { by, filter, starts, run, stands, events } = taken;
        let (agent, workflow) = match starts {
            Some(Target::Agent(agent)) => (Some(agent.to_string()), None),
            Some(Target::Workflow(workflow)) => (None, Some(workflow.to_string())),
            None => (None, None),
        };
        let (stage, reason) = stands.map_or((None, None), |(stage, reason)| (Some(stage), reason));
        Self {
            subscription: by.to_string(),
            r#where: filter.map(|filter| filter.source().clone()),
            agent,
            workflow,
            run: run.as_ref().map(|run| run.id.to_string()),
            state: run.map(|run| run.state.as_str()),
            stage,
            reason,
            events: events.into_iter().map(Shown::from).collect(),
        }
    }
}

/// Trace an event
///
/// What followed from it, as a tree. `taken` are the subscriptions that took the event, each with its `where`, what it starts, the `run` that was started and
/// how that stands, or the `stage` at which the event is and the `reason` why it came to nothing; `events` of such a one are those that its run published, or
/// runs that this one began, each with what followed from it in turn. `passed` are the subscriptions of its topic that did not take it, each with `why`.
/// `led-to` are events that followed in another way: a client published them in a run that is not shown. `left-out` counts events that are not shown, at
/// least: ask for those by themselves. An event is kept as long as its topic, by default for a day.
#[utoipa::path(
    get, path = "/v1/events/{id}/trace", tag = "events",
    params(("id" = u64, Path, description = "The event, by the number that publishing it was answered with", example = 17), Which),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"]))),
    responses((status = 200, body = Object)),
)]
async fn trace(State(api): State<Api>, By(caller): By, At(id): At<u64>, Asked(which): Asked<Which>) -> Answer {
    let extent = Extent { depth: which.depth.unwrap_or(cascade::MAX_DEPTH), events: which.limit.unwrap_or(100) };
    let room = api.answers.room(&caller, PAGE)?;
    let traced = api.triggers.trace(&caller, Revision(id), extent).await?;
    room.json(&Shown::from(traced))
}
