//! Transactions: several changes of shared context that become true together, or not at all.

use axum::extract::State;
use axum::response::IntoResponse as _;
use base64::Engine as _;
use ltmc_context::clients::{MAX_CALLS, Owner};
use ltmc_model::Revision;
use ltmc_model::call::{Call, memory, recall};
use ltmc_model::effect::Reply;
use ltmc_model::memory::{Precondition, Scope};
use ltmc_policy::Action;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::context::refused;
use super::graph::{Ending, NewFact};
use super::memory::{Entry, Rule, owner, ttl};
use super::messages::NewEvent;
use super::recall::NewNote;
use crate::app::{Answer, Api};
use crate::extract::{By, Document, Json};
use crate::problem::{Problem, Result};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(transact))
}

/// Changes that become true together, or not at all.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTransaction {
    /// 1 to 100, done in this order: each sees what those before it did.
    #[serde(deserialize_with = "bounded")]
    operations: Vec<Operation>,
}

impl Document for NewTransaction {
    const FOR: Action = Action::WriteContext;
}

/// A list that is refused at the first operation too many, before there is memory for the rest.
fn bounded<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<Operation>, D::Error> {
    struct Bounded;
    impl<'de> Visitor<'de> for Bounded {
        type Value = Vec<Operation>;

        fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(to, "a list of 1 to {MAX_CALLS} operations")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Self::Value, A::Error> {
            let mut operations = Vec::new();
            while let Some(operation) = list.next_element()? {
                if operations.len() == MAX_CALLS {
                    return Err(A::Error::custom(format!("a transaction has 1 to {MAX_CALLS} operations")));
                }
                operations.push(operation);
            }
            Ok(operations)
        }
    }
    from.deserialize_seq(Bounded)
}

/// One change: what the route of the same kind does.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Operation {
    /// Write a key.
    Put(Put),
    /// Make a key's new value of the one before.
    Update(Update),
    /// Delete a key.
    Delete(Delete),
    /// Tell a fact.
    Relate(NewFact),
    /// End a fact.
    Unrelate(Ending),
    /// Keep a text.
    Remember(Remember),
    /// Forget a text.
    Forget(Forget),
    /// Send a message `to` an agent.
    Send(NewEvent),
    /// Publish an event on a `topic`.
    Publish(NewEvent),
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Put {
    /// `global`, `session` or `agent`.
    #[schema(value_type = String, example = "global")]
    scope: Scope,
    /// The session or the agent whose scope it is; none for `global`.
    owner: Option<String>,
    #[schema(example = "plan/today")]
    key: String,
    /// The value, as JSON.
    #[schema(value_type = Option<Object>)]
    json: Option<serde_json::Value>,
    /// The value, where it is no JSON.
    base64: Option<String>,
    /// Only where this is its revision.
    if_revision: Option<u64>,
    /// Only where nothing is there.
    #[serde(default)]
    if_absent: bool,
    /// How long it lives, such as `30s`; none: for ever.
    ttl: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Update {
    /// `global`, `session` or `agent`.
    #[schema(value_type = String, example = "global")]
    scope: Scope,
    /// The session or the agent whose scope it is; none for `global`.
    owner: Option<String>,
    #[schema(example = "count")]
    key: String,
    /// One of `increment`, `append`, `union`, `merge-patch`, `set`.
    #[schema(value_type = Object, example = json!({"increment": 1}))]
    rule: Rule,
    /// How long it lives, such as `30s`; none: for ever.
    ttl: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Delete {
    /// `global`, `session` or `agent`.
    #[schema(value_type = String, example = "global")]
    scope: Scope,
    /// The session or the agent whose scope it is; none for `global`.
    owner: Option<String>,
    #[schema(example = "plan/today")]
    key: String,
    /// Only where this is its revision.
    if_revision: Option<u64>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Remember {
    /// The note's id.
    #[schema(example = "durability")]
    id: String,
    /// What is kept.
    note: NewNote,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Forget {
    /// The note's id.
    #[schema(example = "durability")]
    id: String,
}

/// What became true.
#[derive(Serialize, ToSchema)]
struct Transaction {
    /// What each operation was answered, in order.
    results: Vec<Done>,
}

/// What an operation was answered: one of these.
#[derive(Serialize, ToSchema, Default)]
struct Done {
    /// Of what was written, told, sent or published: its revision or id.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// Of an update: the entry as it now is.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<Entry>,
    /// Of what was to be deleted, ended or forgotten: whether it was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    existed: Option<bool>,
}

/// Change several things at once
///
/// All of them or none: where one is refused, `field` says which, such as `operations/2`, and nothing has changed. Nobody sees
/// some of them without the others. What was decided on what others changed meanwhile is decided anew.
#[utoipa::path(
    post, path = "/v1/transactions", tag = "context", request_body = NewTransaction,
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["invalid", "not-found", "precondition-failed", "quota-exceeded"]))),
    responses((status = 200, body = Transaction)),
)]
async fn transact(State(api): State<Api>, By(caller): By, Json(asked): Json<NewTransaction>) -> Answer {
    let calls = asked.operations.into_iter().enumerate();
    let calls = calls.map(|(number, operation)| operation.call().map_err(|problem| problem.within(place(number))));
    let done = api.clients.transact(&caller, calls.collect::<Result<_>>()?).await?;
    let replies = done.map_err(|(number, refusal)| refused(refusal).field(place(number)))?;
    Ok(axum::Json(Transaction { results: replies.into_iter().map(Done::from).collect() }).into_response())
}

fn place(number: usize) -> String {
    format!("operations/{number}")
}

impl Operation {
    fn call(self) -> Result<(Owner, Call)> {
        let tenants = Owner::default();
        Ok(match self {
            Self::Put(put) => {
                let precondition = precondition(put.if_revision, put.if_absent)?;
                let value = match (put.json, put.base64) {
                    (Some(json), None) => json.to_string().into(),
                    (None, Some(text)) => bytes_of(&text)?.into(),
                    _ => return Err(Problem::new("bad-json", "A value is either `json` or `base64`.")),
                };
                let ttl_ms = ttl(put.ttl.as_deref())?;
                let call = memory::Put { scope: put.scope, key: put.key, value, precondition, ttl_ms };
                (owner(put.scope, put.owner)?, call.into())
            }
            Self::Update(Update { scope, owner: of, key, rule, ttl: lives }) => {
                let call = memory::Update { scope, key, merge: rule.into(), ttl_ms: ttl(lives.as_deref())? };
                (owner(scope, of)?, call.into())
            }
            Self::Delete(Delete { scope, owner: of, key, if_revision }) => {
                let call = memory::Delete { scope, key, precondition: precondition(if_revision, false)? };
                (owner(scope, of)?, call.into())
            }
            Self::Relate(fact) => (tenants, fact.call().into()),
            Self::Unrelate(ending) => (tenants, ending.call().into()),
            Self::Remember(Remember { id, note }) => (tenants, note.call(id).into()),
            Self::Forget(Forget { id }) => (tenants, recall::Forget { id }.into()),
            Self::Send(event) => (tenants, event.send()?.into()),
            Self::Publish(event) => (tenants, event.publish()?.into()),
        })
    }
}

fn precondition(revision: Option<u64>, is_absent: bool) -> Result<Precondition> {
    match (revision, is_absent) {
        (None, false) => Ok(Precondition::Any),
        (None, true) => Ok(Precondition::Absent),
        (Some(revision), false) => Ok(Precondition::Revision(Revision(revision))),
        (Some(_), true) => Err(Problem::new("bad-json", "One of `if-revision` and `if-absent`, not both.")),
    }
}

fn bytes_of(text: &str) -> Result<Vec<u8>> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    bytes.map_err(|_| Problem::new("bad-json", "`base64` is not base64, with its padding, such as `aGVsbG8=`."))
}

impl From<Reply> for Done {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Revision(revision) => Self { revision: Some(revision.0), ..Self::default() },
            Reply::Item(item) => Self { entry: item.map(Entry::from), ..Self::default() },
            Reply::Existed(existed) => Self { existed: Some(existed), ..Self::default() },
            _ => Self::default(),
        }
    }
}
