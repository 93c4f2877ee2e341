//! Transactions of clients: several changes that become true together, or not at all.

use anyhow::Result;
use ltmc_tests::{Answer, Host};
use serde_json::{Value, json};

async fn transact(host: &Host, operations: Value) -> Result<Answer> {
    host.post_json("/v1/transactions", &json!({"operations": operations})).await
}

/// What of everything is there: keys, facts, notes that are found, messages of a mailbox, events of a topic.
async fn all(host: &Host) -> Result<Value> {
    let items = async |path: &str| Ok::<_, anyhow::Error>(host.get(path).await?.expect(200).json()["items"].take());
    let found = host.post_json("/v1/recall/search", &json!({"query": "a note on batches"})).await?.expect(200).json();
    let taken = host.call(&host.admin, "reader", &json!([{"do": "receive", "limit": 10}, {"do": "fail"}])).await?;
    assert_eq!(taken.status, 422, "what it takes goes back: {}", taken.text());
    let run = taken.headers["ltmc-run"].to_str()?;
    let journal = host.get(&format!("/v1/runs/{run}/journal")).await?.expect(200).text();
    Ok(json!({
        "keys": items("/v1/memory/global").await?,
        "facts": items("/v1/graph/facts?history=true").await?,
        "notes": found["hits"],
        "messages": journal.matches("of-a-batch").count(),
        "events": items("/v1/events?topic=batches").await?,
    }))
}

async fn stage() -> Result<Host> {
    let host = Host::start().await?;
    host.push(&host.admin, "reader", "message-script", &["message:receive"]).await?;
    Ok(host)
}

#[tokio::test]
async fn all_of_it_becomes_true_and_each_sees_what_those_before_it_did() -> Result<()> {
    let host = stage().await?;
    host.put_json("/v1/memory/global/old", &json!("old")).await?.expect(200);
    let done = transact(
        &host,
        json!([
            {"put": {"scope": "global", "key": "new", "json": {"n": 1}, "if-absent": true}},
            {"update": {"scope": "global", "key": "count", "rule": {"increment": 2}}},
            {"update": {"scope": "global", "key": "count", "rule": {"increment": 3}}},
            {"delete": {"scope": "global", "key": "old"}},
            {"put": {"scope": "global", "key": "old", "base64": "/w==", "if-absent": true, "ttl": "1h"}},
            {"relate": {"subject": "a", "relation": "is", "object": "b"}},
            {"unrelate": {"subject": "a", "relation": "is", "object": "b"}},
            {"put": {"scope": "session", "owner": "s1", "key": "k", "json": 1}},
            {"remember": {"id": "note", "note": {"text": "a note on batches"}}},
            {"send": {"to": "reader", "type": "of-a-batch", "data": 1}},
            {"publish": {"topic": "batches", "type": "of-a-batch", "data": 1}},
            {"forget": {"id": "nothing"}},
        ]),
    )
    .await?
    .expect(200)
    .json();
    let results = done["results"].as_array().unwrap();
    assert_eq!(results.len(), 12, "{done:#}");
    assert_eq!((&results[1]["entry"]["json"], &results[2]["entry"]["json"]), (&json!(2), &json!(5)));
    assert_eq!(
        (&results[3]["existed"], &results[6]["existed"], &results[11]["existed"]),
        (&json!(true), &json!(true), &json!(false))
    );
    assert!([0, 4, 5, 7, 8, 9, 10].iter().all(|number| results[*number]["revision"].as_u64() > Some(0)), "{done:#}");
    let found = all(&host).await?;
    let keys: Vec<&str> = found["keys"].as_array().unwrap().iter().filter_map(|item| item["key"].as_str()).collect();
    assert_eq!(keys, ["count", "new", "old"]);
    assert_eq!(host.get("/v1/memory/global/old").await?.expect(200).body.as_ref(), [0xff]);
    let counts = ["facts", "notes", "events"].map(|kind| found[kind].as_array().map(Vec::len));
    assert_eq!((counts, &found["messages"]), ([Some(1); 3], &json!(1)), "{found:#}");
    Ok(())
}

#[tokio::test]
async fn where_one_is_refused_nothing_has_changed_and_it_is_said_which() -> Result<()> {
    let host = stage().await?;
    host.put_json("/v1/memory/global/there", &json!(1)).await?.expect(200);
    let before = all(&host).await?;
    let good = [
        json!({"put": {"scope": "global", "key": "new", "json": 1}}),
        json!({"relate": {"subject": "a", "relation": "is", "object": "b"}}),
        json!({"remember": {"id": "note", "note": {"text": "a note on batches"}}}),
        json!({"send": {"to": "reader", "type": "of-a-batch"}}),
        json!({"publish": {"topic": "batches", "type": "of-a-batch"}}),
    ];
    let bad = [
        (json!({"put": {"scope": "global", "key": "there", "json": 2, "if-absent": true}}), 412, "precondition-failed"),
        (
            json!({"put": {"scope": "global", "key": "there", "json": 2, "if-revision": 99_999}}),
            412,
            "precondition-failed",
        ),
        (
            json!({"put": {"scope": "global", "key": "there", "json": 2, "if-revision": 1, "if-absent": true}}),
            400,
            "bad-json",
        ),
        (json!({"put": {"scope": "global", "key": "there"}}), 400, "bad-json"),
        (json!({"put": {"scope": "global", "key": "there", "base64": "no base64!"}}), 400, "bad-json"),
        (json!({"put": {"scope": "session", "key": "there", "json": 2}}), 400, "bad-query"),
        (json!({"put": {"scope": "global", "key": "k".repeat(10_000), "json": 2}}), 400, "invalid"),
        (json!({"update": {"scope": "global", "key": "there", "rule": {"append": 1}}}), 400, "invalid"),
        (
            json!({"relate": {"subject": "a", "relation": "is", "object": "b", "properties": {"p": "x".repeat(5_000)}}}),
            400,
            "invalid",
        ),
        (json!({"send": {"to": "nobody", "type": "of-a-batch"}}), 404, "not-found"),
        (json!({"send": {"type": "of-a-batch"}}), 400, "bad-json"),
        (json!({"get": {"scope": "global", "key": "there"}}), 400, "bad-json"),
    ];
    for (number, (bad, status, code)) in bad.into_iter().enumerate() {
        for place in [0, number % good.len(), good.len()] {
            let mut operations = good.to_vec();
            operations.insert(place, bad.clone());
            let answer = transact(&host, json!(operations)).await?;
            let wanted = format!("{bad}: {}", answer.text());
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{wanted}");
            let (field, place) = (answer.json()["field"].to_string(), format!("\"operations/{place}"));
            let knows_where = field.strip_prefix(&place).is_some_and(|rest| rest.starts_with(['"', '/']));
            assert!(knows_where || bad.get("get").is_some(), "{wanted}");
            assert_eq!(all(&host).await?, before, "{wanted}");
        }
    }
    for (operations, status) in
        [(json!([]), 400), (json!(vec![good[0].clone(); 101]), 400), (json!({}), 400), (json!([{}]), 400)]
    {
        let answer = transact(&host, operations).await?;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    assert_eq!(all(&host).await?, before);
    Ok(())
}

/// Clients move what two keys hold from one to the other, and look at both: the sum never changes.
#[tokio::test(flavor = "multi_thread")]
async fn what_many_change_at_once_is_seen_whole_and_nothing_is_lost() -> Result<()> {
    const CLIENTS: usize = 8;
    const TIMES: usize = 15;
    let host = stage().await?;
    transact(
        &host,
        json!([
            {"put": {"scope": "global", "key": "sum/a", "json": 1_000}},
            {"put": {"scope": "global", "key": "sum/b", "json": 1_000}},
        ]),
    )
    .await?
    .expect(200);
    let host = &host;
    let clients = (0..CLIENTS).map(|client| async move {
        let mut moved = 0;
        for _ in 0..TIMES {
            let (from, to) = if client % 2 == 0 { ("sum/a", "sum/b") } else { ("sum/b", "sum/a") };
            let step =
                |key: &str, by: i64| json!({"update": {"scope": "global", "key": key, "rule": {"increment": by}}});
            let by = i64::try_from(client)? + 1;
            let answer = transact(host, json!([step(from, -by), step(to, by), step("moved", 1)])).await?;
            match answer.status.as_u16() {
                200 => moved += 1,
                _ => assert_eq!((answer.status.as_u16(), answer.code()), (409, "conflict".into()), "{}", answer.text()),
            }
            let both = host.get("/v1/memory/global?prefix=sum/").await?.expect(200).json();
            let sum: i64 = both["items"].as_array().unwrap().iter().filter_map(|item| item["json"].as_i64()).sum();
            assert_eq!(sum, 2_000, "{both}");
        }
        anyhow::Ok(moved)
    });
    let mut moved = 0;
    for client in futures::future::join_all(clients).await {
        moved += client?;
    }
    assert_eq!(host.get("/v1/memory/global/moved").await?.expect(200).text(), moved.to_string());
    assert!(moved * 10 >= CLIENTS * TIMES * 9, "{moved} of {}", CLIENTS * TIMES);
    Ok(())
}
