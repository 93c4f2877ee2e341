//! Sessions: opened, spoken to, looked at, closed.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse as _;
use ltmc_model::agent::AgentRef;
use ltmc_model::run::Target;
use ltmc_model::session::{
    IfBusy, Keep, MAX_PARTICIPANTS, MAX_QUEUE, MAX_TIME, MAX_TITLE, MIN_TIME, Part, Remains, Session as Stored,
    Settings, Standing,
};
use ltmc_model::{AgentName, Digest, KeyId, RunId, SessionId, Timestamp, WorkflowName};
use ltmc_orchestration::Closing;
use ltmc_policy::Action;
use ltmc_ports::sessions::SessionFilter;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answers::{ONE, PAGE};
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, By, Document, Json};
use crate::headers;
use crate::page::{self, Page};
use crate::problem::{Problem, Result};

mod conflicts;
mod holding;
mod participants;
mod rewind;
mod turns;
mod whole;

const LIST: &str = "sessions";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(list, open))
        .routes(routes!(get))
        .routes(routes!(turns::history, turns::say))
        .routes(routes!(turns::cancel_turn))
        .routes(routes!(holding::hand_over))
        .routes(routes!(rewind::rewind))
        .routes(routes!(rewind::fork))
        .routes(routes!(close))
        .routes(routes!(conflicts::conflicts))
        .routes(routes!(participants::list))
        .routes(routes!(participants::put, participants::remove))
        .routes(routes!(whole::export))
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
    /// The agent that sums it up when it is closed, in a turn of its own: a name, for its newest version then, or `name@sha256:…`.
    #[schema(value_type = Option<String>, example = "summarizer")]
    summary: Option<AgentRef>,
    /// What becomes of its memory once it is over: `always` (it stays, and is only read; so it is if left out), a time (it stays for that long, and is forgotten
    /// then), `archive` (it becomes one document, which `export` gives, and is forgotten as memory) or `forget`.
    #[schema(example = "30days")]
    keep: Option<String>,
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
        let keep = self.keep.as_deref().map(str::parse::<Keep>).transpose();
        let keep = keep.map_err(|why| wrong("keep", format!("{why}.")))?.unwrap_or_default();
        Ok(Settings {
            with,
            if_busy: self.if_busy.unwrap_or_default(),
            queue,
            idle: time("idle", self.idle.as_deref(), Settings::IDLE)?,
            turn: time("turn", self.turn.as_deref(), Settings::TURN)?,
            title,
            participants,
            summary: self.summary,
            keep,
        })
    }
}

/// A title within its bounds; an empty one is none.
fn titled(title: Option<String>) -> Result<Option<String>> {
    let title = title.filter(|title| !title.trim().is_empty());
    // Separators of lines and paragraphs, and what turns the direction of a text around, are none of `is_control`.
    let breaks = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if title.as_ref().is_some_and(|title| title.len() > MAX_TITLE || title.chars().any(breaks)) {
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
    /// Who holds its conversation: shown alone, the agent that has the next turn, as the workflow's document is now; in a list and after a change whom it was handed to last. None: it was
    /// not handed on, or is no conversation that is.
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
    /// The agent that sums it up when it is closed.
    #[schema(value_type = Option<String>, required)]
    summary: Option<AgentRef>,
    /// The number of the turn that sums it up, once there is one.
    #[schema(required)]
    summary_turn: Option<u32>,
    /// What becomes of its memory once it is over.
    #[schema(example = "always")]
    keep: String,
    /// What became of it: `kept` (it is there), `archived`, `forgotten`, or `too-large` (it was to be archived, is more than an archive holds, and stays).
    #[schema(example = "kept")]
    memory: &'static str,
    /// Since when it takes no more turns.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    closed_at: Option<Timestamp>,
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
            expires_at: session.due_at.filter(|_| session.standing == Standing::Open && session.active.is_none()),
            holder: session.holder.map(|holder| holder.agent),
            turns: session.turns,
            copied: session.copied,
            queued: session.queued,
            active: session.active.map(|it| Active { number: it.number, run: it.run, since: it.since }),
            epoch: session.epoch.0,
            summary: session.settings.summary,
            summary_turn: session.summary,
            keep: session.settings.keep.to_string(),
            memory: session.memory.map_or("kept", Remains::as_str),
            closed_at: session.closed_at,
        }
    }
}

/// Open a session
///
/// A conversation: each message is a turn, done by the agent or the workflow that answers, one after the other; they share the memory of the scope `session`.
#[utoipa::path(
    post, path = "/v1/sessions", tag = "sessions", request_body = NewSession,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters. The same key and request are the same session")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["bad-json", "invalid"]))),
    responses((status = 201, description = "It is open", body = Session, headers(("Location" = String, description = "The session")))),
)]
async fn open(State(api): State<Api>, By(caller): By, sent: HeaderMap, Json(wanted): Json<NewSession>) -> Answer {
    let settings = wanted.settings()?;
    let request = once(&sent, "open", &settings)?;
    let session = api.sessions.open(&caller, settings, request).await?;
    let location = HeaderValue::try_from(format!("/v1/sessions/{}", session.id)).map_err(Problem::internal)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(Session::of(session, api.clock.now())))
        .into_response())
}

/// What makes two requests for a new session the same, where the client says so.
fn once(sent: &HeaderMap, verb: &str, wanted: &impl Serialize) -> Result<Option<Digest>> {
    let Some(key) = headers::idempotency_key(sent)? else { return Ok(None) };
    let wanted = serde_json::to_string(wanted).map_err(Problem::internal)?;
    Ok(Some(Digest::of(format!("{verb}\n{key}\n{wanted}").as_bytes())))
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
    let session = api.sessions.get(&caller, &id).await?;
    let holder = api.sessions.holder(&session).await?;
    room.json(&Session { holder, ..Session::of(session, api.clock.now()) })
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
/// It takes no more turns. Those that it has come to their end, and one that sums it up follows where it was opened with `summary`; with `turns=cancel` they are ended, and none
/// follows. Who opened it may, and keys of the roles author and admin.
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
