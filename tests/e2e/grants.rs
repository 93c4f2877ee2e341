//! Grants are a version's: whoever may push replaces the code behind a name, and not what an admin granted the code of before.

use anyhow::Result;
use ltmc_tests::{Answer, Host, guest_bytes};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

const MEMORY: [&str; 2] = ["memory:read:*", "memory:write:*"];

/// The same agent with one more custom section: other bytes, another digest.
fn other_code(mark: u8) -> Result<Vec<u8>> {
    let mut wasm = guest_bytes("counter")?;
    wasm.extend([0, 6, 4, b'm', b'a', b'r', b'k', mark]);
    Ok(wasm)
}

async fn push(host: &Host, key: &str, component: Vec<u8>, asks: &[&str]) -> Result<Answer> {
    let manifest = json!({"manifest": 1, "asks": asks}).to_string();
    let form = Form::new().part("component", Part::bytes(component)).part("manifest", Part::text(manifest));
    host.send(host.request(Method::PUT, "/v1/agents/counter", key).multipart(form)).await
}

async fn grant(host: &Host, agent: &str, rule: &str, grants: &[&str]) -> Result<Answer> {
    let path = format!("/v1/agents/{agent}/grants{rule}");
    host.send(host.request(Method::PUT, &path, &host.admin).json(grants)).await
}

/// Whether a version may count in global memory.
async fn may(host: &Host, agent: &str) -> Result<bool> {
    let answer = host.call(&host.admin, agent, &json!({"key": "n", "scope": "global", "times": 1})).await?;
    assert!(answer.status.is_success() || answer.text().contains("memory:"), "{}", answer.text());
    Ok(answer.status.is_success())
}

#[tokio::test]
async fn other_code_under_a_name_has_nothing_of_what_was_granted_to_the_first() -> Result<()> {
    let host = Host::start().await?;
    let author = host.key("default", "author").await?;
    let first = push(&host, &author, guest_bytes("counter")?, &MEMORY).await?.expect(201).json();
    grant(&host, "counter", "", &MEMORY).await?.expect(200);
    assert!(may(&host, "counter").await?);

    let second = push(&host, &author, other_code(1)?, &MEMORY).await?.expect(201).json();
    assert_eq!((&second["grants"], &second["missing"]), (&json!([]), &json!(MEMORY)), "{second:#}");
    assert!(!may(&host, "counter").await?);
    // The first has what it had, by its digest: a run of it that is under way goes on.
    let first = format!("counter@{}", first["digest"].as_str().unwrap());
    assert!(may(&host, &first).await?);

    // Its code comes back: it is the code that was looked at.
    push(&host, &author, guest_bytes("counter")?, &MEMORY).await?.expect(200);
    assert!(may(&host, "counter").await?);
    let second = format!("counter@{}", second["digest"].as_str().unwrap());
    assert!(!may(&host, &second).await?);

    // What is taken back is taken back from all, also where the newest version does not have it.
    push(&host, &author, other_code(2)?, &MEMORY).await?.expect(201);
    let one = host.request(Method::DELETE, "/v1/agents/counter/grants/memory%3Awrite%3A%2A", &host.admin);
    host.send(one).await?.expect(204);
    assert!(!may(&host, &first).await?);
    Ok(())
}

#[tokio::test]
async fn a_new_version_takes_grants_over_only_by_the_rule_they_were_given_with() -> Result<()> {
    let host = Host::start().await?;
    let author = host.key("default", "author").await?;
    push(&host, &author, guest_bytes("counter")?, &MEMORY).await?.expect(201);
    let wrong = grant(&host, "counter", "?carry=always", &MEMORY).await?.expect(400);
    assert!(wrong.text().contains("same-asks"), "it says what there is: {}", wrong.text());
    grant(&host, "counter", "?carry=same-asks", &MEMORY).await?.expect(200);

    let second = push(&host, &author, other_code(1)?, &MEMORY).await?.expect(201).json();
    assert_eq!((&second["grants"], &second["carry"]), (&json!(MEMORY), &json!("same-asks")), "{second:#}");
    assert!(second["grants_of"].as_str().is_some_and(|version| version != second["digest"]), "{second:#}");
    assert!(may(&host, "counter").await?, "and so does its rule");

    let more =
        push(&host, &author, other_code(2)?, &["memory:read:*", "memory:write:*", "log"]).await?.expect(201).json();
    assert_eq!((&more["grants"], &more["grants_of"]), (&json!([]), &Value::Null), "it asks for more: {more:#}");
    assert!(!may(&host, "counter").await?);
    // Nor is asking for less a way: it is the version just before that counts, and that one has nothing.
    let less = push(&host, &author, other_code(3)?, &["memory:read:*"]).await?.expect(201).json();
    assert_eq!(less["grants"], json!([]), "{less:#}");
    Ok(())
}

#[tokio::test]
async fn a_grant_that_names_a_version_is_that_one_s_and_a_name_cuts_the_older_ones() -> Result<()> {
    let host = Host::start().await?;
    let first = push(&host, &host.admin, guest_bytes("counter")?, &MEMORY).await?.expect(201).json();
    let first = format!("counter@{}", first["digest"].as_str().unwrap());
    // Pushed between the admin's look and the admin's grant.
    push(&host, &host.admin, other_code(1)?, &MEMORY).await?.expect(201);
    grant(&host, &first, "", &MEMORY).await?.expect(200);
    assert!(may(&host, &first).await?);
    assert!(!may(&host, "counter").await?);
    grant(&host, "counter", "", &["memory:read:global"]).await?.expect(200);
    assert!(!may(&host, &first).await?, "no version has more than was set for the name");
    let path = format!("/v1/agents/{first}/grants");
    let held = host.send(host.request(Method::GET, &path, &host.admin)).await?.expect(200).json();
    assert_eq!(held, json!([]), "`memory:read:global` does not cover `memory:read:*`");
    grant(&host, "counter@sha256:00", "", &[]).await?.expect(400);
    Ok(())
}
