//! Turns of a session: said, looked at, ended.

use std::str::FromStr;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse as _;
use ltmc_model::caller::Caller;
use ltmc_model::failure::Failure;
use ltmc_model::hand_off::HandedOff;
use ltmc_model::run::State as RunState;
use ltmc_model::session::Stage;
use ltmc_model::{AgentName, KeyId, Payload, RunId, SessionId, Timestamp};
use ltmc_orchestration::{SayRequest, TurnView};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::answers::PAGE;
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, AtBoth, By};
use crate::headers::{LTMC_TURN, Prefer};
use crate::page::{self, Page};
use crate::problem::{Problem, Result};
use crate::rest::call::{Wait, Work, finish};

const TURNS: &str = "turns";
/// Turns of a page, each with what was said and answered.
const MOST_TURNS: u32 = 100;
/// Bytes of what was said and answered that a page has, where one turn is not larger by itself.
const PAGE_BYTES: usize = 1 << 20;

/// A turn: what was said, and what was answered.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Turn {
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
    /// The agent that a person handed the conversation to before it.
    #[schema(value_type = Option<String>, required)]
    handed_over: Option<AgentName>,
    /// The agent that answered, of one that is over: who held the conversation at its end, or who answers here.
    #[schema(value_type = Option<String>, required)]
    answered_by: Option<AgentName>,
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
    fn from(TurnView { turn, at, input, state, result, hand_offs, first }: TurnView) -> Self {
        let given = turn.holder.as_ref().filter(|holder| holder.run.is_none() && holder.since == turn.number);
        let handed_over = given.map(|holder| holder.agent.clone());
        let last = hand_offs.last().map(|one| one.to.clone());
        let answered_by = last.or(first).filter(|_| result.as_ref().is_some_and(std::result::Result::is_ok));

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
            handed_over,
            answered_by,
            undone: turn.undone,
        }
    }
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
pub(super) async fn say(State(api): State<Api>, By(caller): By, At(id): At<SessionId>, request: Request) -> Answer {
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
pub(super) struct WhichTurns {
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
pub(super) async fn history(
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

pub(super) async fn next(api: &Api, caller: &Caller, id: &SessionId, after: u32) -> Result<Option<TurnView>> {
    Ok(api.sessions.history(caller, id, after, 1).await?.into_iter().next())
}

/// A turn's number, from a path.
pub(super) struct Number(u32);

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
pub(super) async fn cancel_turn(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(id, Number(number)): AtBoth<SessionId, Number>,
) -> Answer {
    api.sessions.cancel_turn(&caller, &id, number).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
