//! The table of unauthorized access: every route of the OpenAPI document, without a key, with a wrong key, with another
//! tenant's key, and with too small a role. A route that is added is tested the day it is added.

use anyhow::Result;
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::{Value, json};

const OPEN: [&str; 4] = ["/healthz", "/readyz", "/openapi.json", "/"];
const ROLES: [&str; 4] = ["viewer", "caller", "author", "admin"];

/// An id that parses and is nobody's, for each parameter a path can have.
fn filled(path: &str) -> String {
    path.replace("{name}", "nobody")
        .replace("{id}", "0192f0c4-7d8a-7c3e-9b1a-3f0e8d5c2b1a")
        .replace("{tenant}", "nobody")
        .replace("{cap}", "log")
        .replace("{key}", "aaaaaaaaaaaa")
}

#[tokio::test]
async fn no_route_answers_who_may_not_ask() -> Result<()> {
    let host = Host::start().await?;
    let document = host.get("/openapi.json").await?.expect(200).json();
    let mut keys = Vec::new();
    for role in ROLES {
        keys.push((role, host.key("default", role).await?));
    }
    let stranger = host.tenant("strangers", "admin").await?;
    let wrong = format!("{}x", &host.admin[..host.admin.len() - 1]);
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
            if OPEN.contains(&path.as_str()) || method == Method::TRACE {
                continue;
            }
            let at = filled(path);
            assert!(!at.contains('{'), "{path} has a parameter this test does not know");
            let body: Option<Value> = operation["requestBody"].is_object().then(|| json!({}));
            let send = async |key: &str| {
                let request = host.request(method.clone(), &at, key);
                host.send(match &body {
                    Some(body) => request.json(body),
                    None => request,
                })
                .await
            };
            for key in ["", &wrong, "ltmc_aaaaaaaaaaaa_", "nonsense"] {
                let answer = send(key).await?;
                assert_eq!(answer.status, 401, "{method} {path} with `{key}`: {}", answer.text());
                assert!(answer.headers.contains_key("www-authenticate"), "{method} {path}");
            }
            let allowed: Vec<&str> =
                operation["x-ltmc-role"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            for (role, key) in &keys {
                let answer = send(key).await?;
                if allowed.contains(role) {
                    assert_ne!(answer.status, 401, "{method} {path} as {role}");
                } else {
                    assert_eq!(answer.status, 403, "{method} {path} as {role}: {}", answer.text());
                }
            }
            let answer = send(&stranger).await?;
            let refused = matches!(answer.status.as_u16(), 400 | 403 | 404 | 409 | 415 | 422);
            assert!(refused || at == filled(path) && answer.status.is_success(), "{method} {path}: {}", answer.text());
            tried += 1;
        }
    }
    assert!(tried >= 25, "only {tried} operations stand in the document");
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
