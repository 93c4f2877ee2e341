//! Sessions: opened, spoken to, looked at, closed.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse as _;
use ltmc_model::agent::AgentRef;
use ltmc_model::caller::Caller;
use ltmc_model::failure::Failure;
use ltmc_model::hand_off::HandedOff;
use ltmc_model::run::{State as RunState, Target};
use ltmc_model::session::{
    IfBusy, MAX_PARTICIPANTS, MAX_QUEUE, MAX_TIME, MAX_TITLE, MIN_TIME, Part, Session as Stored, Settings, Stage,
    Standing,
};
use ltmc_model::{AgentName, KeyId, Payload, RunId, SessionId, Timestamp, WorkflowName};
use ltmc_orchestration::{Closing, SayRequest, TurnView};
use ltmc_policy::Action;
use ltmc_ports::sessions::SessionFilter;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::call::{Wait, Work, finish};
use crate::answers::{ONE, PAGE};
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, AtBoth, By, Document, Json};
use crate::headers::{LTMC_TURN, Prefer};
use crate::page::{self, Page};
use crate::problem::{Problem, Result};

const LIST: &str = "sessions";
const TURNS: &str = "turns";
/// Turns of a page, each with what was said and answered.
const MOST_TURNS: u32 = 100;
/// Bytes of what was said and answered that a page has, where one turn is not larger by itself.
const PAGE_BYTES: usize = 1 << 20;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(list, open))
        .routes(routes!(get))
        .routes(routes!(history, say))
        .routes(routes!(cancel_turn))
        .routes(routes!(hand_over))
        .routes(routes!(rewind))
        .routes(routes!(fork))
        .routes(routes!(close))
}

/// What a session is opened with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct NewSession {
    /// The agent that answers: a name, for its newest version at each turn, or `name@sha256:…`. Either this or `workflow`.
    #[schema(value_type = Option<String>, example = "triage")]
    agent: Option<AgentRef>,
    /// The workflow that answers. Either this or `agent`.
    #[schema(value_type = Option<String>, example = "support-desk")]
    workflow: Option<WorkflowName>,
    /// What becomes of a message that comes while a turn is at work: `enqueue` (it waits; that is what is done if left out), `reject`,
    /// `interrupt` (turns before it are ended, and what they finished stays) or `rollback` (the same, and nothing of theirs stays).
    #[schema(value_type = Option<String>, example = "enqueue")]
    if_busy: Option<IfBusy>,
    /// How many turns may wait, 1 to 1000; 16 if left out.
    #[schema(minimum = 1, maximum = 1000)]
    queue: Option<u32>,
    /// After how long without a turn it expires; `7days` if left out.
    #[schema(example = "1h")]
    idle: Option<String>,
    /// How long a turn may take: after that it is ended, and the next one begins; `1day` if left out.
    #[schema(example = "10m")]
    turn: Option<String>,
    /// For people; at most 200 bytes.
    #[schema(example = "Order 4711")]
    title: Option<String>,
    /// Which other keys take part: by their ids, each a `contributor`, who may say something, or an `observer`. For keys of the role `caller`; others
    /// may look at any session anyway.
    #[schema(value_type = Option<Object>, example = json!({"k3v9x0q2m7ab": "observer"}))]
    participants: Option<BTreeMap<KeyId, Part>>,
}

impl Document for NewSession {
    const FOR: Action = Action::Run;
}

impl NewSession {
    fn settings(self) -> Result<Settings> {
        let wrong = |field: &'static str, message: String| Problem::new("invalid", message).field(field);
        let with = match (self.agent, self.workflow) {
            (Some(agent), None) => Target::Agent(agent),
            (None, Some(workflow)) => Target::Workflow(workflow),
            _ => return Err(Problem::new("invalid", "Who answers is either an `agent` or a `workflow`.")),
        };
        let queue = self.queue.unwrap_or(Settings::QUEUE);
        if !(1..=MAX_QUEUE).contains(&queue) {
            return Err(wrong("queue", format!("`queue` is 1 to {MAX_QUEUE}, not {queue}.")));
        }
        let participants = self.participants.unwrap_or_default();
        if participants.len() > MAX_PARTICIPANTS {
            return Err(wrong("participants", format!("A session has at most {MAX_PARTICIPANTS} participants.")));
        }
        let title = titled(self.title)?;
        Ok(Settings {
            with,
            if_busy: self.if_busy.unwrap_or_default(),
            queue,
            idle: time("idle", self.idle.as_deref(), Settings::IDLE)?,
            turn: time("turn", self.turn.as_deref(), Settings::TURN)?,
            title,
            participants,
        })
    }
}

/// A title within its bounds; an empty one is none.
fn titled(title: Option<String>) -> Result<Option<String>> {
    let title = title.filter(|title| !title.trim().is_empty());
    if title.as_ref().is_some_and(|title| title.len() > MAX_TITLE || title.chars().any(char::is_control)) {
        let message = format!("A title has at most {MAX_TITLE} bytes, and no line breaks or other control characters.");
        return Err(Problem::new("invalid", message).field("title"));
    }
    Ok(title)
}

/// A bounded time, in milliseconds.
fn time(field: &'static str, text: Option<&str>, otherwise: Duration) -> Result<u64> {
    let time = match text {
        None => otherwise,
        Some(text) => humantime::parse_duration(text)
            .ok()
            .filter(|time| (MIN_TIME..=MAX_TIME).contains(time))
            .ok_or_else(|| {
                let said = text.chars().take(40).collect::<String>();
                Problem::new(
                    "invalid",
                    format!("`{field}` is a time from `1s` to `366days`, such as `1h`; not `{said}`."),
                )
                .field(field)
            })?,
    };
    Ok(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// A session.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
struct Session {
    /// Its id.
    #[schema(value_type = String, example = "ses-0199c2a4-5b7e-7c31-9a33-1f0e8c2d4b6a")]
    id: SessionId,
    /// `active` (a turn is at work), `idle`, `closing`, `closed` or `expired`.
    #[schema(example = "idle")]
    state: &'static str,
    /// The agent that answers, where one does.
    #[schema(value_type = Option<String>, required)]
    agent: Option<AgentRef>,
    /// The workflow that answers, where one does.
    #[schema(value_type = Option<String>, required)]
    workflow: Option<WorkflowName>,
    /// For people.
    #[schema(required)]
    title: Option<String>,
    /// What becomes of a message that comes while a turn is at work.
    #[schema(value_type = String, example = "enqueue")]
    if_busy: IfBusy,
    /// How many turns may wait.
    queue: u32,
    /// After how long without a turn it expires.
    #[schema(example = "7days")]
    idle: String,
    /// How long a turn may take.
    #[schema(example = "1day")]
    turn: String,
    /// Other keys that take part.
    #[schema(value_type = Object)]
    participants: BTreeMap<KeyId, Part>,
    /// The key that opened it.
    #[schema(value_type = String)]
    by: KeyId,
    /// When it was opened.
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    /// When its last turn began or ended.
    #[schema(value_type = String, format = DateTime)]
    last_at: Timestamp,
    /// When it expires, if nothing is said until then; none: a turn is at work, or it is over.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
    /// Who holds its conversation, where it was handed on; none: whoever holds it first, or it is not one that is handed on.
    #[schema(value_type = Option<String>, required)]
    holder: Option<AgentName>,
    /// How many turns it had, those that wait included.
    turns: u32,
    /// How many of them are those of the session that it is a fork of.
    copied: u32,
    /// How many of them wait.
    queued: u32,
    /// The turn at work.
    #[schema(required)]
    active: Option<Active>,
    /// How often a turn took the session, or its conversation was handed on: it only grows.
    epoch: u64,
}

/// The turn at work in a session.
#[derive(Serialize, ToSchema)]
#[schema(as = ActiveTurn)]
struct Active {
    /// Its number, from 1 on.
    number: u32,
    /// The id of the run that makes the turn.
    #[schema(value_type = String, format = Uuid)]
    run: RunId,
    /// When the turn began.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

impl Session {
    /// As it stands at `now`.
    fn of(session: Stored, now: Timestamp) -> Self {
        let state = match (session.standing, &session.active) {
            (Standing::Open, Some(_)) => "active",
            // Whether or not that is written yet.
            (Standing::Open, None) if session.has_expired(now) => Standing::Expired.as_str(),
            (Standing::Open, None) => "idle",
            (standing, _) => standing.as_str(),
        };
        let (agent, workflow) = match session.settings.with {
            Target::Agent(agent) => (Some(agent), None),
            Target::Workflow(workflow) => (None, Some(workflow)),
        };
        let time = |millis| humantime::format_duration(Duration::from_millis(millis)).to_string();
        Self {
            id: session.id,
            state,
            agent,
            workflow,
            title: session.settings.title,
            if_busy: session.settings.if_busy,
            queue: session.settings.queue,
            idle: time(session.settings.idle),
            turn: time(session.settings.turn),
            participants: session.settings.participants,
            by: session.by,
            opened_at: session.opened_at,
            last_at: session.last_at,
            expires_at: session.due_at.filter(|_| session.active.is_none()),
            holder: session.holder.map(|holder| holder.agent),
            turns: session.turns,
            copied: session.copied,
            queued: session.queued,
            active: session.active.map(|it| Active { number: it.number, run: it.run, since: it.since }),
            epoch: session.epoch.0,
        }
    }
}

/// A turn: what was said, and what was answered.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
struct Turn {
    /// Its number, from 1 on.
    number: u32,
    /// `queued`, `active` or `over`.
    #[schema(value_type = String, example = "over")]
    stage: Stage,
    /// The id of the run that makes the turn.
    #[schema(value_type = String, format = Uuid)]
    run: RunId,
    /// Where that stands.
    #[schema(value_type = String, example = "completed")]
    state: RunState,
    /// Whose key said it.
    #[schema(value_type = String)]
    by: KeyId,
    /// When the message was sent.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What was said: its content type, and one of `json`, `text` and `base64`.
    #[schema(value_type = Object)]
    input: Payload,
    /// What was answered, in the same form.
    #[schema(value_type = Option<Object>, required)]
    output: Option<Payload>,
    /// How it ended badly, if it did.
    #[schema(value_type = Option<Object>, required)]
    error: Option<Failure>,
    /// How the conversation was handed on in it, in order.
    hand_offs: Vec<TurnHandOff>,
    /// Whether the session was taken back to before it: it is no part of the conversation any more.
    undone: bool,
}

/// A conversation went from one agent to another.
#[derive(Serialize, ToSchema)]
struct TurnHandOff {
    /// Who held it.
    #[schema(value_type = String)]
    from: AgentName,
    /// Who held it then.
    #[schema(value_type = String)]
    to: AgentName,
    /// Why, as who handed it on said.
    reason: String,
    /// Whether it went back to who had given it.
    back: bool,
}

impl From<TurnView> for Turn {
    fn from(TurnView { turn, at, input, state, result, hand_offs }: TurnView) -> Self {
        let hand_off = |one: HandedOff| TurnHandOff { from: one.from, to: one.to, reason: one.reason, back: one.back };
        let hand_offs = hand_offs.into_iter().map(hand_off).collect();
        let (output, error) = match result {
            None => (None, None),
            Some(Ok(output)) => (Some(output), None),
            Some(Err(failure)) => (None, Some(failure)),
        };
        Self {
            number: turn.number,
            stage: turn.stage,
            run: turn.run,
            state,
            by: turn.by,
            at,
            input,
            output,
            error,
            hand_offs,
            undone: turn.undone,
        }
    }
}

/// Open a session
///
/// A conversation: each message is a turn, done by the agent or the workflow that answers, one after the other; they share the memory of the scope `session`.
#[utoipa::path(
    post, path = "/v1/sessions", tag = "sessions", request_body = NewSession,
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["bad-json", "invalid"]))),
    responses((status = 201, description = "It is open", body = Session, headers(("Location" = String, description = "The session")))),
)]
async fn open(State(api): State<Api>, By(caller): By, Json(wanted): Json<NewSession>) -> Answer {
    let session = api.sessions.open(&caller, wanted.settings()?).await?;
    let location = HeaderValue::try_from(format!("/v1/sessions/{}", session.id)).map_err(Problem::internal)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(Session::of(session, api.clock.now())))
        .into_response())
}

/// Which sessions to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Those that stand so: `open`, `closing`, `closed` or `expired`.
    #[param(value_type = Option<String>)]
    state: Option<Standing>,
    /// Items of a page, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// Where a session stands in the list.
struct Place(Timestamp, SessionId);

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let (at, id) = text.split_once('/').ok_or(())?;
        Ok(Self(Timestamp::from_millis(at.parse().map_err(|_| ())?), id.parse().map_err(|_| ())?))
    }
}

/// List sessions
///
/// Those first that were opened last. A key of the role `caller` sees those that it opened or takes part in.
#[utoipa::path(
    get, path = "/v1/sessions", tag = "sessions", params(Which),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = Page<Session>)),
)]
async fn list(State(api): State<Api>, By(caller): By, Asked(which): Asked<Which>) -> Answer {
    let room = api.answers.room(&caller, PAGE)?;
    let limit = page::limit(which.limit)?;
    let before = which.cursor.as_deref().map(|cursor| page::open::<Place>(LIST, cursor)).transpose()?;
    let before = before.map(|Place(at, id)| (at, id));
    let filter = SessionFilter { standing: which.state, of: None, before, limit: limit + 1 };
    let found = api.sessions.list(&caller, filter).await?;
    let key = |session: &Stored| format!("{}/{}", session.opened_at.millis(), session.id);
    let now = api.clock.now();
    room.json(&Page::of(LIST, limit, found, key, |session| Session::of(session, now)))
}

/// Show a session
#[utoipa::path(
    get, path = "/v1/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "Its id")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = Session)),
)]
async fn get(State(api): State<Api>, By(caller): By, At(id): At<SessionId>) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    room.json(&Session::of(api.sessions.get(&caller, &id).await?, api.clock.now()))
}

/// A turn that goes on without its client.
#[derive(Serialize, ToSchema)]
struct AcceptedTurn {
    /// Its run; `Location` leads to it.
    #[schema(value_type = String, format = Uuid)]
    run: RunId,
    /// Its number in the session, from 1 on.
    turn: u32,
    /// Whether it waits for others.
    waits: bool,
}

/// Say something in a session
///
/// Any body with its content type is the message. It is a turn, and so a run, which `Ltmc-Run` names; `Ltmc-Turn` is its number in the session. What becomes of it
/// while another turn is at work, the session's `if-busy` says.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/turns", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters. The same key and message within 24 hours are the same turn"),
        ("Prefer" = Option<String>, Header, description = "`wait=30`: the answer, if it is there within so many seconds, at most 60", example = "wait=30"),
        ("traceparent" = Option<String>, Header, description = "W3C Trace Context, kept with the run"),
        ("Ltmc-Run" = Option<String>, Header, description = "The run in which you work: what is begun follows from what that follows from"),
    ),
    request_body(description = "The message", content(
        (Vec<u8> = "*/*"), (Object = "application/json"), (String = "text/plain"),
    )),
    extensions(
        ("x-ltmc-role" = json!(["admin", "author", "caller"])),
        ("x-ltmc-codes" = json!(["session-over", "busy", "agent-error", "cancelled", "idempotency-key-reused"])),
    ),
    responses(
        (status = 200, description = "The answer, in its content type", content((Vec<u8> = "*/*")),
            headers(("Ltmc-Run" = String, description = "The turn's run"), ("Ltmc-Turn" = String, description = "Its number"))),
        (status = 202, description = "It is at work, or waits", body = AcceptedTurn,
            headers(("Location" = String, description = "The turn's run"), ("Ltmc-Turn" = String, description = "Its number"))),
    ),
)]
async fn say(State(api): State<Api>, By(caller): By, At(id): At<SessionId>, request: Request) -> Answer {
    let prefer = Prefer::of(request.headers());
    let work = Work::read(request, &caller, "say", &id, &api).await?;
    if work.session.is_some() {
        return Err(Problem::new("bad-header", "The session is the one in the path.").field("Ltmc-Session"));
    }
    let request = SayRequest {
        input: work.input,
        idempotency: work.idempotency,
        request_digest: work.digest,
        traceparent: work.traceparent,
    };
    let said = api.sessions.say(&caller, &id, request).await?;
    let wait = if prefer.respond_async { Wait::Not } else { prefer.wait.map_or(Wait::Not, Wait::For) };
    let run = said.started.run;
    let mut response = finish(&api, &caller, said.started, wait, prefer).await?;
    if response.status() == StatusCode::ACCEPTED {
        let accepted = AcceptedTurn { run, turn: said.number, waits: said.waits };
        let body = serde_json::to_vec(&accepted).map_err(Problem::internal)?;
        *response.body_mut() = body.into();
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response.headers_mut().insert(LTMC_TURN, HeaderValue::from(said.number));
    Ok(response)
}

/// Which turns to show.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WhichTurns {
    /// Those after this number; all, if left out.
    after: Option<u32>,
    /// Items of a page, 1 to 500; a page has at most 100.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// Show what was said in a session
///
/// Turn by turn, in order, each with its message and its answer. A page has at most 100.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/turns", tag = "sessions",
    params(("id" = String, Path, description = "The session"), WhichTurns),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = Page<Turn>)),
)]
async fn history(
    State(api): State<Api>,
    By(caller): By,
    At(id): At<SessionId>,
    Asked(which): Asked<WhichTurns>,
) -> Answer {
    let room = api.answers.room(&caller, PAGE)?;
    let limit = page::limit(which.limit)?.min(MOST_TURNS);
    // Of another session's list a cursor is none.
    let turns = format!("{TURNS}/{id}");
    let after = which.cursor.as_deref().map(|cursor| page::open::<u32>(&turns, cursor)).transpose()?;
    let mut after = after.or(which.after).unwrap_or(0);
    // One by one, for what was said may be large.
    let (mut found, mut bytes): (Vec<TurnView>, usize) = (Vec::new(), 0);
    let mut more = false;
    while let Some(view) = next(&api, &caller, &id, after).await? {
        if found.len() == limit as usize || bytes > PAGE_BYTES {
            more = true;
            break;
        }
        let output = view.result.as_ref().and_then(|result| result.as_ref().ok());
        bytes += view.input.bytes.len() + output.map_or(0, |output| output.bytes.len());
        after = view.turn.number;
        found.push(view);
    }
    let next = if more { found.last().map(|last| page::seal(&turns, &last.turn.number.to_string())) } else { None };
    room.json(&Page { items: found.into_iter().map(Turn::from).collect::<Vec<_>>(), next })
}

async fn next(api: &Api, caller: &Caller, id: &SessionId, after: u32) -> Result<Option<TurnView>> {
    Ok(api.sessions.history(caller, id, after, 1).await?.into_iter().next())
}

/// A turn's number, from a path.
struct Number(u32);

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = text.parse().ok().filter(|number| *number > 0).map(Self);
        number.ok_or_else(|| "a turn's number is its place in the session, from 1 on".to_owned())
    }
}

/// End a turn
///
/// One that waits, or the one at work; those behind it go on. Who said it may, who opened the session, and keys of the roles author and admin.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}/turns/{number}", tag = "sessions",
    params(
        ("id" = String, Path, description = "The session"),
        ("number" = u32, Path, description = "The turn's number, from 1 on", example = 1),
    ),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["conflict", "busy"]))),
    responses((status = 204, description = "It is ended, or what undoes it goes on by itself")),
)]
async fn cancel_turn(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(id, Number(number)): AtBoth<SessionId, Number>,
) -> Answer {
    api.sessions.cancel_turn(&caller, &id, number).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// To whom a conversation is handed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ToWhom {
    /// An agent of the workflow's `hand-off`.
    #[schema(value_type = String, example = "refunds")]
    to: AgentName,
    /// Why, for people; 1 to 1024 bytes, without control characters.
    #[schema(example = "The customer asked for a person who knows refunds")]
    reason: String,
}

impl Document for ToWhom {
    const FOR: Action = Action::Run;
}

/// Hand a session's conversation on
///
/// Between two turns: from the next one on that agent holds it. The workflow that answers has a `hand-off` at its root, and the agent is one of its `among`. Who
/// opened the session may, and keys of the roles author and admin.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/hand-off", tag = "sessions", request_body = ToWhom,
    params(("id" = String, Path, description = "The session")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["bad-json", "invalid", "session-over", "conflict", "busy"]))),
    responses((status = 200, description = "As it stands now", body = Session)),
)]
async fn hand_over(
    State(api): State<Api>,
    By(caller): By,
    At(id): At<SessionId>,
    Json(ToWhom { to, reason }): Json<ToWhom>,
) -> Answer {
    let session = api.sessions.hand_over(&caller, &id, to, reason).await?;
    Ok(axum::Json(Session::of(session, api.clock.now())).into_response())
}

/// To where a session is taken back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ToTurn {
    /// Its last turn that counts; 0: none. One of the last 100.
    #[schema(example = 3)]
    to: u32,
}

impl Document for ToTurn {
    const FOR: Action = Action::Run;
}

/// A session that was taken back.
#[derive(Serialize, ToSchema)]
struct RewoundSession {
    /// As it stands.
    session: Session,
    /// How many turns are no part of its conversation any more.
    turns: usize,
    /// How many keys of its memory are as they were.
    keys: usize,
    /// What these turns did elsewhere, which stays; at most 100.
    stays: Vec<StaysThere>,
    /// How many more there are.
    more: usize,
}

/// Something that a turn did outside of its session's memory.
#[derive(Serialize, ToSchema)]
struct StaysThere {
    /// The turn's number in the session.
    turn: u32,
    /// By which host call; `emit` and `run` for what its workflow published or began itself.
    #[schema(example = "memory.put")]
    call: String,
    /// What that was about.
    #[schema(example = "global/orders (12 bytes)")]
    about: String,
}

/// Take a session back
///
/// Between two turns: its memory, and who holds its conversation, are as they were after that turn, and later turns are no part of the conversation any more. What these
/// did elsewhere (global memory, messages, the graph, notes, other runs) stays, and is told. Who opened the session may, and keys of the roles author and admin.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/rewind", tag = "sessions", request_body = ToTurn,
    params(("id" = String, Path, description = "The session")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["bad-json", "invalid", "session-over", "conflict", "busy"]))),
    responses((status = 200, body = RewoundSession)),
)]
async fn rewind(
    State(api): State<Api>,
    By(caller): By,
    At(id): At<SessionId>,
    Json(ToTurn { to }): Json<ToTurn>,
) -> Answer {
    let rewound = api.sessions.rewind(&caller, &id, to).await?;
    let stays = rewound.stays.into_iter().map(|it| StaysThere { turn: it.turn, call: it.call, about: it.about });
    Ok(axum::Json(RewoundSession {
        session: Session::of(rewound.session, api.clock.now()),
        turns: rewound.turns,
        keys: rewound.keys,
        stays: stays.collect(),
        more: rewound.more,
    })
    .into_response())
}

/// Where a session is forked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ForkAt {
    /// The last turn that the new one has, too, one of the last 100; the last that is over if left out.
    #[schema(example = 3)]
    at: Option<u32>,
    /// For people; at most 200 bytes. That of the session that is forked if left out.
    title: Option<String>,
}

impl Document for ForkAt {
    const FOR: Action = Action::Run;
}

/// Fork a session
///
/// A new session with the same settings, which begins with what was said up to a turn, and with the memory, and the holder of the conversation, of then. What waits, is asked, or comes
/// later in the one that is forked is nothing of the new one. Who may say something in the session may.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/fork", tag = "sessions", request_body = ForkAt,
    params(("id" = String, Path, description = "The session")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["bad-json", "invalid", "conflict"]))),
    responses((status = 201, description = "It is open", body = Session, headers(("Location" = String, description = "The new session")))),
)]
async fn fork(
    State(api): State<Api>,
    By(caller): By,
    At(id): At<SessionId>,
    Json(ForkAt { at, title }): Json<ForkAt>,
) -> Answer {
    let session = api.sessions.fork(&caller, &id, at, titled(title)?).await?;
    let location = HeaderValue::try_from(format!("/v1/sessions/{}", session.id)).map_err(Problem::internal)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(Session::of(session, api.clock.now())))
        .into_response())
}

/// How a session is closed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct How {
    /// `drain` (turns that it has come to their end; so it is if left out) or `cancel` (they are ended).
    #[param(value_type = Option<String>, example = "drain")]
    turns: Option<TurnsOfClosed>,
}

/// What becomes of the turns of a session that is closed.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum TurnsOfClosed {
    Drain,
    Cancel,
}

/// Close a session
///
/// It takes no more turns. Who opened it may, and keys of the roles author and admin.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/close", tag = "sessions", params(("id" = String, Path, description = "The session"), How),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["session-over", "conflict"]))),
    responses((status = 200, description = "As it stands now: `closing` while it has turns, `closed` after that", body = Session)),
)]
async fn close(State(api): State<Api>, By(caller): By, At(id): At<SessionId>, Asked(how): Asked<How>) -> Answer {
    let closing = match how.turns {
        None | Some(TurnsOfClosed::Drain) => Closing::Drain,
        Some(TurnsOfClosed::Cancel) => Closing::Cancel,
    };
    let session = api.sessions.close(&caller, &id, closing).await?;
    Ok(axum::Json(Session::of(session, api.clock.now())).into_response())
}
