//! Conversations that are handed on, with the real binary and real components: by agents, by people, over a `kill -9`.

use anyhow::{Context as _, Result};
use ltmc_tests::{Answer, Host};
use reqwest::Method;
use serde_json::{Value, json};

const DESK: &str = "name: desk\nflow: {hand-off: {start: front, among: [front, money, tech], at-most: 3}}";

async fn host() -> Result<Host> {
    let host = Host::start().await?;
    for name in ["front", "money", "tech"] {
        let grants: &[&str] = match name {
            "front" => &["memory:read:session", "memory:write:session", "hand-off:money", "hand-off:tech"],
            "money" => &["memory:read:session", "memory:write:session", "hand-off:*"],
            _ => &["memory:read:session", "memory:write:session"],
        };
        host.push(&host.admin, name, "clerk", grants).await?;
    }
    let put = host.request(Method::PUT, "/v1/workflows/desk", &host.admin);
    host.send(put.header("content-type", "application/yaml").body(DESK)).await?.expect(201);
    Ok(host)
}

async fn opened(host: &Host) -> Result<String> {
    let session = host.post_json("/v1/sessions", &json!({"workflow": "desk"})).await?.expect(201).json();
    Ok(session["id"].as_str().context("an id")?.to_owned())
}

async fn say(host: &Host, id: &str, message: &str) -> Result<Answer> {
    let request = host.request(Method::POST, &format!("/v1/sessions/{id}/turns"), &host.admin);
    let request = request.header("content-type", "text/plain").header("idempotency-key", message.replace(' ', "-"));
    host.send(request.header("prefer", "wait=30").body(message.to_owned())).await
}

async fn holder(host: &Host, id: &str) -> Result<Value> {
    Ok(host.get(&format!("/v1/sessions/{id}")).await?.expect(200).json()["holder"].clone())
}

#[tokio::test]
async fn who_holds_a_conversation_answers_over_turns_and_kills() -> Result<()> {
    let mut host = host().await?;
    let id = opened(&host).await?;
    assert_eq!(say(&host, &id, "hello").await?.expect(200).json()["holder"], "front");
    assert_eq!(holder(&host, &id).await?, Value::Null);
    let answer = say(&host, &id, "front>money! money>tech").await?.expect(200).json();
    assert_eq!(
        (&answer["holder"], &answer["from"], &answer["reason"]),
        (&json!("tech"), &json!("money"), &json!("as was said"))
    );
    host.kill_and_restart().await?;
    assert_eq!(holder(&host, &id).await?, "tech");
    let answer = say(&host, &id, "are you there?").await?.expect(200).json();
    assert_eq!((&answer["holder"], &answer["from"]), (&json!("tech"), &json!("money")), "it knows from whom it has it");
    assert_eq!(say(&host, &id, "tech>back").await?.expect(200).json()["holder"], "money");
    let turns = host.get(&format!("/v1/sessions/{id}/turns")).await?.expect(200).json();
    let went = |turn: usize| {
        let hand_offs = turns["items"][turn]["hand-offs"].as_array().cloned().unwrap_or_default();
        hand_offs.iter().map(|one| format!("{}>{}", one["from"], one["to"]).replace('"', "")).collect::<Vec<_>>()
    };
    assert_eq!(
        (went(0), went(1), went(3)),
        (vec![], vec!["front>money".into(), "money>tech".into()], vec!["tech>money".to_owned()])
    );
    Ok(())
}

/// Each as the grants of the giver, the bounds, and the document say; the conversation stays where it is.
#[tokio::test]
async fn a_hand_off_that_may_not_be_is_told_so() -> Result<()> {
    let host = host().await?;
    for (message, why) in [
        ("front>front", "hand-off:front"),
        ("front>tech tech>money", "hand-off:money"),
        ("front>money money>money", "nobody hands it to themselves"),
        ("front>money money>nobody", "is none of"),
        ("front>back", "nobody handed this conversation"),
        ("front>money money>front front>tech tech>back", ""),
    ] {
        let id = opened(&host).await?;
        let answer = say(&host, &id, message).await?.expect(200);
        assert!(answer.text().contains(why), "{message}: {}", answer.text());
    }
    Ok(())
}

#[tokio::test]
async fn a_person_hands_it_on_between_turns() -> Result<()> {
    let host = host().await?;
    let id = opened(&host).await?;
    let path = format!("/v1/sessions/{id}/hand-off");
    let to = |to: &str, key: &str| {
        host.send(host.request(Method::POST, &path, key).json(&json!({"to": to, "reason": "a person says so"})))
    };
    let session = to("tech", &host.admin).await?.expect(200).json();
    assert_eq!(session["holder"], "tech");
    assert_eq!(say(&host, &id, "hello").await?.expect(200).json()["holder"], "tech");
    to("tech", &host.admin).await?.expect(400);
    to("nobody", &host.admin).await?.expect(400);
    host.send(host.request(Method::POST, &path, &host.admin).json(&json!({"to": "front", "reason": ""})))
        .await?
        .expect(400);
    let stranger = host.tenant("others", "admin").await?;
    to("front", &stranger).await?.expect(404);
    let viewer = host.key("default", "viewer").await?;
    to("front", &viewer).await?.expect(403);
    let caller = host.key("default", "caller").await?;
    to("front", &caller).await?.expect(404);
    host.post_json(&format!("/v1/sessions/{id}/close"), &json!(null)).await?.expect(200);
    to("front", &host.admin).await?.expect(409);
    let audit = host.get("/v1/audit?action=session-handed-over").await?.expect(200);
    assert!(audit.text().contains("a person says so"), "{}", audit.text());
    Ok(())
}
