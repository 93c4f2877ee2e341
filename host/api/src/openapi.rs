//! The document of all routes, `/openapi.json`: OpenAPI 3.1.
//!
//! Invariants: routes and document are made from the same handlers, so that they cannot differ. What holds for every
//! route of a kind (its key, its problems) is added here by rule, so that no handler can forget it. `x-ltmc-role` of an
//! operation lists every role that may: the table test of refusals is driven from it. One without needs no key.

use std::collections::{BTreeMap, HashMap};

use axum::Router;
use axum::http::{Method, StatusCode};
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, License, OpenApi, OpenApiBuilder, Ref, RefOr, Response,
    ResponseBuilder,
};
use utoipa::{PartialSchema as _, ToSchema as _};

use crate::app::Api;
use crate::codes::{self, CODES, Code};
use crate::problem::Body;
use crate::rest;

/// The extension that lists an operation's roles.
pub(crate) const ROLE: &str = "x-ltmc-role";
/// The extension that lists the codes of problems an operation has of its own.
const CODE_LIST: &str = "x-ltmc-codes";
/// The security scheme's name.
const KEY: &str = "key";

/// The document of all routes.
pub fn openapi() -> OpenApi {
    split().1
}

/// The routes and their document.
pub(crate) fn split() -> (Router<Api>, OpenApi) {
    let (router, routes) = rest::routes().split_for_parts();
    let mut document = frame();
    document.merge(routes);
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            complete(path, operation);
            describe(operation);
        }
    }
    (router, document)
}

/// Of each operation that needs a key, the parameters its query may have.
pub(crate) fn queries(document: &OpenApi) -> HashMap<(Method, String), Vec<String>> {
    let mut queries = HashMap::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in [
            (Method::GET, &item.get),
            (Method::PUT, &item.put),
            (Method::POST, &item.post),
            (Method::PATCH, &item.patch),
            (Method::DELETE, &item.delete),
        ] {
            let Some(operation) = operation.as_ref().filter(|operation| !roles(operation).is_empty()) else { continue };
            let named = |parameter: &RefOr<Parameter>| match parameter {
                RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => Some(parameter.name.clone()),
                _ => None,
            };
            let names = operation.parameters.iter().flatten().filter_map(named).collect();
            queries.insert((method, path.clone()), names);
        }
    }
    queries
}

/// Everything but the routes.
fn frame() -> OpenApi {
    let info = InfoBuilder::new()
        .title("LTMC")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Runs WebAssembly components as agents, durably. Every answer that is no success is \
             `application/problem+json` with a `code`; `/docs/errors` explains each. Every answer carries \
             `X-Request-Id`. `x-ltmc-role` lists the roles whose keys may use an operation.",
        ))
        .license(Some(License::new("Apache-2.0")))
        .build();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key, `ltmc_<id>_<secret>`: one role in one tenant"))
        .build();
    let mut components = ComponentsBuilder::new()
        .security_scheme(KEY, SecurityScheme::Http(bearer))
        .schema(Body::name(), Body::schema());
    let mut schemas = Vec::new();
    Body::schemas(&mut schemas);
    components = components.schemas_from_iter(schemas);
    for (status, codes) in by_status() {
        components = components.response(reference(status), problems(&codes));
    }
    let tag = |name: &str, about: &str| TagBuilder::new().name(name).description(Some(about)).build();
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components.build()))
        .tags(Some([
            tag("agents", "Components, what they may do, and calls to them"),
            tag("workflows", "Documents of agents in patterns"),
            tag("events", "Events that start agents and workflows"),
            tag("sessions", "Conversations, turn by turn"),
            tag("runs", "What runs and ran, entry by entry"),
            tag("approvals", "What runs ask people, and answers"),
            tag("context", "What agents share: memory, graph, recall, messages"),
            tag("tenants", "Tenants, their keys and ceilings"),
            tag("host", "The host itself"),
        ]))
        .build()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete]
        .into_iter()
        .filter_map(Option::as_mut)
}

/// Adds what every operation of its kind needs and can end in, and the problems it names itself.
fn complete(path: &str, operation: &mut Operation) {
    let mut statuses = vec![StatusCode::INTERNAL_SERVER_ERROR];
    if !roles(operation).is_empty() {
        operation.security = Some(vec![SecurityRequirement::new(KEY, Vec::<String>::new())]);
        statuses.extend([StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::SERVICE_UNAVAILABLE]);
    }
    if path.contains('{') {
        statuses.extend([StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND]);
    }
    if operation.parameters.is_some() {
        statuses.push(StatusCode::BAD_REQUEST);
    }
    if operation.request_body.is_some() {
        statuses.extend([
            StatusCode::BAD_REQUEST,
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::INSUFFICIENT_STORAGE,
        ]);
    }
    let own = extension(operation, CODE_LIST);
    statuses.extend(own.iter().filter_map(|name| codes::of(name)).map(|code| code.status));
    for status in statuses {
        let answer = RefOr::Ref(Ref::from_response_name(reference(status)));
        operation.responses.responses.entry(status.as_u16().to_string()).or_insert(answer);
    }
}

/// OpenAPI wants every answer described: those that say nothing of themselves are what their status is.
fn describe(operation: &mut Operation) {
    for (status, answer) in &mut operation.responses.responses {
        if let RefOr::T(answer) = answer
            && answer.description.is_empty()
        {
            let status = status.parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok());
            answer.description = status.and_then(|status| status.canonical_reason()).unwrap_or("An answer").to_owned();
        }
    }
}

/// The roles whose keys may use an operation; none: it needs no key.
fn roles(operation: &Operation) -> Vec<&str> {
    extension(operation, ROLE)
}

fn extension<'a>(operation: &'a Operation, name: &str) -> Vec<&'a str> {
    let extensions = operation.extensions.as_ref();
    let list = extensions.and_then(|extensions| extensions.get(name)).and_then(|value| value.as_array());
    list.into_iter().flatten().filter_map(|value| value.as_str()).collect()
}

/// The codes, each under the status it comes with.
fn by_status() -> BTreeMap<StatusCode, Vec<&'static Code>> {
    CODES.iter().fold(BTreeMap::new(), |mut all, code| {
        all.entry(code.status).or_insert_with(Vec::new).push(code);
        all
    })
}

/// The name of the answer that all problems of one status share.
fn reference(status: StatusCode) -> String {
    format!("Problem{}", status.as_u16())
}

fn problems(codes: &[&Code]) -> Response {
    let names: Vec<_> = codes.iter().map(|code| format!("`{}`", code.name)).collect();
    let example = codes.first().map(|code| {
        serde_json::json!({
            "type": format!("/docs/errors#{}", code.name),
            "title": code.title,
            "status": code.status.as_u16(),
            "code": code.name,
            "detail": "What was wrong, where, and what would be right.",
            "request_id": "5f0c2a91-1b",
        })
    });
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Body::name()))).example(example).build();
    ResponseBuilder::new()
        .description(format!("A problem: {}", names.join(", ")))
        .content("application/problem+json", content)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_described() {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut seen = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                for (status, answer) in operation["responses"].as_object().unwrap() {
                    let described = answer["description"].is_string() || answer["$ref"].is_string();
                    assert!(described, "{method} {path} {status}: {answer}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 100, "only {seen} answers");
    }
}
