//! A session as one document: what it was opened with, where it stands, what was said in it, and its memory where that was archived.

use axum::extract::State;
use ltmc_model::SessionId;
use ltmc_orchestration::TurnView;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Session;
use super::turns::{Turn, next};
use crate::answers::PAGE;
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, By};
use crate::page;
use crate::problem::Problem;

const EXPORT: &str = "session-export";
/// Turns of one answer.
const MOST_TURNS: usize = 1_000;
/// Bytes of what was said and answered in one, where one turn is not larger by itself.
const MOST_BYTES: usize = 8 << 20;

/// Which turns of a long conversation are given.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Since {
    /// The `next` of the part before.
    cursor: Option<String>,
}

/// A session, whole.
#[derive(Serialize, ToSchema)]
pub(super) struct ExportedSession {
    /// What it was opened with, and where it stands.
    session: Session,
    /// What was said, turn by turn.
    turns: Vec<Turn>,
    /// What its memory held, where it was archived: `{"archived-at", "keys": [{"key", "value"}]}`, each value with its content type and one of `json`, `text` and `base64`.
    #[schema(value_type = Option<Object>, required)]
    memory: Option<Value>,
    /// Where the rest of its turns is, as `cursor`; none: these are all.
    #[schema(required)]
    next: Option<String>,
}

/// Export a session
///
/// The whole conversation as a document: the session, its turns and, where its memory was archived, what that held. An answer has at most 1,000 turns and about 8 MiB; `next` leads to the
/// rest.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/export", tag = "sessions", params(("id" = String, Path, description = "Its id"), Since),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = ExportedSession)),
)]
pub(super) async fn export(
    State(api): State<Api>,
    By(caller): By,
    At(id): At<SessionId>,
    Asked(since): Asked<Since>,
) -> Answer {
    let room = api.answers.room(&caller, PAGE)?;
    // Of another session's a cursor is none.
    let place = format!("{EXPORT}/{id}");
    let after = since.cursor.as_deref().map(|cursor| page::open::<u32>(&place, cursor)).transpose()?;
    let session = api.sessions.get(&caller, &id).await?;
    let memory = match after {
        None => api.sessions.archive(&caller, &id).await?,
        Some(_) => None,
    };
    let (mut after, mut bytes, mut more) = (after.unwrap_or(0), 0, false);
    let mut turns: Vec<TurnView> = Vec::new();
    while let Some(view) = next(&api, &caller, &id, after).await? {
        if turns.len() == MOST_TURNS || bytes > MOST_BYTES {
            more = true;
            break;
        }
        let output = view.result.as_ref().and_then(|result| result.as_ref().ok());
        bytes += view.input.bytes.len() + output.map_or(0, |output| output.bytes.len());
        after = view.turn.number;
        turns.push(view);
    }
    let next = more.then(|| page::seal(&place, &after.to_string()));
    let memory = memory.map(|document| serde_json::from_str(&document)).transpose().map_err(Problem::internal)?;
    let turns = turns.into_iter().map(Turn::from).collect();
    room.json(&ExportedSession { session: Session::of(session, api.clock.now()), turns, memory, next })
}
