//! Approvals: what runs ask people, listed, shown, answered.

use std::str::FromStr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use ltmc_model::question::{Asked as Question, Standing, Token};
use ltmc_model::{KeyId, Payload, RunId, StepPath, Timestamp};
use ltmc_orchestration::Answer as Given;
use ltmc_policy::Action;
use ltmc_ports::questions::QuestionFilter;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answers::ONE;
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, By, Document, Json};
use crate::page::{Page, Paging};

const LIST: &str = "approvals";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(get, answer))
}

/// An open question, as lists show it.
#[derive(Serialize, ToSchema)]
struct Approval {
    /// What it is answered by.
    #[schema(value_type = String)]
    token: Token,
    /// Which run asks.
    #[schema(value_type = String, format = Uuid)]
    run: RunId,
    /// Which node of it.
    #[schema(value_type = String, example = "0/1")]
    node: StepPath,
    /// What is asked, in a line.
    title: String,
    /// The smallest role that may answer: `admin`, `author` or `caller`.
    #[schema(value_type = String, example = "admin")]
    of: ltmc_model::caller::Role,
    /// Whose key started the run.
    #[schema(value_type = String)]
    by: KeyId,
    /// When it was asked.
    #[schema(value_type = String, format = DateTime)]
    asked_at: Timestamp,
}

impl From<Question> for Approval {
    fn from(asked: Question) -> Self {
        let Question { token, run, node, by, at, question, .. } = asked;
        Self { token, run, node, title: question.title, of: question.of, by, asked_at: at }
    }
}

/// Where a question stands in a list.
struct Place(Timestamp, Token);

impl FromStr for Place {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, token) = text.split_once('-').ok_or(())?;
        let at = Timestamp::from_millis(at.parse().map_err(drop)?);
        Ok(Self(at, token.parse().map_err(drop)?))
    }
}

/// List open questions
///
/// Those that the key may answer, the oldest first: of its role and of smaller ones; a key of the role `caller` has those of its own runs.
#[utoipa::path(
    get, path = "/v1/approvals", tag = "approvals", params(Paging),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"]))),
    responses((status = 200, body = Page<Approval>)),
)]
async fn list(State(api): State<Api>, By(caller): By, Asked(paging): Asked<Paging>) -> Answer {
    let limit = paging.limit()?;
    let after = paging.after::<Place>(LIST)?.map(|Place(at, token)| (at, token));
    let filter = QuestionFilter { after, limit: limit + 1, ..QuestionFilter::default() };
    let found = api.runs.questions(&caller, filter).await?;
    let place = |asked: &Question| format!("{}-{}", asked.at.millis(), asked.token);
    Ok(axum::Json(Page::of(LIST, limit, found, place, Approval::from)).into_response())
}

/// A question, with all that is shown to whoever answers.
#[derive(Serialize, ToSchema)]
struct Whole {
    #[serde(flatten)]
    asked: Approval,
    /// What became of it: `open`, `answered`, `withdrawn`, or `over`: its run is.
    #[schema(value_type = String, example = "open")]
    state: Standing,
    /// Until when it can be answered; none: as long as its run waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// What is shown: its content type, and `json`, `text` or `base64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    show: Option<Payload>,
    /// The JSON Schema that the answer has to fit; none: any JSON does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    schema: Option<Value>,
    /// What was answered, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    answered: Option<Answered>,
}

/// An answer that was given.
#[derive(Serialize, ToSchema)]
struct Answered {
    /// Whose key gave it.
    #[schema(value_type = String)]
    by: KeyId,
    /// When the answer was given.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What it is.
    #[schema(value_type = Object, example = json!(true))]
    answer: Value,
    /// What was said besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

impl From<ltmc_orchestration::Answered> for Answered {
    fn from(answered: ltmc_orchestration::Answered) -> Self {
        let ltmc_orchestration::Answered { by, at, answer, comment } = answered;
        Self { by, at, answer, comment }
    }
}

/// Show a question
///
/// With what it shows and what an answer has to be. Of one that is open no more both are gone, and the run's journal has them; of one that was
/// answered there is the answer, who gave it, and when.
#[utoipa::path(
    get, path = "/v1/approvals/{token}", tag = "approvals",
    params(("token" = String, Path, description = "The question")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["busy"]))),
    responses((status = 200, body = Whole)),
)]
async fn get(State(api): State<Api>, By(caller): By, At(token): At<Token>) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    let mut asked = api.runs.question(&caller, &token).await?;
    let schema = asked.question.schema.take().and_then(|text| serde_json::from_str(&text).ok());
    let (show, until, state) = (asked.question.show.take(), asked.question.until, asked.standing);
    let answered = api.runs.answered(&caller, &token).await?.map(Answered::from);
    room.json(&Whole { asked: asked.into(), state, until, show, schema, answered })
}

/// An answer.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAnswer {
    /// What is answered: any JSON that fits the question's schema, of at most 64 KiB.
    #[schema(value_type = Object, example = json!(true))]
    answer: Value,
    /// What is said besides, of at most 4 KiB: it stands in the run's journal.
    comment: Option<String>,
}

impl Document for NewAnswer {
    const FOR: Action = Action::Answer;
}

/// Answer a question
///
/// Once: the first answer counts, and the run goes on with it.
#[utoipa::path(
    post, path = "/v1/approvals/{token}", tag = "approvals", request_body = NewAnswer,
    params(("token" = String, Path, description = "The question")),
    extensions(
        ("x-ltmc-role" = json!(["admin", "author", "caller"])),
        ("x-ltmc-codes" = json!(["bad-answer", "already-answered", "question-closed", "conflict", "busy"])),
    ),
    responses((status = 204, description = "Taken")),
)]
async fn answer(
    State(api): State<Api>,
    By(caller): By,
    At(token): At<Token>,
    Json(NewAnswer { answer, comment }): Json<NewAnswer>,
) -> Answer {
    api.runs.answer(&caller, token, Given { answer, comment }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
