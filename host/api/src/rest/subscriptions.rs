//! Subscriptions: which events of a topic start an agent or a workflow, and what became of those that did not.

use std::str::FromStr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use ltmc_model::agent::AgentRef;
use ltmc_model::filter::Filter;
use ltmc_model::message::Topic;
use ltmc_model::run::Target;
use ltmc_model::trigger::{Feed, MAX_AT_ONCE, OnPoison, Stage, Trigger, TriggerId, Verdict, Watched};
use ltmc_model::workflow::{flow_value, read_flow};
use ltmc_model::{KeyId, Position, RunId, Timestamp, WorkflowName};
use ltmc_policy::Action;
use ltmc_ports::triggers::{Arrival, ArrivalFilter, StoredTrigger};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::messages::Event;
use crate::answers::PAGE;
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, AtBoth, By, Document, Json};
use crate::page::{Page, Paging};
use crate::problem::{Problem, Result};

const LIST: &str = "subscriptions";
const EVENTS: &str = "subscription-events";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(get, put, delete))
        .routes(routes!(accept))
        .routes(routes!(pause))
        .routes(routes!(go_on))
        .routes(routes!(replay))
        .routes(routes!(events))
        .routes(routes!(release))
        .routes(routes!(skip))
}

/// What a subscription is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct NewSubscription {
    /// Events of which topic. Either this or `memory`.
    #[schema(value_type = Option<String>, example = "reports")]
    topic: Option<Topic>,
    /// Changes of memory: of keys that begin with this. Either this or `topic`.
    #[schema(example = "board/")]
    memory: Option<String>,
    /// In which scope of memory: `global` (if left out), `agent` or `session`.
    scope: Option<String>,
    /// Which agent's memory, or which session's.
    owner: Option<String>,
    /// Which of them: filters of the CloudEvents Subscriptions API, or tests of what is picked from the content; without it all.
    #[schema(value_type = Option<Object>, example = json!({"prefix": {"type": "report."}}))]
    r#where: Option<serde_json::Value>,
    /// The agent that each starts: a name, for its newest version each time, or `name@sha256:…`. Either this or `workflow`.
    #[schema(value_type = Option<String>, example = "triage")]
    agent: Option<AgentRef>,
    /// The workflow that each starts. Either this or `agent`.
    #[schema(value_type = Option<String>)]
    workflow: Option<WorkflowName>,
    /// How many runs are under way at once, 1 to 100; 8 if left out.
    #[schema(minimum = 1, maximum = 100)]
    at_once: Option<u32>,
    /// What becomes of an event whose run failed: `park-key` (it holds up later ones of its key until somebody releases or skips it) or
    /// `skip` (it is a dead letter, and its key goes on).
    #[schema(value_type = Option<String>, example = "park-key")]
    on_poison: Option<OnPoison>,
    /// How many runs start in how long: `{"starts": 10, "per": "1m"}`.
    #[schema(value_type = Option<Object>)]
    rate: Option<serde_json::Value>,
    /// The last event of a key starts a run, once no other came for so long: `"5s"`.
    debounce: Option<String>,
    /// So many events of a key start a run, or what there is after a time: `{"events": 20, "within": "10s"}`.
    #[schema(value_type = Option<Object>)]
    batch: Option<serde_json::Value>,
    /// Events that belong together start a run: `{"of": {"paid": {…}, "packed": {…}}, "by": "$.data.order", "within": "1h"}`.
    #[schema(value_type = Option<Object>)]
    join: Option<serde_json::Value>,
    /// After which place of the topic it begins, where it is new; without it from now on, 0 for all that is kept.
    after: Option<u64>,
}

impl Document for NewSubscription {
    const FOR: Action = Action::PutWorkflow;
}

impl NewSubscription {
    fn trigger(self) -> Result<(Trigger, Option<Position>)> {
        let wrong = |field: &'static str, message: String| Problem::new("invalid", message).field(field);
        let start = match (self.agent, self.workflow) {
            (Some(agent), None) => Target::Agent(agent),
            (None, Some(workflow)) => Target::Workflow(workflow),
            _ => return Err(Problem::new("invalid", "What is started is either an `agent` or a `workflow`.")),
        };
        let feed = match (self.topic, self.memory) {
            (Some(topic), None) if self.scope.is_none() && self.owner.is_none() => Feed::Topic(topic),
            (Some(_), None) => return Err(wrong("scope", "`scope` and `owner` are of `memory`.".into())),
            (None, Some(prefix)) => Watched::of(self.scope.as_deref(), self.owner.as_deref(), &prefix)
                .map(Feed::Memory)
                .map_err(|(field, why)| wrong(field, format!("{why}.")))?,
            _ => {
                return Err(Problem::new("invalid", "A subscription is to a `topic` or to `memory`: to one of them."));
            }
        };
        let at_once = self.at_once.unwrap_or(Trigger::AT_ONCE);
        if !(1..=MAX_AT_ONCE).contains(&at_once) {
            return Err(wrong("at-once", format!("`at-once` is 1 to {MAX_AT_ONCE}, not {at_once}.")));
        }
        let filter = self.r#where.map(|filter| {
            Filter::parse(&filter.to_string()).map_err(|faults| {
                let told: Vec<&str> = faults.0.iter().map(|fault| fault.message.as_str()).collect();
                wrong("where", told.join("; "))
            })
        });
        let on_poison = self.on_poison.unwrap_or_default();
        let flow = [
            ("rate", self.rate),
            ("debounce", self.debounce.map(Into::into)),
            ("batch", self.batch),
            ("join", self.join),
        ];
        let flow = flow.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let (rate, gather) = read_flow(&serde_json::Value::Object(flow.collect())).map_err(|faults| {
            let told: Vec<&str> = faults.0.iter().map(|fault| fault.message.as_str()).collect();
            Problem::new("invalid", told.join("; "))
        })?;
        Ok((
            Trigger { feed, filter: filter.transpose()?, start, at_once, on_poison, rate, gather },
            self.after.map(Position),
        ))
    }
}

/// A subscription.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
struct Subscription {
    /// Its name: of one that stands in a workflow's document `WORKFLOW:NUMBER`.
    name: String,
    /// Events of which topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// Changes of memory: of keys that begin with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
    /// In which scope of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// Which agent's memory, or which session's.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// Which of them; none: all.
    #[schema(value_type = Option<Object>, required)]
    r#where: Option<serde_json::Value>,
    /// The agent that each starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    /// The workflow that each starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<String>,
    /// How many runs are under way at once.
    at_once: u32,
    /// What becomes of an event whose run failed.
    #[schema(value_type = String, example = "park-key")]
    on_poison: OnPoison,
    /// `rate`, `debounce`, `batch` and `join`, those that it has.
    #[serde(flatten)]
    #[schema(ignore)]
    flow: serde_json::Value,
    /// The key in whose name it starts runs.
    #[schema(value_type = Option<String>, required)]
    by: Option<KeyId>,
    /// Since when it starts nothing, by whom, and why; none: it is not paused.
    #[schema(required)]
    paused: Option<Paused>,
    /// Up to which place its topic was looked through.
    position: u64,
    /// How many events wait for their run.
    waiting: u32,
    /// How many runs are under way.
    under_way: u32,
    /// How many dead letters there are.
    dead: u32,
    /// How many runs it has started.
    started: u64,
    /// How many events had come before, by their source and id.
    duplicates: u64,
    /// How many events started nothing, for a later one of their key did.
    superseded: u64,
    /// What is to be told of events that wait.
    #[schema(required)]
    trouble: Option<String>,
    /// How many events of its topic it has not looked at, of more than 10000 so many; of one alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<u32>,
}

/// That a subscription starts nothing.
#[derive(Serialize, ToSchema)]
#[schema(as = PausedSubscription)]
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

impl From<StoredTrigger> for Subscription {
    fn from(row: StoredTrigger) -> Self {
        let (agent, workflow) = match &row.trigger.start {
            Target::Agent(agent) => (Some(agent.to_string()), None),
            Target::Workflow(workflow) => (None, Some(workflow.to_string())),
        };
        let watched = row.trigger.feed.watched();
        let flow = flow_value(&row.trigger);
        let owner = watched.map(|watched| watched.drawer.owner().to_owned()).filter(|owner| !owner.is_empty());
        Self {
            name: row.id.to_string(),
            topic: row.trigger.feed.topic().map(ToString::to_string),
            memory: watched.map(|watched| watched.prefix.clone()),
            scope: watched.map(|watched| watched.drawer.scope().to_string()),
            owner,
            r#where: row.trigger.filter.map(|filter| filter.source().clone()),
            agent,
            workflow,
            at_once: row.trigger.at_once,
            on_poison: row.trigger.on_poison,
            flow,
            by: row.by,
            paused: row.paused.map(|paused| Paused { at: paused.at, by: paused.by, why: paused.why }),
            position: row.position.0,
            waiting: row.waiting,
            under_way: row.under_way,
            dead: row.dead,
            started: row.started,
            duplicates: row.duplicates,
            superseded: row.superseded,
            trouble: row.trouble,
            lag: None,
        }
    }
}

/// An event that a subscription took in, and that is not dealt with.
#[derive(Serialize, ToSchema)]
#[schema(as = SubscriptionEvent)]
#[serde(rename_all = "kebab-case")]
struct Taken {
    /// The name of the subscription that took it in.
    subscription: String,
    /// Where in its topic it stands: what it is released and skipped by.
    position: u64,
    /// `waiting`, `under-way`, `parked` (a dead letter that holds up its key) or `dead`.
    #[schema(value_type = String, example = "parked")]
    stage: Stage,
    /// What is kept in order with it: its `partitionkey`, or its source.
    key: String,
    /// The run that it started last.
    #[schema(value_type = Option<String>, format = Uuid, required)]
    run: Option<RunId>,
    /// Why it is a dead letter.
    #[schema(required)]
    reason: Option<String>,
    /// When it was taken in.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The event.
    event: Event,
}

impl From<Arrival> for Taken {
    fn from(arrival: Arrival) -> Self {
        Self {
            subscription: arrival.id.to_string(),
            position: arrival.position.0,
            stage: arrival.stage,
            key: arrival.key,
            run: arrival.run,
            reason: arrival.reason,
            at: arrival.at,
            event: Event::of(arrival.position, arrival.event),
        }
    }
}

/// Which to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Items of a page, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// List subscriptions
///
/// By name, each with what became of its events.
#[utoipa::path(
    get, path = "/v1/subscriptions", tag = "events", params(Which),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"]))),
    responses((status = 200, body = Page<Subscription>)),
)]
async fn list(State(api): State<Api>, By(caller): By, Asked(which): Asked<Which>) -> Answer {
    let paging = Paging { limit: which.limit, cursor: which.cursor };
    let limit = paging.limit()?;
    let after: Option<TriggerId> = paging.after(LIST)?;
    let found = api.triggers.list(&caller, after.as_ref(), limit + 1).await?;
    let page = Page::of(LIST, limit, found, |row| row.id.to_string(), Subscription::from);
    Ok(axum::Json(page).into_response())
}

/// Show a subscription
///
/// With its lag: how many events of its topic it has not looked at.
#[utoipa::path(
    get, path = "/v1/subscriptions/{name}", tag = "events",
    params(("name" = String, Path, description = "Its name", example = "triage")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"]))),
    responses((status = 200, body = Subscription)),
)]
async fn get(State(api): State<Api>, By(caller): By, At(id): At<TriggerId>) -> Answer {
    let (row, lag) = api.triggers.get(&caller, &id).await?;
    Ok(axum::Json(Subscription { lag: Some(lag), ..row.into() }).into_response())
}

/// Put a subscription
///
/// Each event of the topic that fits starts one run, in the name of this key; with `memory` each change of a key does that begins so, as an event
/// `memory.put` or `memory.deleted` whose `subject` is the key and whose `data` the value. One of the same name and topic is changed, and goes on from
/// where it is.
#[utoipa::path(
    put, path = "/v1/subscriptions/{name}", tag = "events", request_body = NewSubscription,
    params(("name" = String, Path, description = "Its name", example = "triage")),
    extensions(
        ("x-ltmc-role" = json!(["admin", "author"])),
        ("x-ltmc-codes" = json!(["invalid", "conflict", "too-many-subscriptions"])),
    ),
    responses((status = 201, description = "New", body = Subscription), (status = 200, description = "Changed", body = Subscription)),
)]
async fn put(
    State(api): State<Api>,
    By(caller): By,
    At(id): At<TriggerId>,
    Json(asked): Json<NewSubscription>,
) -> Answer {
    let (trigger, after) = asked.trigger()?;
    let is_new = api.triggers.put(&caller, id.clone(), trigger, after).await?;
    let (row, lag) = api.triggers.get(&caller, &id).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(Subscription { lag: Some(lag), ..row.into() })).into_response())
}

/// The names of subscriptions.
#[derive(Serialize, ToSchema)]
struct Accepted {
    /// `AGENT@NUMBER`, by the order of the manifest.
    subscriptions: Vec<String>,
}

/// Accept what an agent asks to be woken by
///
/// Each subscription that its manifest asks for starts runs of it from now on, in the name of this key; one that it does not ask for any more is deleted. They go with
/// the agent, and can be paused and deleted one by one.
#[utoipa::path(
    post, path = "/v1/agents/{name}/subscriptions", tag = "agents",
    params(("name" = String, Path, description = "A name, for its newest version, or `name@sha256:…`", example = "triage")),
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["too-many-subscriptions"]))),
    responses((status = 200, body = Accepted)),
)]
async fn accept(State(api): State<Api>, By(caller): By, At(agent): At<AgentRef>) -> Answer {
    let names = api.triggers.accept(&caller, &agent).await?;
    Ok(axum::Json(Accepted { subscriptions: names.iter().map(ToString::to_string).collect() }).into_response())
}

/// Delete a subscription
///
/// With the events that wait and its dead letters. Runs under way go on.
#[utoipa::path(
    delete, path = "/v1/subscriptions/{name}", tag = "events",
    params(("name" = String, Path, description = "Its name", example = "triage")),
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["conflict"]))),
    responses((status = 204, description = "Gone")),
)]
async fn delete(State(api): State<Api>, By(caller): By, At(id): At<TriggerId>) -> Answer {
    api.triggers.delete(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Pause a subscription
///
/// It starts nothing until it is continued. Runs under way go on; events stay in their topic, as long as that keeps them.
#[utoipa::path(
    post, path = "/v1/subscriptions/{name}/pause", tag = "events",
    params(("name" = String, Path, description = "Its name", example = "triage")),
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["conflict"]))),
    responses((status = 204, description = "Paused")),
)]
async fn pause(State(api): State<Api>, By(caller): By, At(id): At<TriggerId>) -> Answer {
    api.triggers.pause(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Continue a subscription
///
/// One that was paused, or set aside by the host, goes on from where it is, in the name of the key that continues it.
#[utoipa::path(
    post, path = "/v1/subscriptions/{name}/continue", tag = "events",
    params(("name" = String, Path, description = "Its name", example = "triage")),
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["conflict"]))),
    responses((status = 204, description = "It goes on")),
)]
async fn go_on(State(api): State<Api>, By(caller): By, At(id): At<TriggerId>) -> Answer {
    api.triggers.go_on(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// From where on a subscription looks through its topic anew.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Again {
    /// After which place of the topic; 0 for all that is kept.
    after: u64,
    /// Whether events that it has seen start runs again.
    #[serde(default)]
    force: bool,
}

impl Document for Again {
    const FOR: Action = Action::PutWorkflow;
}

/// Replay a topic into a subscription
///
/// It looks through its topic anew, from a place on. Events that it has seen start nothing again, unless that is forced; runs that are started so are told, by
/// `replay` in their input.
#[utoipa::path(
    post, path = "/v1/subscriptions/{name}/replay", tag = "events", request_body = Again,
    params(("name" = String, Path, description = "Its name", example = "triage")),
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["invalid"]))),
    responses((status = 204, description = "It looks")),
)]
async fn replay(State(api): State<Api>, By(caller): By, At(id): At<TriggerId>, Json(again): Json<Again>) -> Answer {
    api.triggers.replay(&caller, &id, Position(again.after), again.force).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Which events of a subscription.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WhichEvents {
    /// Only dead letters.
    #[param(default = false)]
    dead: Option<bool>,
    /// Items of a page, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// List a subscription's events
///
/// Those that wait, are under way, or came to nothing, in the order of their topic. What is dealt with is not kept here.
#[utoipa::path(
    get, path = "/v1/subscriptions/{name}/events", tag = "events",
    params(("name" = String, Path, description = "The subscription's name", example = "triage"), WhichEvents),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"]))),
    responses((status = 200, body = Page<Taken>)),
)]
async fn events(
    State(api): State<Api>,
    By(caller): By,
    At(id): At<TriggerId>,
    Asked(which): Asked<WhichEvents>,
) -> Answer {
    let paging = Paging { limit: which.limit, cursor: which.cursor };
    let limit = paging.limit()?;
    let after = paging.after::<u64>(EVENTS)?.map(|after| (id.clone(), Position(after)));
    let room = api.answers.room(&caller, PAGE)?;
    api.triggers.get(&caller, &id).await?;
    let filter = ArrivalFilter { of: Some(id), dead: which.dead.unwrap_or(false), after, limit: limit + 1 };
    let found = api.triggers.arrivals(&caller, &filter).await?;
    room.json(&Page::of(EVENTS, limit, found, |arrival| arrival.position.0.to_string(), Taken::from))
}

/// A place in a topic, from a path.
struct Spot(Position);

impl FromStr for Spot {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let position = text.parse().ok().map(|place| Self(Position(place)));
        position.ok_or_else(|| "an event's place is a number, as the list shows it".to_owned())
    }
}

/// Release a dead letter
///
/// The event starts a run anew, and what waits behind it goes on after that.
#[utoipa::path(
    post, path = "/v1/subscriptions/{name}/events/{position}/release", tag = "events",
    params(
        ("name" = String, Path, description = "The subscription's name", example = "triage"),
        ("position" = u64, Path, description = "The event's place", example = 7),
    ),
    extensions(("x-ltmc-role" = json!(["admin", "author"]))),
    responses((status = 204, description = "It waits for its run")),
)]
async fn release(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(id, Spot(position)): AtBoth<TriggerId, Spot>,
) -> Answer {
    api.triggers.settle(&caller, &id, position, Verdict::Release).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Skip a dead letter
///
/// The event is thrown away, and what waits behind it goes on.
#[utoipa::path(
    post, path = "/v1/subscriptions/{name}/events/{position}/skip", tag = "events",
    params(
        ("name" = String, Path, description = "The subscription's name", example = "triage"),
        ("position" = u64, Path, description = "The event's place", example = 7),
    ),
    extensions(("x-ltmc-role" = json!(["admin", "author"]))),
    responses((status = 204, description = "Gone")),
)]
async fn skip(State(api): State<Api>, By(caller): By, AtBoth(id, Spot(position)): AtBoth<TriggerId, Spot>) -> Answer {
    api.triggers.settle(&caller, &id, position, Verdict::Skip).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
