//! What handlers take from a request: who asks, what for, and with what. Each refusal is a [`Problem`].
//!
//! Invariants: [`By`] stands first in every handler, and bodies are taken last. No body is read without a good key, and none
//! without naming the [`Action`] it is sent for, which the key's role must allow: what a request's head is refused for is
//! refused before its body has come.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};
use bytes::Bytes;
use ltmc_model::caller::{Caller, Cause};
use ltmc_policy::Action;
use ltmc_processor::Account;
use ltmc_tenancy::Error;
use ltmc_tenancy::compute::LARGE;
use serde::de::DeserializeOwned;

use crate::app::Api;
use crate::body::{Held, Incoming};
use crate::crowd::Connection;
use crate::headers;
use crate::problem::{Problem, Result};

/// Who asks: the caller that the bearer's key stands for.
#[derive(Debug)]
pub(crate) struct By(pub(crate) Caller);

impl FromRequestParts<Api> for By {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self> {
        let mut caller = api.access.authenticate(bearer(&parts.headers)?).await?;
        if let Some(connection) = parts.extensions.get::<Arc<Connection>>() {
            connection.bring(&caller)?;
        }
        if let Some(account) = parts.extensions.get::<Account>() {
            account.is_of(&caller.tenant);
        }
        tracing::Span::current().record("tenant", caller.tenant.as_str());
        caller.cause = cause(&parts.headers, &caller, api).await?.map(Box::new);
        // For whoever reads the body.
        parts.extensions.insert(caller.clone());
        Ok(Self(caller))
    }
}

/// What a request follows from: the client names the run in which it works, and the record says what that follows from.
async fn cause(headers: &HeaderMap, caller: &Caller, api: &Api) -> Result<Option<Cause>> {
    let run = headers::run(headers)?;
    let traceparent = headers::traceparent(headers).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let trail = match run {
        None if traceparent.is_none() => return Ok(None),
        None => None,
        Some(run) => api.runs.cause(caller, run).await.map_err(|error| match error {
            Error::NotFound { .. } => {
                Problem::new("bad-header", "`Ltmc-Run` names a run that is not there.").field("Ltmc-Run")
            }
            error => error.into(),
        })?,
    };
    Ok(Some(Cause { run, trail, traceparent }))
}

/// The longest key that is looked at.
const MAX_KEY: usize = 256;

fn bearer(headers: &HeaderMap) -> Result<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let how = "Every request under /v1 carries `Authorization: Bearer <key>`.";
    let (Some(value), None) = (given.next(), given.next()) else { return Err(Problem::unauthorized(how)) };
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim())
        .filter(|key| (1..=MAX_KEY).contains(&key.len()))
        .ok_or_else(|| Problem::unauthorized(how))
}

/// What a name or id in the path stands for.
#[derive(Debug)]
pub(crate) struct At<T>(pub(crate) T);

impl<T: FromStr<Err: fmt::Display>, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let params = params(parts, state).await?;
        parse(params.iter().next()).map(Self)
    }
}

/// What two of them stand for.
#[derive(Debug)]
pub(crate) struct AtBoth<A, B>(pub(crate) A, pub(crate) B);

impl<A: FromStr<Err: fmt::Display>, B: FromStr<Err: fmt::Display>, S: Send + Sync> FromRequestParts<S>
    for AtBoth<A, B>
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let params = params(parts, state).await?;
        let mut params = params.iter();
        Ok(Self(parse(params.next())?, parse(params.next())?))
    }
}

async fn params<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<RawPathParams> {
    RawPathParams::from_request_parts(parts, state).await.map_err(|e| Problem::new("bad-path", e.body_text()))
}

fn parse<T: FromStr<Err: fmt::Display>>(param: Option<(&str, &str)>) -> Result<T> {
    let (field, text) = param.ok_or_else(|| Problem::internal("a route lacks a parameter its handler takes"))?;
    text.parse().map_err(|e| Problem::new("bad-path", format!("{e}")).field(field.to_owned()))
}

/// The query string.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let Query(query) = Query::try_from_uri(&parts.uri).map_err(|e| {
            let why = std::error::Error::source(&e).map_or_else(|| e.body_text(), ToString::to_string);
            Problem::new("bad-query", why)
        })?;
        Ok(Self(query))
    }
}

/// What can be sent as a document in JSON.
pub(crate) trait Document: DeserializeOwned + Send + 'static {
    /// What is asked for with it.
    const FOR: Action;
}

/// A document in JSON.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Document> FromRequest<Api> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self> {
        may(request.extensions(), T::FOR, api).await?;
        let essence = media_type(request.headers());
        if !essence.is_some_and(|mime| mime.subtype() == mime::JSON || mime.suffix() == Some(mime::JSON)) {
            return Err(Problem::new("unsupported-media-type", "This route takes `Content-Type: application/json`."));
        }
        let caller = request.extensions().get::<Caller>().cloned();
        let (bytes, held) = whole(request, T::FOR, api.limits.document, api).await?;
        match caller {
            Some(caller) if bytes.len() > LARGE => {
                let parse = move || parsed(&held.around(bytes));
                Ok(Self(api.compute.run(&caller.tenant, parse).await??))
            }
            _ => parsed(&bytes).map(Self),
        }
    }
}

/// What a document says; or what is wrong with it, and where.
pub(crate) fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let read = &mut serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut *read).map_err(|e| {
        let field = e.path().to_string();
        let problem = Problem::new("bad-json", e.into_inner().to_string());
        if field == "." { problem } else { problem.field(field) }
    })?;
    read.end().map_err(|e| Problem::new("bad-json", e.to_string()))?;
    Ok(value)
}

/// A whole body of at most `limit` bytes, of a caller whose key is good still when it has come.
pub(crate) async fn whole(request: Request, action: Action, limit: u64, api: &Api) -> Result<(Bytes, Held)> {
    let (parts, incoming) = incoming(request, action, limit, api).await?;
    let whole = incoming.whole().await?;
    has_come(&parts, api).await?;
    Ok(whole)
}

/// Looks at a caller's key again once its body has come, which may take hours: it may have been taken back meanwhile.
pub(crate) async fn has_come(parts: &Parts, api: &Api) -> Result<()> {
    match parts.extensions.get::<Caller>() {
        Some(caller) => Ok(api.access.confirm(caller).await?),
        None => Err(Problem::internal("a body came without a key")),
    }
}

/// A body of at most `limit` bytes, as it comes; refused before it has come where its caller may not do what it is sent for.
pub(crate) async fn incoming(request: Request, action: Action, limit: u64, api: &Api) -> Result<(Parts, Incoming)> {
    let (parts, body) = request.into_parts();
    may(&parts.extensions, action, api).await?;
    let caller = parts.extensions.get::<Caller>().ok_or_else(no_key)?;
    let incoming = Incoming::new(&parts.headers, body, limit, &api.limits, (&api.bodies, caller))?;
    Ok((parts, incoming))
}

/// Whether a request's caller may do what its body is sent for: asked before it is looked at what the body says that it is.
pub(crate) async fn may(extensions: &Extensions, action: Action, api: &Api) -> Result<()> {
    let caller = extensions.get::<Caller>().ok_or_else(no_key)?;
    Ok(api.access.may(caller, action).await?)
}

fn no_key() -> Problem {
    Problem::internal("a route reads a body without asking for a key")
}

/// What the body says it is.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<mime::Mime> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_read_from_one_bearer_header() {
        let with = |values: &[&'static str]| -> HeaderMap {
            values.iter().map(|value| (header::AUTHORIZATION, HeaderValue::from_static(value))).collect()
        };
        for good in ["Bearer ltmc_a_b", "bearer ltmc_a_b", "BEARER   ltmc_a_b "] {
            assert_eq!(bearer(&with(&[good])).unwrap(), "ltmc_a_b");
        }
        for bad in ["", "Bearer", "Bearer ", "Basic ltmc_a_b", "ltmc_a_b"] {
            assert_eq!(bearer(&with(&[bad])).unwrap_err().status(), 401, "{bad}");
        }
        assert!(bearer(&HeaderMap::new()).is_err());
        assert!(bearer(&with(&["Bearer a", "Bearer b"])).is_err());
        let long = format!("Bearer {}", "a".repeat(MAX_KEY + 1)).parse().unwrap();
        assert!(bearer(&HeaderMap::from_iter([(header::AUTHORIZATION, long)])).is_err());
    }
}
