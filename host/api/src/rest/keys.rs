//! Keys: made, listed, taken back. A key's text is seen once, in the answer that made it; its hash never.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use ltmc_model::caller::Role;
use ltmc_model::tenancy;
use ltmc_model::{KeyId, TenantId, Timestamp};
use ltmc_policy::Action;
use ltmc_ports::Clock;
use ltmc_tenancy::access::NewKey;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{Answer, Api};
use crate::extract::{Asked, At, By, Document, Json};
use crate::page::{Page, Paging};
use crate::problem::{Problem, Result};

const LIST: &str = "keys";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(list, create)).routes(routes!(revoke))
}

/// A key, without its secret.
#[derive(Serialize, ToSchema)]
struct Key {
    /// Its public half.
    #[schema(value_type = String, example = "k3v9x0q2m7ab")]
    id: KeyId,
    /// Whose it is; none: the operator's.
    #[schema(value_type = Option<String>, required, example = "acme")]
    tenant: Option<TenantId>,
    /// What it may do: `operator`, `admin`, `author`, `caller` or `viewer`.
    #[schema(value_type = String, example = "author")]
    role: Role,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// From when on it is refused.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
    /// When it was taken back.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    revoked_at: Option<Timestamp>,
}

impl From<tenancy::Key> for Key {
    fn from(key: tenancy::Key) -> Self {
        Self {
            id: key.id,
            tenant: Some(key.tenant).filter(|tenant| *tenant != TenantId::host()),
            role: key.role,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
        }
    }
}

/// A key just made.
#[derive(Serialize, ToSchema)]
struct MadeKey {
    /// The whole key: what `Authorization: Bearer` takes. It is not shown again.
    #[schema(example = "ltmc_k3v9x0q2m7ab_…")]
    key: String,
    /// The rest of it.
    #[serde(flatten)]
    about: Key,
}

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WantedKey {
    /// For which tenant; left out: the tenant of the key that asks.
    #[schema(value_type = Option<String>, example = "acme")]
    tenant: Option<TenantId>,
    /// What it may do: `operator`, `admin`, `author`, `caller` or `viewer`.
    #[schema(value_type = String, example = "author")]
    role: Role,
    /// When it ends: a time as RFC 3339 writes it, or a duration from now on such as `30d`; left out: never.
    #[schema(example = "30d")]
    expires: Option<String>,
}

impl Document for WantedKey {
    const FOR: Action = Action::ManageKeys;
}

/// Which keys to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Of which tenant; left out: of the key's own.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantId>,
    /// Items of a page, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// List keys
#[utoipa::path(
    get, path = "/v1/keys", tag = "tenants", params(Which),
    extensions(("x-ltmc-role" = json!(["operator", "admin"]))),
    responses((status = 200, body = Page<Key>)),
)]
async fn list(State(api): State<Api>, By(caller): By, Asked(which): Asked<Which>) -> Answer {
    let paging = Paging { limit: which.limit, cursor: which.cursor };
    let limit = paging.limit()?;
    let found = api.access.keys(&caller, which.tenant.as_ref(), paging.after(LIST)?.as_ref(), limit + 1).await?;
    let page = Page::of(LIST, limit, found, |key| key.id.to_string(), Key::from);
    Ok(axum::Json(page).into_response())
}

/// Make a key
///
/// Its text is in this answer and nowhere else ever after.
#[utoipa::path(
    post, path = "/v1/keys", tag = "tenants", request_body = WantedKey,
    extensions(("x-ltmc-role" = json!(["operator", "admin"]))),
    responses((status = 201, body = MadeKey)),
)]
async fn create(State(api): State<Api>, By(caller): By, Json(wanted): Json<WantedKey>) -> Answer {
    let expires_at = wanted.expires.as_deref().map(|text| expiry(text, api.clock.as_ref())).transpose()?;
    let new = NewKey { tenant: wanted.tenant, role: wanted.role, expires_at };
    let (about, key) = api.access.create_key(&caller, new).await?;
    Ok((StatusCode::CREATED, axum::Json(MadeKey { key, about: about.into() })).into_response())
}

/// Take a key back
///
/// It is refused from now on.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "tenants",
    params(("id" = String, Path, description = "The key's public half", example = "k3v9x0q2m7ab")),
    extensions(("x-ltmc-role" = json!(["operator", "admin"]))),
    responses((status = 204, description = "Taken back")),
)]
async fn revoke(State(api): State<Api>, By(caller): By, At(id): At<KeyId>) -> Answer {
    api.access.revoke_key(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn expiry(text: &str, clock: &dyn Clock) -> Result<Timestamp> {
    let now = clock.now();
    let at = match humantime::parse_duration(text) {
        Ok(span) => now.after(span),
        Err(_) => serde_json::from_value(text.into()).map_err(|_| {
            let why = format!("`{text}` is neither a time (2027-01-31T12:00:00Z) nor a duration (30d, 12h).");
            Problem::new("bad-json", why).field("expires")
        })?,
    };
    if at <= now {
        return Err(Problem::new("bad-json", format!("`{text}` is not in the future.")).field("expires"));
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Noon;
    const NOON: Timestamp = Timestamp::from_millis(1_795_521_600_000);

    impl Clock for Noon {
        fn now(&self) -> Timestamp {
            NOON
        }
    }

    #[test]
    fn an_expiry_is_a_time_or_a_duration() {
        assert_eq!(expiry("30d", &Noon).unwrap(), NOON.after(Duration::from_secs(30 * 24 * 3600)));
        assert_eq!(expiry("1h 30m", &Noon).unwrap(), NOON.after(Duration::from_secs(5400)));
        assert_eq!(expiry("2027-01-31T12:00:00Z", &Noon).unwrap().to_string(), "2027-01-31T12:00:00.000Z");
        for bad in ["", "soon", "0s", "-1d", "2020-01-01T00:00:00Z", "99999999999999999999y"] {
            assert!(expiry(bad, &Noon).is_err(), "{bad}");
        }
    }
}
