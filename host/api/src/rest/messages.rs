//! Messages: events published and read, messages sent to agents, and dead letters.

use std::collections::BTreeMap;

use axum::extract::{FromRequest as _, Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use ltmc_context::clients::Owner;
use ltmc_model::call::Call;
use ltmc_model::call::messages::{self as call, Draft};
use ltmc_model::message::{self, MAX_TAKEN, Topic};
use ltmc_model::{AgentName, Payload, Position, Revision, Timestamp};
use ltmc_policy::Action;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::context::refused;
use crate::answers::PAGE;
use crate::app::{Answer, Api};
use crate::cloudevents::Mode;
use crate::extract::{Asked, At, By, Document, Json, may, whole};
use crate::page::{Page, Paging};
use crate::problem::Problem;

const LIST: &str = "dead-letters";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(events, publish))
        .routes(routes!(send))
        .routes(routes!(dead))
        .routes(routes!(discard))
        .routes(routes!(revive))
}

/// An event in the terms of CloudEvents 1.0, in JSON. The host sets `id`, `source` and `time`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEvent {
    /// Of a message: the agent it goes to.
    #[schema(value_type = Option<String>)]
    to: Option<AgentName>,
    /// Of an event: the topic it is published on.
    #[schema(value_type = Option<String>)]
    topic: Option<Topic>,
    /// The event's type: what happened.
    #[schema(example = "review.finished")]
    r#type: String,
    /// What it is about, if anything.
    subject: Option<String>,
    /// `1.0`, where it is given.
    specversion: Option<String>,
    /// Of `data`, where that is a text.
    datacontenttype: Option<String>,
    /// The content: any JSON.
    #[schema(value_type = Option<Object>)]
    data: Option<serde_json::Value>,
    /// The content, where it is bytes.
    data_base64: Option<String>,
}

impl Document for NewEvent {
    const FOR: Action = Action::WriteContext;
}

impl NewEvent {
    pub(super) fn send(mut self) -> Result<call::Send, Problem> {
        let to = self.to.take().ok_or_else(|| Problem::new("bad-json", "A message goes `to` an agent.").field("to"))?;
        Ok(call::Send { to, event: self.draft()? })
    }

    pub(super) fn publish(mut self) -> Result<call::Publish, Problem> {
        let topic =
            self.topic.take().ok_or_else(|| Problem::new("bad-json", "An event has a `topic`.").field("topic"))?;
        Ok(call::Publish { topic, event: self.draft()? })
    }

    fn draft(self) -> Result<Draft, Problem> {
        use base64::Engine as _;
        if self.specversion.is_some_and(|version| version != "1.0") {
            return Err(Problem::new("bad-json", "`specversion` is `1.0`.").field("specversion"));
        }
        let kind = self.datacontenttype;
        let data = match (self.data, self.data_base64) {
            (Some(_), Some(_)) => {
                return Err(Problem::new("bad-json", "One of `data` and `data_base64`, not both.").field("data"));
            }
            (Some(serde_json::Value::String(text)), None)
                if kind.as_deref().is_some_and(|kind| !kind.contains("json")) =>
            {
                Payload { content_type: kind.unwrap_or_default(), bytes: text.into() }
            }
            (data, None) => {
                let bytes = data.map(|data| data.to_string()).unwrap_or_default();
                Payload { content_type: kind.unwrap_or_else(|| Payload::JSON.to_owned()), bytes: bytes.into() }
            }
            (None, Some(text)) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                let bytes =
                    bytes.map_err(|e| Problem::new("bad-json", format!("not base64: {e}")).field("data_base64"))?;
                let content_type = kind.unwrap_or_else(|| "application/octet-stream".to_owned());
                Payload { content_type, bytes: bytes.into() }
            }
        };
        Ok(Draft { kind: self.r#type, subject: self.subject, data, given: None })
    }
}

/// Where it is now.
#[derive(Serialize, ToSchema)]
struct Sent {
    /// Its id.
    id: u64,
}

/// Where CloudEvents are published.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Onto {
    /// The topic, of CloudEvents; an event in this host's own form names it itself.
    #[param(value_type = Option<String>, example = "reviews")]
    topic: Option<Topic>,
}

/// Publish events
///
/// On a topic, where every reader sees them. As this host's own form in JSON, which names its topic; or as CloudEvents 1.0, whose topic is `topic`:
/// structured, batched (all of them or none), or binary, with attributes as headers `ce-…`. What a client says of `correlation`, `causation`, `hops`
/// and `sender` counts for nothing.
#[utoipa::path(
    post, path = "/v1/events", tag = "context",
    params(
        Onto,
        ("Ltmc-Run" = Option<String>, Header, description = "The run in which you work: the event follows from what that follows from"),
        ("traceparent" = Option<String>, Header, description = "W3C Trace Context, kept with the event where it names none"),
    ),
    request_body(content(
        (NewEvent = "application/json"),
        (Object = "application/cloudevents+json"),
        (Vec<Object> = "application/cloudevents-batch+json"),
    )),
    extensions(
        ("x-ltmc-role" = json!(["admin", "author"])),
        ("x-ltmc-codes" = json!(["invalid", "unsupported-media-type"])),
    ),
    responses((status = 200, body = Sent)),
)]
async fn publish(State(api): State<Api>, By(caller): By, Asked(onto): Asked<Onto>, request: Request) -> Answer {
    may(request.extensions(), Action::WriteContext, &api).await?;
    let Some(mode) = Mode::of(request.headers())? else {
        if onto.topic.is_some() {
            let message = "`topic` is for CloudEvents: an event in this host's own form has its topic in it.";
            return Err(Problem::new("bad-query", message).field("topic"));
        }
        let Json(event) = Json::<NewEvent>::from_request(request, &api).await?;
        return sent(api.clients.call(&caller, &Owner::default(), event.publish()?).await?.map_err(refused)?);
    };
    let wanted = "CloudEvents are published on the topic that `?topic=` names.";
    let topic = onto.topic.ok_or_else(|| Problem::new("bad-query", wanted).field("topic"))?;
    let headers = request.headers().clone();
    let (body, _held) = whole(request, Action::WriteContext, api.limits.document, &api).await?;
    let mut events = mode.read(&headers, body)?;
    if mode != Mode::Batched
        && let Some(event) = events.pop()
    {
        let publish = call::Publish { topic, event };
        return sent(api.clients.call(&caller, &Owner::default(), publish).await?.map_err(refused)?);
    }
    let publish = |event| (Owner::default(), Call::from(call::Publish { topic: topic.clone(), event }));
    let done = api.clients.transact(&caller, events.into_iter().map(publish).collect()).await?;
    let replies = done.map_err(|(number, refusal)| refused(refusal).field(number.to_string()))?;
    // The last: those before have smaller ones.
    let last = replies.into_iter().filter_map(|reply| Revision::try_from(reply).ok()).next_back();
    sent(last.unwrap_or_default())
}

/// Send a message
///
/// Into an agent's mailbox, where it is processed once. A mailbox that is full answers 429.
#[utoipa::path(
    post, path = "/v1/messages", tag = "context", request_body = NewEvent,
    params(
        ("Ltmc-Run" = Option<String>, Header, description = "The run in which you work: the event follows from what that follows from"),
        ("traceparent" = Option<String>, Header, description = "W3C Trace Context, kept with the event where it names none"),
    ),
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["invalid", "not-found", "quota-exceeded"]))),
    responses((status = 200, body = Sent)),
)]
async fn send(State(api): State<Api>, By(caller): By, Json(event): Json<NewEvent>) -> Answer {
    sent(api.clients.call(&caller, &Owner::default(), event.send()?).await?.map_err(refused)?)
}

fn sent(id: Revision) -> Answer {
    Ok(axum::Json(Sent { id: id.0 }).into_response())
}

/// Which events of which topic are read.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// The topic.
    #[param(value_type = String, example = "reviews")]
    topic: Topic,
    /// After the event at this place; none: from the oldest that is kept.
    after: Option<u64>,
    /// Events of a page, 1 to 100.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<u32>,
}

/// An event of a topic.
#[derive(Serialize, ToSchema)]
pub(super) struct Event {
    /// Its place: go on after it.
    position: u64,
    specversion: &'static str,
    id: String,
    source: String,
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    time: Timestamp,
    datacontenttype: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    data: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    /// The first event of all that this one follows from, as `SOURCE ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<String>,
    /// The event that led to this one, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    causation: Option<String>,
    /// How many events led to this one, each to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    hops: Option<u32>,
    /// What else its sender said of it: `dataschema`, and attributes of extensions.
    #[serde(flatten)]
    #[schema(ignore)]
    attributes: BTreeMap<String, String>,
}

impl Event {
    pub(super) fn of(position: Position, event: message::Event) -> Self {
        let (data, data_base64) = match event.data.to_value() {
            _ if event.data.bytes.is_empty() => (None, None),
            Ok(value) => (Some(value), None),
            Err(_) => super::memory::shown(&event.data.bytes),
        };
        let trail = event.trail;
        Self {
            position: position.0,
            specversion: "1.0",
            id: event.id,
            source: event.source,
            r#type: event.kind,
            subject: event.subject,
            time: event.time,
            datacontenttype: event.data.content_type,
            data,
            data_base64,
            correlation: trail.as_ref().map(|trail| trail.correlation.clone()),
            causation: trail.as_ref().map(|trail| trail.causation.clone()),
            hops: trail.map(|trail| trail.hops),
            attributes: event.attributes,
        }
    }
}

/// Part of a topic.
#[derive(Serialize, ToSchema)]
struct Events {
    /// In the order in which they were published.
    items: Vec<Event>,
    /// Go on after this place, also where nothing was found.
    next: u64,
}

/// Read a topic
///
/// What is kept of it: by default for a day.
#[utoipa::path(
    get, path = "/v1/events", tag = "context", params(Which),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"])), ("x-ltmc-codes" = json!(["invalid", "resync"]))),
    responses((status = 200, body = Events)),
)]
async fn events(State(api): State<Api>, By(caller): By, Asked(which): Asked<Which>) -> Answer {
    let limit = which.limit.unwrap_or(50);
    if !(1..=MAX_TAKEN).contains(&limit) {
        return Err(Problem::new("bad-query", format!("`limit` is 1 to {MAX_TAKEN}, not {limit}.")).field("limit"));
    }
    let after = which.after.map(Position);
    let room = api.answers.room(&caller, PAGE)?;
    let found = api.clients.events(&caller, &which.topic, after, limit).await?;
    let found = found.map_err(refused)?;
    let items = found.events.into_iter().map(|one| Event::of(one.position, one.event)).collect();
    room.json(&Events { items, next: found.next.0 })
}

/// A message that nobody could process.
#[derive(Serialize, ToSchema)]
struct DeadLetter {
    /// Its id.
    id: u64,
    /// In whose mailbox it was.
    agent: String,
    /// How often it was handed out.
    deliveries: u32,
    /// Why it is here.
    reason: String,
    /// When it became a dead letter.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    event: Event,
}

/// Which dead letters.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Dead {
    /// Of this agent's mailbox.
    #[param(value_type = Option<String>)]
    agent: Option<AgentName>,
    /// Items of a page, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// List dead letters
///
/// Messages that were rejected, or handed out five times and never acknowledged; the oldest first.
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "context", params(Dead),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"]))),
    responses((status = 200, body = Page<DeadLetter>)),
)]
async fn dead(State(api): State<Api>, By(caller): By, Asked(dead): Asked<Dead>) -> Answer {
    let paging = Paging { limit: dead.limit, cursor: dead.cursor };
    let limit = paging.limit()?;
    let after = paging.after::<u64>(LIST)?.map(Revision);
    let room = api.answers.room(&caller, PAGE)?;
    let found = api.clients.dead_letters(&caller, dead.agent.as_ref(), after, limit + 1).await?;
    let letter = |letter: message::DeadLetter| DeadLetter {
        id: letter.message.id.0,
        agent: match letter.message.channel {
            message::Channel::Mailbox(agent) => agent.to_string(),
            message::Channel::Topic(topic) => topic.to_string(),
        },
        deliveries: letter.deliveries,
        reason: letter.reason,
        at: letter.at,
        event: Event::of(Position(0), letter.message.event),
    };
    let page = Page::of(LIST, limit, found, |letter| letter.message.id.to_string(), letter);
    room.json(&page)
}

/// Send a dead letter again
///
/// To the end of its mailbox.
#[utoipa::path(
    post, path = "/v1/dead-letters/{id}/retry", tag = "context",
    params(("id" = u64, Path, description = "The message")),
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["quota-exceeded"]))),
    responses((status = 204, description = "It waits in its mailbox")),
)]
async fn revive(State(api): State<Api>, By(caller): By, At(id): At<u64>) -> Answer {
    api.clients.revive(&caller, Revision(id)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Throw a dead letter away
#[utoipa::path(
    delete, path = "/v1/dead-letters/{id}", tag = "context",
    params(("id" = u64, Path, description = "The message")),
    extensions(("x-ltmc-role" = json!(["admin", "author"]))),
    responses((status = 204, description = "Gone")),
)]
async fn discard(State(api): State<Api>, By(caller): By, At(id): At<u64>) -> Answer {
    api.clients.discard(&caller, Revision(id)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
