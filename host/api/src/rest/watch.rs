//! Changes of memory, and topics, as server-sent events: subscriptions (`context/src/subscription.rs`), row by row.
//!
//! Invariants: an event's id is its place in the record's log, so that whoever comes back with `Last-Event-ID` misses nothing
//! and gets nothing twice, also over a restart of the host. Where that is not possible any more the answer is `resync`.
//! Readers are bounded like those of runs' events, and a stream ends after a while by itself.

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::Event;
use ltmc_context::Subscription;
use ltmc_context::subscription::Lost;
use ltmc_model::Position;
use ltmc_model::caller::Caller;
use ltmc_model::delta::Logged;
use ltmc_model::memory::{Changed, Scope};
use ltmc_model::message::{Published, Topic};
use ltmc_ports::log::Interest;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::context::refused;
use super::events::{Batch, Source, streamed};
use crate::app::{Answer, Api};
use crate::extract::{Asked, By};
use crate::headers::last_event_id;
use crate::problem::Result;
use crate::serve::Closing;

/// Rows that are read from the record at once.
const PAGE: u32 = 256;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(changes)).routes(routes!(topic))
}

/// What is watched.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Watched {
    /// `global`, `session` or `agent`.
    #[param(value_type = String, example = "global")]
    scope: Scope,
    /// The session or the agent whose scope it is; none for `global`.
    owner: Option<String>,
    /// What the keys begin with.
    prefix: Option<String>,
    /// After the change at this place; `Last-Event-ID` wins; none: from now on.
    after: Option<u64>,
}

/// A change of a key.
#[derive(Serialize, ToSchema)]
struct Change {
    /// Its place: go on after it.
    position: u64,
    key: String,
    revision: u64,
    /// Whether the key was deleted, or had come to its end.
    deleted: bool,
    /// The value, where it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    json: Option<serde_json::Value>,
    /// The value as base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// Watch keys
///
/// Server-sent events: one for each change, its place as `id`, and `put` or `delete` as `event`.
#[utoipa::path(
    get, path = "/v1/changes", tag = "context",
    params(Watched, ("Last-Event-ID" = Option<u64>, Header, description = "The place to go on after")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"])), ("x-ltmc-codes" = json!(["busy", "resync"]))),
    responses((status = 200, description = "The data of each event is a change", body = Change, content_type = "text/event-stream")),
)]
async fn changes(
    State(api): State<Api>,
    By(caller): By,
    Asked(watched): Asked<Watched>,
    closing: Option<Extension<Closing>>,
    headers: HeaderMap,
) -> Answer {
    let after = after(&headers, watched.after)?;
    let drawer = super::memory::drawer(watched.scope, watched.owner)?;
    let prefix = watched.prefix.unwrap_or_default();
    follow(&api, &caller, Interest::Memory(drawer, prefix), after, closing, |row| row.changed().map(change)).await
}

fn change(changed: Changed) -> (Event, usize) {
    let kind = if changed.value.is_some() { "put" } else { "delete" };
    let (json, base64) = changed.value.as_ref().map_or((None, None), |value| super::memory::shown(value));
    let deleted = changed.value.is_none();
    let (position, revision) = (changed.position.0, changed.revision.0);
    let data = Change { position, key: changed.key, revision, deleted, json, base64 };
    written(position, kind, &data)
}

/// What is read.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Read {
    /// The topic.
    #[param(value_type = String, example = "reviews")]
    topic: Topic,
    /// After the event at this place; `Last-Event-ID` wins; none: from now on.
    after: Option<u64>,
}

/// Follow a topic
///
/// Server-sent events: one for each event published, its place as `id` and its type as `event`.
#[utoipa::path(
    get, path = "/v1/events/follow", tag = "context",
    params(Read, ("Last-Event-ID" = Option<u64>, Header, description = "The place to go on after")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"])), ("x-ltmc-codes" = json!(["busy", "resync"]))),
    responses((status = 200, description = "The data of each event is one of the topic's", body = super::messages::Event, content_type = "text/event-stream")),
)]
async fn topic(
    State(api): State<Api>,
    By(caller): By,
    Asked(read): Asked<Read>,
    closing: Option<Extension<Closing>>,
    headers: HeaderMap,
) -> Answer {
    let after = after(&headers, read.after)?;
    follow(&api, &caller, Interest::Topic(read.topic), after, closing, |row| row.published().map(event)).await
}

fn event(published: Published) -> (Event, usize) {
    let (position, kind) = (published.position, published.event.kind.clone());
    written(position.0, &kind, &super::messages::Event::of(position, published.event))
}

/// Rows of the log, as a stream of events.
async fn follow(
    api: &Api,
    caller: &Caller,
    interest: Interest,
    after: Option<Position>,
    closing: Option<Extension<Closing>>,
    event: fn(&Logged) -> Option<(Event, usize)>,
) -> Answer {
    // A cursor that is too old is answered before the stream begins.
    let rows = api.clients.subscribe(caller, interest, after).await?.map_err(refused)?;
    streamed(api, caller, closing, Rows { rows, event })
}

struct Rows {
    rows: Subscription,
    event: fn(&Logged) -> Option<(Event, usize)>,
}

impl Source for Rows {
    async fn next(&mut self) -> Result<Option<Batch>> {
        match self.rows.next(PAGE).await {
            Ok(rows) => {
                let event = self.event;
                Ok(Some(Batch::of(rows.into_iter().filter_map(move |row| event(&row))).await))
            }
            Err(Lost::Resync(_)) => Ok(None),
            Err(Lost::Store(error)) => Err(error.into()),
        }
    }
}

fn written<T: Serialize>(position: u64, kind: &str, data: &T) -> (Event, usize) {
    let data = serde_json::to_string(data).unwrap_or_else(|_| "{}".into());
    let bytes = data.len();
    (Event::default().id(position.to_string()).event(kind).data(data), bytes)
}

fn after(headers: &HeaderMap, asked: Option<u64>) -> Result<Option<Position>> {
    Ok(last_event_id(headers, "the place of an event")?.or(asked).map(Position))
}
