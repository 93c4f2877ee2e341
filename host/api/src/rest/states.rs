//! Agents' states: looked at, with what they were before; released and set by hand.

use axum::extract::State;
use ltmc_context::state_people::{Became, Mend, Of, StateView};
use ltmc_model::state::{Dropped, Standing};
use ltmc_model::{AgentName, KeyId, Position, RunId, SessionId, Timestamp};
use ltmc_policy::Action;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::context::refused;
use crate::answers::{ONE, PAGE};
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, By, Document, Json};
use crate::page::{self, Page, Paging};

const HISTORY: &str = "state";
/// Entries of a page of a state's history: each may have 64 KiB of data.
const MOST_ENTRIES: u32 = 64;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(get)).routes(routes!(history)).routes(routes!(release)).routes(routes!(set))
}

/// Whose state, where each session has its own.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Whose {
    /// In which session, where each has its own.
    #[param(value_type = Option<String>)]
    session: Option<SessionId>,
}

/// Where an agent stands.
#[derive(Serialize, ToSchema)]
struct Shown {
    /// The state's name; none: what is kept does not read back.
    #[schema(required, example = "working")]
    state: Option<String>,
    /// Its data.
    #[schema(value_type = Object)]
    data: Value,
    /// Its revision; 0: it was never changed.
    revision: u64,
    /// The version of the declaration that it was made by.
    version: u32,
    /// The version that the newest version of the agent declares.
    declared: u32,
    /// `sound`; `older`: it is migrated when the agent looks at it next; `newer`: only a newer version of the agent works with it;
    /// `quarantined`.
    #[schema(example = "sound")]
    standing: &'static str,
    /// Why it is quarantined.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Since when it is in this state; none: since ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<Due>,
    /// Names of events that wait for the next transition, the oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deferred: Vec<String>,
}

/// The end of a state by itself.
#[derive(Serialize, ToSchema)]
struct Due {
    /// The time at which the state ends by itself.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What comes then.
    #[schema(example = "failed")]
    to: String,
}

impl From<StateView> for Shown {
    fn from(StateView { kept, revision, standing, declared, due }: StateView) -> Self {
        let (standing, why, machine) = match standing {
            Standing::Sound(machine) => ("sound", None, Some(machine)),
            Standing::Older(_) => ("older", None, None),
            Standing::Newer(_) => ("newer", None, None),
            Standing::Quarantined(why) => ("quarantined", Some(why), None),
        };
        let version = kept.as_ref().map_or(declared, |kept| kept.version);
        let deferred = kept.iter().flat_map(|kept| kept.deferred.iter().map(|one| one.event.clone())).collect();
        let since = match (&machine, &kept) {
            (Some(machine), Some(_)) => Some(Timestamp::from_millis(machine.since_ms)),
            (_, kept) => kept.as_ref().map(|kept| kept.since),
        };
        let (state, data) = match (machine, kept) {
            (Some(machine), _) => (Some(machine.state), machine.data),
            (None, Some(kept)) => (Some(kept.state), kept.data),
            (None, None) => (None, Value::Null),
        };
        let due = due.map(|(at, to)| Due { at, to });
        Self { state, data, revision: revision.0, version, declared, standing, why, since, due, deferred }
    }
}

/// What a state became.
#[derive(Serialize, ToSchema)]
struct Entry {
    /// Its place in the record's log.
    position: u64,
    /// The state's revision from then on.
    revision: u64,
    /// What it was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// The state; none: it does not read back.
    #[schema(required)]
    state: Option<String>,
    /// Its data.
    #[schema(value_type = Object)]
    data: Value,
    /// The version of the declaration.
    version: u32,
    /// By which event; none: by time, by a migration, or by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    /// Whether it was for its time was over.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    timed: bool,
    /// Names of events that wait for the next transition.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deferred: Vec<String>,
    /// Events that waited and were refused when they were given, each with the rule that it was against.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    dropped: Vec<Dropped>,
    /// The run that did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    run: Option<RunId>,
    /// The key that did it by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    by: Option<KeyId>,
    /// Why it was done by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Why it was set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantined: Option<String>,
    /// When the change was written; none: nothing is kept any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
}

fn entry((position, revision, kept): Became) -> Entry {
    let kept = kept.as_ref();
    Entry {
        position: position.0,
        revision: revision.0,
        from: kept.and_then(|kept| kept.from.clone()),
        state: kept.map(|kept| kept.state.clone()),
        data: kept.map_or(Value::Null, |kept| kept.data.clone()),
        version: kept.map_or(0, |kept| kept.version),
        event: kept.and_then(|kept| kept.event.clone()),
        timed: kept.is_some_and(|kept| kept.timed),
        deferred: kept.iter().flat_map(|kept| kept.deferred.iter().map(|one| one.event.clone())).collect(),
        dropped: kept.map(|kept| kept.dropped.clone()).unwrap_or_default(),
        run: kept.and_then(|kept| kept.run),
        by: kept.and_then(|kept| kept.by.clone()),
        reason: kept.and_then(|kept| kept.reason.clone()),
        quarantined: kept.and_then(|kept| kept.quarantined.clone()),
        at: kept.map(|kept| kept.at),
    }
}

/// Show an agent's state
///
/// Of an agent whose manifest declares states. What time alone made of it by now is in it, also where nobody has written that yet.
#[utoipa::path(
    get, path = "/v1/agents/{name}/state", tag = "agents",
    params(("name" = String, Path, description = "The agent's name", example = "take-orders"), Whose),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"]))),
    responses((status = 200, body = Shown)),
)]
async fn get(State(api): State<Api>, By(caller): By, At(agent): At<AgentName>, Asked(whose): Asked<Whose>) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    let view = api.clients.state(&caller, &Of { agent, session: whose.session }).await?;
    room.json(&Shown::from(view))
}

/// Which page of a state's history.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Past {
    /// In which session, where each has its own.
    #[param(value_type = Option<String>)]
    session: Option<SessionId>,
    /// Entries of a page, 1 to 500; of more than 64 there are 64.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// Show what an agent's state was before
///
/// In the order in which it came, as far back as the host keeps its log of changes.
#[utoipa::path(
    get, path = "/v1/agents/{name}/state/history", tag = "agents",
    params(("name" = String, Path, description = "The agent's name", example = "take-orders"), Past),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"])), ("x-ltmc-codes" = json!(["resync"]))),
    responses((status = 200, body = Page<Entry>)),
)]
async fn history(State(api): State<Api>, By(caller): By, At(agent): At<AgentName>, Asked(past): Asked<Past>) -> Answer {
    let Past { session, limit, cursor } = past;
    let limit = page::limit(limit)?.min(MOST_ENTRIES);
    let after = Paging { limit: Some(limit), cursor }.after::<u64>(HISTORY)?.map(Position);
    let room = api.answers.room(&caller, PAGE)?;
    let found = api.clients.state_history(&caller, &Of { agent, session }, after, limit).await?;
    let (became, next) = found.map_err(refused)?;
    let next = next.map(|next| page::seal(HISTORY, &next.0.to_string()));
    room.json(&Page { items: became.into_iter().map(entry).collect(), next })
}

/// Why something is done by hand.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Release {
    /// In which session, where each has its own.
    #[schema(value_type = Option<String>)]
    session: Option<SessionId>,
    /// Why, in a line; it stands in the audit.
    #[schema(example = "looked at it with the author")]
    reason: String,
}

impl Document for Release {
    const FOR: Action = Action::MendState;
}

/// Release an agent's state
///
/// What was quarantined is no more, where it is one of the states that the newest version of the agent declares. One whose migration
/// failed is migrated anew when the agent looks at it next.
#[utoipa::path(
    post, path = "/v1/agents/{name}/state/release", tag = "agents",
    params(("name" = String, Path, description = "The agent's name", example = "take-orders")),
    request_body = Release,
    extensions(("x-ltmc-role" = json!(["admin"])), ("x-ltmc-codes" = json!(["invalid", "conflict", "busy", "quota-exceeded"]))),
    responses((status = 200, description = "As it is now", body = Shown)),
)]
async fn release(
    State(api): State<Api>,
    By(caller): By,
    At(agent): At<AgentName>,
    Json(Release { session, reason }): Json<Release>,
) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    let of = Of { agent, session };
    room.json(&Shown::from(api.clients.mend_state(&caller, &of, Mend::Release, reason).await?))
}

/// What a state is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Set {
    /// In which session, where each has its own.
    #[schema(value_type = Option<String>)]
    session: Option<SessionId>,
    /// One of the declared states.
    #[schema(example = "idle")]
    state: String,
    /// Its data, whole.
    #[schema(value_type = Object)]
    data: Value,
    /// Why, in a line; it stands in the audit.
    #[schema(example = "the order was cancelled by telephone")]
    reason: String,
}

impl Document for Set {
    const FOR: Action = Action::MendState;
}

/// Set an agent's state
///
/// By hand, whatever it was: to one of the states that the newest version of the agent declares, with data that this allows.
#[utoipa::path(
    post, path = "/v1/agents/{name}/state/set", tag = "agents",
    params(("name" = String, Path, description = "The agent's name", example = "take-orders")),
    request_body = Set,
    extensions(("x-ltmc-role" = json!(["admin"])), ("x-ltmc-codes" = json!(["invalid", "conflict", "busy", "quota-exceeded"]))),
    responses((status = 200, description = "As it is now", body = Shown)),
)]
async fn set(
    State(api): State<Api>,
    By(caller): By,
    At(agent): At<AgentName>,
    Json(Set { session, state, data, reason }): Json<Set>,
) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    let of = Of { agent, session };
    room.json(&Shown::from(api.clients.mend_state(&caller, &of, Mend::Set { state, data }, reason).await?))
}
