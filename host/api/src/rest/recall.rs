//! Recall: texts kept, forgotten, and found by what they mean.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use ltmc_context::clients::Owner;
use ltmc_model::call::recall as call;
use ltmc_model::recall::Metadata;
use ltmc_policy::Action;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::context::{marked, refused};
use crate::answers::PAGE;
use crate::app::{Answer, Api};
use crate::extract::{At, By, Document, Json};
use crate::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(remember, forget)).routes(routes!(search))
}

/// A text to be found again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewNote {
    /// At most 64 KiB.
    text: String,
    /// At most 16 names with their values.
    #[serde(default)]
    #[schema(value_type = Object, example = json!({"file": "docs/durability.md"}))]
    metadata: Metadata,
}

impl Document for NewNote {
    const FOR: Action = Action::WriteContext;
}

impl NewNote {
    pub(super) fn call(self, id: String) -> call::Remember {
        call::Remember { id, text: self.text, metadata: self.metadata }
    }
}

/// A note as it is kept.
#[derive(Serialize, ToSchema)]
struct Kept {
    /// Its version.
    revision: u64,
}

/// Keep a text
///
/// What was there under this id is replaced.
#[utoipa::path(
    put, path = "/v1/recall/{id}", tag = "context",
    params(("id" = String, Path, description = "The note's id, percent-encoded", example = "durability")), request_body = NewNote,
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["invalid"]))),
    responses((status = 200, body = Kept)),
)]
async fn remember(State(api): State<Api>, By(caller): By, At(id): At<String>, Json(note): Json<NewNote>) -> Answer {
    let revision = api.clients.call(&caller, &Owner::default(), note.call(id)).await?.map_err(refused)?;
    Ok(axum::Json(Kept { revision: revision.0 }).into_response())
}

/// Forget a text
#[utoipa::path(
    delete, path = "/v1/recall/{id}", tag = "context",
    params(("id" = String, Path, description = "The note's id, percent-encoded", example = "durability")),
    extensions(("x-ltmc-role" = json!(["admin", "author"]))),
    responses((status = 204, description = "Forgotten")),
)]
async fn forget(State(api): State<Api>, By(caller): By, At(id): At<String>) -> Answer {
    let call = call::Forget { id: id.clone() };
    match api.clients.call(&caller, &Owner::default(), call).await?.map_err(refused)? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Problem::new("not-found", format!("There is no note `{id}`."))),
    }
}

/// A question.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Question {
    #[schema(example = "how are retries bounded?")]
    query: String,
    /// At most so many hits, 1 to 100.
    #[serde(default = "Question::limit")]
    #[schema(minimum = 1, maximum = 100, default = 5)]
    limit: u32,
    /// Only notes that have all of these metadata.
    #[serde(default)]
    #[schema(value_type = Object)]
    filter: Metadata,
}

impl Document for Question {
    const FOR: Action = Action::ReadContext;
}

impl Question {
    fn limit() -> u32 {
        5
    }
}

/// What was found.
#[derive(Serialize, ToSchema)]
struct Found {
    /// The nearest first; of each note its nearest passage.
    hits: Vec<Hit>,
}

/// A passage.
#[derive(Serialize, ToSchema)]
struct Hit {
    /// The note.
    id: String,
    /// The passage of it that is nearest.
    text: String,
    #[schema(value_type = Object)]
    metadata: Metadata,
    /// Cosine of the angle between question and passage: 1 is the same, 0 is unrelated.
    score: f32,
}

/// Search by meaning
///
/// `Ltmc-Degraded: true` says that what was kept last may be missing, for its vectors were not made in time.
#[utoipa::path(
    post, path = "/v1/recall/search", tag = "context", request_body = Question,
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"])), ("x-ltmc-codes" = json!(["invalid"]))),
    responses((status = 200, body = Found)),
)]
async fn search(State(api): State<Api>, By(caller): By, Json(question): Json<Question>) -> Answer {
    let room = api.answers.room(&caller, PAGE)?;
    let Question { query, limit, filter } = question;
    let call = call::Search { query, filter, limit };
    let found = api.clients.call(&caller, &Owner::default(), call).await?.map_err(refused)?;
    let hit =
        |hit: ltmc_model::recall::Hit| Hit { id: hit.id, text: hit.text, metadata: hit.metadata, score: hit.score };
    marked(room, found.degraded, &Found { hits: found.hits.into_iter().map(hit).collect() })
}
