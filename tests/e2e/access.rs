//! The table of unauthorized access: every route of the OpenAPI document, without a key, with a wrong key, with another
//! tenant's key, and with too small a role. A route that is added is tested the day it is added.

use anyhow::Result;
use ltmc_tests::{Host, guest_bytes};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// Routes that need no key.
const OPEN: [&str; 6] = ["/", "/healthz", "/readyz", "/openapi.json", "/docs/errors", "/v1/schemas/workflow.json"];
const ROLES: [&str; 4] = ["viewer", "caller", "author", "admin"];

/// What stands in the tenant `default` for the routes to be about.
struct Things {
    run: String,
    key: String,
    /// A question that is open.
    token: String,
    session: String,
}

impl Things {
    async fn make(host: &Host) -> Result<Self> {
        host.push(&host.admin, "thing", "echo", &["log"]).await?;
        let put = host.request(Method::PUT, "/v1/workflows/thing", &host.admin);
        host.send(put.header("content-type", "application/yaml").body(WORKFLOW)).await?.expect(201);
        let feed = host.request(Method::PUT, "/v1/subscriptions/thing", &host.admin);
        host.send(feed.json(&json!({"topic": "other", "agent": "thing"}))).await?.expect(201);
        let called = host.call(&host.admin, "thing", &json!({})).await?.expect(200);
        let put = host.request(Method::PUT, "/v1/workflows/asking", &host.admin);
        host.send(put.header("content-type", "application/yaml").body(ASKING)).await?.expect(201);
        let asking = host.request(Method::POST, "/v1/workflows/asking/runs", &host.admin);
        host.send(asking.json(&json!({})).header("prefer", "wait=1")).await?.expect(202);
        let open = host.get("/v1/approvals").await?.expect(200).json();
        let token = open["items"][0]["token"].as_str().unwrap_or_default().to_owned();
        let opened = host.post_json("/v1/sessions", &json!({"agent": "thing"})).await?.expect(201).json();
        let session = opened["id"].as_str().unwrap_or_default().to_owned();
        let body = json!({"tenant": "default", "role": "viewer"});
        let made = host.send(host.request(Method::POST, "/v1/keys", &host.admin).json(&body)).await?.expect(201).json();
        let key = made["id"].as_str().unwrap_or_default().to_owned();
        Ok(Self { run: called.headers["ltmc-run"].to_str()?.to_owned(), key, token, session })
    }

    /// The path with real names and ids in it.
    fn fill(&self, method: &Method, path: &str) -> String {
        let id = match path {
            _ if path.starts_with("/v1/keys") => self.key.as_str(),
            _ if path.starts_with("/v1/sessions") => self.session.as_str(),
            _ if path.starts_with("/v1/dead-letters") || path.starts_with("/v1/events") => "999",
            _ => &self.run,
        };
        let filled = path
            .replace("{scope}", "global")
            .replace("{key}", "shared")
            .replace("{participant}", &self.key)
            .replace("{name}", "thing")
            .replace("{tenant}", "default")
            .replace("{cap}", "log")
            .replace("{seq}", "1")
            .replace("{workflow}", "thing")
            .replace("{number}", "1")
            .replace("{position}", "1")
            .replace("{token}", &self.token)
            .replace("{other}", &self.run)
            .replace("{id}", id);
        assert!(!filled.contains('{'), "{path} has a parameter this test does not know");
        format!("{filled}{}", query(method, path))
    }
}

/// What a route wants to be asked. The streams are asked for a place that is not there: otherwise they would not end.
fn query(method: &Method, path: &str) -> &'static str {
    match path {
        "/v1/graph/facts" if *method == Method::DELETE => "?subject=a&relation=r&object=thing",
        "/v1/changes" => "?scope=global&after=999999999",
        "/v1/events/follow" => "?topic=news&after=999999999",
        "/v1/events" if *method == Method::GET => "?topic=news",
        "/v1/graph/path" => "?from=a&to=b",
        "/v1/runs/{id}/dependents" => "?step=0",
        "/v1/search/workflows" => "?text=a",
        "/v1/graph/reach" | "/v1/graph/order" => "?from=a",
        _ => "",
    }
}

/// What every tenant has of its own, and is answered whoever asks: the other's is not in it.
fn is_own(path: &str) -> bool {
    // An event has an id that is asked for.
    if path.ends_with("/trace") {
        return false;
    }
    ["/v1/memory/", "/v1/changes", "/v1/events", "/v1/graph/", "/v1/recall/", "/v1/transactions"]
        .iter()
        .any(|own| path.starts_with(own))
}

const WORKFLOW: &str = "name: thing\non: [{schedule: 0 0 1 1 *}]\nflow: {agent: thing}\n";
const ASKING: &str = "name: asking\nflow: {ask: {title: thing, of: caller}}\n";

/// A request with a body that the route would take.
fn with_body(request: RequestBuilder, method: &Method, path: &str) -> RequestBuilder {
    match (method.as_str(), path) {
        ("PUT", "/v1/agents/{name}") => {
            request.header("content-type", "application/wasm").body(guest_bytes("echo").unwrap_or_default())
        }
        ("PUT", "/v1/agents/{name}/grants") => request.json(&json!(["log"])),
        ("PUT", "/v1/workflows/{name}") => request.header("content-type", "application/yaml").body(WORKFLOW),
        ("PUT", "/v1/ceilings/{tenant}") => request.json(&json!({"capabilities": ["log"]})),
        ("POST", "/v1/tenants") => request.json(&json!({"name": "newcomers"})),
        ("POST", "/v1/keys") => request.json(&json!({"tenant": "default", "role": "viewer"})),
        ("PUT", "/v1/memory/{scope}/{key}") => request.body("1"),
        ("PATCH", "/v1/memory/{scope}/{key}") => request.json(&json!({"increment": 1})),
        ("PUT", "/v1/recall/{id}") => request.json(&json!({"text": "a text of thing"})),
        ("POST", "/v1/recall/search") => request.json(&json!({"query": "a text"})),
        ("POST", "/v1/graph/facts") => request.json(&json!({"subject": "a", "relation": "r", "object": "thing"})),
        ("POST", "/v1/approvals/{token}") => request.json(&json!({"answer": true})),
        ("POST", "/v1/events") => request.json(&json!({"topic": "news", "type": "t", "data": "thing"})),
        ("PUT", "/v1/subscriptions/{name}") => request.json(&json!({"topic": "news", "agent": "thing"})),
        ("POST", "/v1/subscriptions/{name}/replay") => request.json(&json!({"after": 0})),
        ("POST", "/v1/messages") => request.json(&json!({"to": "thing", "type": "t"})),
        ("POST", "/v1/transactions") => {
            request.json(&json!({"operations": [{"put": {"scope": "global", "key": "thing", "json": 1}}]}))
        }
        ("POST", "/v1/sessions") => request.json(&json!({"agent": "thing"})),
        ("PUT", "/v1/sessions/{id}/participants/{participant}") => request.json(&json!({"part": "observer"})),
        ("POST", "/v1/sessions/{id}/rewind") => request.json(&json!({"to": 0})),
        ("POST", "/v1/sessions/{id}/hand-off") => request.json(&json!({"to": "thing", "reason": "so"})),
        ("POST", "/v1/runs/{id}/restart") => request.json(&json!({"from": "thing"})),
        ("POST", "/v1/databases/repair") => request.json(&json!({"check": true})),
        ("POST", "/v1/agents/{name}/state/release") => request.json(&json!({"reason": "a test"})),
        ("POST", "/v1/agents/{name}/state/set") => {
            request.json(&json!({"state": "idle", "data": {}, "reason": "a test"}))
        }
        ("POST", _) => request.json(&json!({})),
        _ => request,
    }
}

#[tokio::test]
async fn no_route_answers_who_may_not_ask() -> Result<()> {
    let host = Host::start().await?;
    let things = Things::make(&host).await?;
    let document = host.get("/openapi.json").await?.expect(200).json();
    let mut keys = vec![("operator", host.operator.clone())];
    for role in ROLES {
        keys.push((role, host.key("default", role).await?));
    }
    let stranger = host.tenant("strangers", "admin").await?;
    let wrong = format!("{}0", &host.admin[..host.admin.len() - 1]);
    let wrong = if wrong == host.admin { format!("{}1", &host.admin[..host.admin.len() - 1]) } else { wrong };
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
            let roles =
                operation["x-ltmc-role"].as_array().map(|roles| roles.iter().filter_map(Value::as_str).collect());
            let roles: Vec<&str> = roles.unwrap_or_default();
            assert_eq!(roles.is_empty(), OPEN.contains(&path.as_str()), "{method} {path} says nothing of its roles");
            if !roles.is_empty() {
                operations.push((method, path.as_str(), roles));
            }
        }
    }
    assert!(operations.len() >= 25, "only {} operations with a key stand in the document", operations.len());
    let send = async |method: &Method, path: &str, key: &str| {
        host.send(with_body(host.request(method.clone(), &things.fill(method, path), key), method, path)).await
    };

    for (method, path, _) in &operations {
        for key in ["", &wrong, "ltmc_aaaaaaaaaaaa_", "nonsense"] {
            let answer = send(method, path, key).await?;
            assert_eq!(answer.status, 401, "{method} {path} with `{key}`: {}", answer.text());
            assert!(answer.headers.contains_key("www-authenticate"), "{method} {path}");
        }
    }
    for (method, path, roles) in &operations {
        // What a tenant puts under a name is its own, also where another has the same name.
        if *method == Method::PUT && roles.contains(&"author") {
            continue;
        }
        let answer = send(method, path, &stranger).await?;
        if is_own(path) {
            assert!(!matches!(answer.status.as_u16(), 401 | 403 | 500..), "{method} {path}: {}", answer.text());
            continue;
        }
        let wanted = match (roles.contains(&"admin"), path.contains('{') || *method == Method::POST) {
            (false, _) => 403,
            (true, true) => 404,
            (true, false) => 200,
        };
        assert_eq!(answer.status, wanted, "{method} {path} as another tenant: {}", answer.text());
        for name in ["thing", &things.run, &things.key] {
            let leaked = wanted == 200 && answer.text().contains(name);
            assert!(!leaked, "{method} {path} shows another tenant's {name}: {}", answer.text());
        }
    }
    for (method, path, roles) in &operations {
        for (role, key) in keys.iter().filter(|(role, _)| !roles.contains(role)) {
            let answer = send(method, path, key).await?;
            assert_eq!(answer.status, 403, "{method} {path} as {role}: {}", answer.text());
            assert_eq!(answer.code(), "denied", "{method} {path} as {role}");
            // Whatever it says that it sends: what a role may not do is not discussed with it.
            let odd =
                host.request(method.clone(), &things.fill(method, path), key).header("content-type", "text/nonsense");
            let answer = host.send(odd.body("nonsense")).await?;
            assert_eq!(answer.status, 403, "{method} {path} as {role}, with nonsense: {}", answer.text());
        }
    }
    // Last, for some of these take away what the others are about.
    for (method, path, roles) in &operations {
        for (role, key) in keys.iter().filter(|(role, _)| roles.contains(role)) {
            let answer = send(method, path, key).await?;
            assert!(
                !matches!(answer.status.as_u16(), 401 | 403 | 500..),
                "{method} {path} as {role}: {}",
                answer.text()
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_taken_back_or_has_expired_opens_nothing() -> Result<()> {
    let host = Host::start().await?;
    let made = json!({"tenant": "default", "role": "viewer"});
    let made = host.send(host.request(Method::POST, "/v1/keys", &host.admin).json(&made)).await?.expect(201).json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    host.send(host.request(Method::GET, "/v1/runs", key)).await?.expect(200);
    host.send(host.request(Method::DELETE, &format!("/v1/keys/{id}"), &host.admin)).await?;
    host.send(host.request(Method::GET, "/v1/runs", key)).await?.expect(401);

    let made = json!({"tenant": "default", "role": "viewer", "expires": "1s"});
    let made = host.send(host.request(Method::POST, "/v1/keys", &host.admin).json(&made)).await?.expect(201).json();
    let key = made["key"].as_str().unwrap();
    host.send(host.request(Method::GET, "/v1/runs", key)).await?.expect(200);
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    host.send(host.request(Method::GET, "/v1/runs", key)).await?.expect(401);
    let listed = host.get("/v1/keys").await?.expect(200).text();
    assert!(!listed.contains("hash"), "{listed}");
    Ok(())
}
