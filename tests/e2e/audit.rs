//! The audit: what was done is listed where its tenant sees it, and what was done to the record behind the host's back is found.

use std::process::Command;

use anyhow::Result;
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

async fn acts(host: &Host, key: &str, query: &str) -> Result<Vec<Value>> {
    let page = host.send(host.request(Method::GET, &format!("/v1/audit{query}"), key)).await?.expect(200).json();
    Ok(page["items"].as_array().cloned().unwrap_or_default())
}

/// Without what tells of reads, this very one among them.
fn done(acts: Vec<Value>) -> Vec<Value> {
    acts.into_iter().filter(|act| act["action"] != "accessed").collect()
}

fn actions(acts: &[Value]) -> Vec<&str> {
    acts.iter().filter_map(|act| act["action"].as_str()).collect()
}

/// Takes away what counts rows: without it somebody who is not the host can write them. What makes it anew.
pub(crate) async fn count_nothing(record: &mut SqliteConnection) -> Result<Vec<String>> {
    let triggers: Vec<(String, String)> =
        sqlx::query_as("select name, sql from sqlite_schema where type = 'trigger'").fetch_all(&mut *record).await?;
    let mut made_by = Vec::new();
    for (trigger, sql) in triggers {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("drop trigger {trigger}"))).execute(&mut *record).await?;
        made_by.push(sql);
    }
    Ok(made_by)
}

#[tokio::test]
async fn a_tenant_s_admin_sees_what_was_done_and_by_whom() -> Result<()> {
    let host = Host::start().await?;
    let operators = acts(&host, &host.operator, "?action=key-created").await?;
    let operator = operators[0]["subject"].as_str().unwrap_or_default().to_owned();
    let acme = host.tenant("acme", "admin").await?;
    let viewer = host.key("acme", "viewer").await?;
    host.push(&acme, "echo", "echo", &["log"]).await?;
    let put = host.request(Method::PUT, "/v1/memory/global/k", &acme).body("v");
    host.send(put).await?;
    host.send(host.request(Method::PUT, "/v1/agents/echo/grants", &viewer).json(&json!([]))).await?.expect(403);
    // A good id with another secret, again and again.
    let id = viewer.split('_').nth(1).unwrap_or_default().to_owned();
    for _ in 0..5 {
        let wrong = format!("ltmc_{id}_{}", "0".repeat(64));
        host.send(host.request(Method::GET, "/v1/agents", &wrong)).await?.expect(401);
    }
    // A wrong key is written down by a task of its own.
    let mut all = done(acts(&host, &acme, "").await?);
    for _ in 0..200 {
        if all.iter().filter(|act| act["action"] == "refused").count() >= 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        all = done(acts(&host, &acme, "").await?);
    }
    assert_eq!(
        actions(&all),
        ["refused", "refused", "context-changed", "grants-set", "agent-pushed", "key-created", "key-created"],
        "{all:#?}"
    );
    assert!(
        all[0]["detail"]["why"].as_str().is_some_and(|why| why.contains("secret") && why.contains(&id)),
        "{}",
        all[0]
    );
    assert_eq!(all[1]["by"], json!(id), "who was refused");
    assert_eq!(all[3]["detail"], json!({"grants": ["log"], "carry": "never"}));
    assert_eq!(all[6]["by"], json!(operator), "a tenant sees what the operator does to its keys");
    assert!(!serde_json::to_string(&all)?.contains("hash"), "no key's hash is shown");

    // Pages and filters.
    assert_eq!(actions(&acts(&host, &acme, "?action=grants-set").await?), ["grants-set"]);
    assert_eq!(acts(&host, &acme, &format!("?by={operator}")).await?.len(), 2);
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = host.send(host.request(Method::GET, &format!("/v1/audit{query}"), &acme)).await?.expect(200).json();
        seen.extend(page["items"].as_array().cloned().unwrap_or_default());
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=2&cursor={next}");
    }
    assert_eq!(done(seen), all);
    let wrong = host.send(host.request(Method::GET, "/v1/audit?action=nothing", &acme)).await?.expect(400);
    assert!(wrong.text().contains("key-revoked"), "it says what there is: {}", wrong.text());

    // Nobody else sees it: not another tenant's admin, not the operator.
    for key in [&host.admin, &host.operator] {
        let others = acts(&host, key, "").await?;
        assert!(!others.is_empty() && others.iter().all(|act| act["subject"] != "echo"), "{others:#?}");
    }
    host.send(host.request(Method::GET, "/v1/audit", &viewer)).await?.expect(403);
    Ok(())
}

fn verify(host: &Host, since: &[&str]) -> Result<Value> {
    let mut command = Command::new(ltmc_tests::binary()?);
    command.args(["audit", "verify", "--json", "--data"]).arg(host.data());
    for hash in since {
        command.args(["--since", hash]);
    }
    let output = command.output()?;
    let found: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(output.status.success(), found["damage"] == json!([]), "{found:#}");
    Ok(found)
}

#[tokio::test]
async fn what_is_done_to_the_record_behind_the_host_s_back_is_found() -> Result<()> {
    let mut host = Host::start().await?;
    let acme = host.tenant("acme", "admin").await?;
    host.push(&acme, "echo", "echo", &["log"]).await?;
    host.call(&acme, "echo", &json!({})).await?.expect(200);
    let flow = "name: flow\non: [{schedule: 0 0 1 1 *}]\nflow: {agent: echo}\n";
    let put =
        host.request(Method::PUT, "/v1/workflows/flow", &acme).header("content-type", "application/yaml").body(flow);
    assert!(host.send(put).await?.status.is_success());
    let start =
        host.request(Method::POST, "/v1/workflows/flow/runs", &acme).header("idempotency-key", "k").json(&json!({}));
    host.send(start.header("prefer", "wait=30")).await?.expect(200);
    let viewer = host.key("acme", "viewer").await?;
    let id = viewer.split('_').nth(1).unwrap_or_default();
    host.send(host.request(Method::DELETE, &format!("/v1/keys/{id}"), &acme)).await?.expect(204);
    host.send(host.request(Method::DELETE, "/v1/agents/echo/grants/log", &acme)).await?.expect(204);
    host.send(host.request(Method::POST, "/v1/schedules/flow/1/pause", &acme)).await?.expect(204);
    host.terminate().await?;
    let whole = verify(&host, &[])?;
    assert_eq!(whole["damage"], json!([]), "{whole:#}");
    let head = |of: &str| {
        let heads = whole["heads"].as_array().into_iter().flatten();
        heads
            .clone()
            .find(|head| head["tenant"] == of)
            .and_then(|head| head["hash"].as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let kept = head("acme");
    assert_eq!(verify(&host, &[&kept, &head("_host")])?["damage"], json!([]));

    let mut record = SqliteConnection::connect(&host.data().join("record.db").to_string_lossy()).await?;
    sqlx::query("vacuum into ?")
        .bind(host.data().join("copy.db").to_string_lossy().into_owned())
        .execute(&mut record)
        .await?;
    // Who counts nothing cannot write to tables whose rows are counted, unless what counts them goes first.
    let counted = sqlx::raw_sql("update grants set grants = '[]'").execute(&mut record).await;
    assert!(counted.is_err_and(|error| error.to_string().contains("counted")), "a row was written and not counted");
    let triggers = count_nothing(&mut record).await?;
    let edits = [
        ("a key that was taken back is good again", "update keys set revoked_at = null", "keys"),
        ("a role is larger", "update keys set role = 'admin' where role = 'viewer'", "keys"),
        (
            "a key of nobody's",
            "insert into keys values ('aaaaaaaaaaaa', 'acme', 'admin', zeroblob(32), 1, null, null)",
            "keys",
        ),
        ("a grant", "update grants set grants = '[\"fs:read:secret\"]'", "grants"),
        ("a ceiling", "insert into ceilings values ('acme', '{}')", "ceilings"),
        ("other code under a name", "update agents set digest = zeroblob(32)", "agents"),
        (
            "a workflow says something else",
            "update workflows set source = 'name: flow\nflow: {agent: other}'",
            "workflows",
        ),
        ("a workflow is gone", "delete from workflows", "workflows"),
        (
            "a workflow of nobody's",
            "insert into workflows select tenant, 'other', source, digest, updated_at from workflows",
            "workflows",
        ),
        ("a schedule is in another's name", "update schedules set by_key = 'aaaaaaaaaaaa'", "schedules"),
        ("a schedule that was paused starts runs", "update schedules set paused_at = null", "schedules"),
        ("a tenant is gone", "delete from tenants where name = 'acme'", "tenants"),
        ("a run's row", "update runs set seq = seq - 1", "row"),
        ("a run is hidden", "delete from runs", "row"),
        ("a run is another key's", "update runs set by_key = 'aaaaaaaaaaaa'", "key"),
        ("a run is of another session", "update runs set session = 'forged'", "session"),
        ("a run did not go well", "update runs set state = 4", "failed"),
        ("a run was begun by another", "update runs set parent = id where name = 'echo'", "began it"),
        ("a run has another's name", "update runs set name = 'other' where name = 'echo'", "`other`"),
        (
            "a run is of something else",
            "update runs set target = 'workflow other' where name = 'flow'",
            "`workflow other`",
        ),
        (
            "a key stands for another run",
            "update idempotency set run = (select id from runs where name = 'echo')",
            "idempotency",
        ),
        ("a key stands for another request", "update idempotency set request = zeroblob(32)", "idempotency"),
        ("a key is remembered for longer", "update idempotency set expires_at = expires_at + 1", "idempotency"),
        (
            "a key that nobody sent",
            "insert into idempotency select tenant, 'other', request, run, expires_at from idempotency",
            "is in no entry",
        ),
        ("a key is forgotten", "delete from idempotency", "is not there"),
        ("a tenant has less on disk", "update chains set besides = besides - 1 where tenant = 'acme'", "`besides`"),
        ("its journals take less", "update chains set bytes = 0 where tenant = 'acme'", "`bytes`"),
    ];
    for (what, edit, place) in edits {
        sqlx::query("begin").execute(&mut record).await?;
        sqlx::raw_sql(edit).execute(&mut record).await?;
        sqlx::query("commit").execute(&mut record).await?;
        let found = verify(&host, &[])?;
        let named = found["damage"][0]["what"].as_str().is_some_and(|what| what.contains(place));
        assert!(named, "{what}: {found:#}");
        restore(&mut record, &host).await?;
        assert_eq!(verify(&host, &[])?["damage"], json!([]), "put back after: {what}");
    }

    for trigger in triggers {
        sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(&mut record).await?;
    }
    drop(record);
    // A copy from before, put in the place of the record of now.
    host.restart().await?;
    host.send(host.request(Method::PUT, "/v1/agents/echo/grants", &acme).json(&json!(["log"]))).await?.expect(200);
    host.terminate().await?;
    let now = verify(&host, &[&kept])?;
    assert_eq!(now["damage"], json!([]), "what was kept stands in the chain still: {now:#}");
    let newer = now["heads"].as_array().into_iter().flatten().find(|head| head["tenant"] == "acme").cloned();
    let newer = newer.and_then(|head| head["hash"].as_str().map(str::to_owned)).unwrap_or_default();
    std::fs::copy(host.data().join("copy.db"), host.data().join("record.db"))?;
    for rest in ["record.db-wal", "record.db-shm"] {
        let _ = std::fs::remove_file(host.data().join(rest));
    }
    assert_eq!(verify(&host, &[])?["damage"], json!([]), "by itself it is whole");
    let rolled_back = verify(&host, &[&newer])?;
    assert!(rolled_back["damage"][0]["what"].as_str().is_some_and(|what| what.contains(&newer)), "{rolled_back:#}");
    Ok(())
}

/// Who reads what is not its own is told by the hour: the first read at once, the others by their number, and many readers together.
#[tokio::test]
async fn reads_that_matter_are_counted_and_fill_no_ledger() -> Result<()> {
    let mut host = Host::start().await?;
    let acme = host.tenant("acme", "admin").await?;
    let (caller, viewer) = (host.key("acme", "caller").await?, host.key("acme", "viewer").await?);
    host.push(&acme, "echo", "echo", &["log"]).await?;
    let run = host.call(&caller, "echo", &json!({})).await?.expect(200).headers["ltmc-run"].to_str()?.to_owned();
    let read =
        async |key: &str, path: &str| anyhow::Ok(host.send(host.request(Method::GET, path, key)).await?.expect(200));
    let id = |key: &str| key.split('_').nth(1).unwrap_or_default().to_owned();
    for _ in 0..20 {
        read(&caller, &format!("/v1/runs/{run}")).await?;
        read(&viewer, &format!("/v1/runs/{run}")).await?;
        read(&viewer, "/v1/memory/global").await?;
        read(&host.operator, "/v1/keys?tenant=acme").await?;
        read(&host.operator, "/v1/ceilings/acme").await?;
    }
    let told = async |host: &Host| -> Result<std::collections::BTreeMap<(String, String), u64>> {
        let mut found = std::collections::BTreeMap::new();
        for act in acts(host, &acme, "?action=accessed&limit=100").await? {
            let of = (act["by"].as_str().unwrap_or("-").to_owned(), act["subject"].as_str().unwrap_or("-").to_owned());
            *found.entry(of).or_default() += act["detail"]["times"].as_u64().unwrap_or(0);
        }
        Ok(found)
    };
    let wanted = |times: u64| {
        let by = |key: &str, what: &str| ((id(key), what.to_owned()), times);
        [
            by(&viewer, "runs of other keys"),
            by(&viewer, "shared context"),
            by(&host.operator, "keys"),
            by(&host.operator, "ceiling and use of the disk"),
        ]
    };
    // Nobody waits for it to be written.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let first = wanted(1);
    loop {
        let found = told(&host).await?;
        if first.iter().all(|(of, times)| found.get(of) == Some(times)) {
            assert!(found.keys().all(|(by, _)| *by != id(&caller)), "its own run is no news: {found:?}");
            break;
        }
        anyhow::ensure!(std::time::Instant::now() < deadline, "{found:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let all = wanted(20);
    host.terminate().await?;
    assert_eq!(verify(&host, &[])?["damage"], json!([]));
    host.restart().await?;
    let found = told(&host).await?;
    for (of, times) in all {
        assert_eq!(found.get(&of), Some(&times), "{found:#?}");
    }
    assert!(
        acts(&host, &acme, "?action=accessed&limit=100").await?.len() <= 12,
        "two entries each, and those of this test's own reads"
    );
    Ok(())
}

/// Memory, notes, facts and mailboxes are what the chain commits to: by clients, by agents, by what ended of itself.
#[tokio::test]
async fn an_edit_of_shared_context_behind_the_host_s_back_is_found() -> Result<()> {
    let mut host = Host::start().await?;
    let acme = host.tenant("acme", "admin").await?;
    let send = async |method, path: &str, body: Value| -> Result<()> {
        let answer = host.send(host.request(method, path, &acme).json(&body)).await?;
        anyhow::ensure!(answer.status.is_success(), "{path}: {}", answer.text());
        Ok(())
    };
    for (key, value) in [("a", 1), ("b", 2), ("gone", 3), ("b", 4)] {
        send(Method::PUT, &format!("/v1/memory/global/{key}"), json!(value)).await?;
    }
    send(Method::PUT, "/v1/memory/global/ends?ttl=1s", json!(5)).await?;
    host.send(host.request(Method::DELETE, "/v1/memory/global/gone", &acme)).await?.expect(204);
    send(Method::PUT, "/v1/recall/n", json!({"text": "a note", "metadata": {"b": "2", "a": "1"}})).await?;
    send(
        Method::POST,
        "/v1/graph/facts",
        json!({"subject": "x", "relation": "knows", "object": "y", "properties": {"n": 1}}),
    )
    .await?;
    let ended = "/v1/graph/facts?subject=x&relation=knows&object=y";
    host.send(host.request(Method::DELETE, ended, &acme)).await?.expect(204);
    send(Method::POST, "/v1/graph/facts", json!({"subject": "x", "relation": "knows", "object": "z"})).await?;
    let grants = ["memory:read:*", "memory:write:*", "message:send:*"];
    host.push(&acme, "m", "memory-script", &grants).await?;
    host.push(&acme, "post", "message-script", &grants).await?;
    let steps = json!([{"do": "update", "scope": "global", "key": "counter", "rule": {"increment": 1}}]);
    for _ in 0..3 {
        host.call(&acme, "m", &steps).await?.expect(200);
    }
    let steps = json!([{"do": "send", "to": "m", "kind": "tick", "data": 7}]);
    host.call(&acme, "post", &steps).await?.expect(200);
    // What has ended is thrown away without an entry, and is not missed.
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    host.terminate().await?;
    assert_eq!(verify(&host, &[])?["damage"], json!([]));

    let mut record = SqliteConnection::connect(&host.data().join("record.db").to_string_lossy()).await?;
    count_nothing(&mut record).await?;
    let copy = host.data().join("copy.db").to_string_lossy().into_owned();
    sqlx::query("vacuum into ?").bind(&copy).execute(&mut record).await?;
    let edits = [
        ("a value", "update memory set value = x'39' where key = 'counter'", "counter"),
        ("a value of now for a revision of before", "update memory set revision = revision - 1 where key = 'b'", "b"),
        ("what ends", "update memory set expires_at = 9999999999999 where key = 'a'", "`a`"),
        ("a key of nobody's", "insert into memory values ('acme', 0, '', 'new', 99, null, x'31')", "new"),
        ("a key that was deleted", "insert into memory values ('acme', 0, '', 'gone', 3, null, x'33')", "gone"),
        ("a key is gone", "delete from memory where key = 'a'", "is not there"),
        ("a note's text", "update notes set text = cast('other' as blob)", "the note `n`"),
        ("a note's metadata", "update notes set metadata = '{}'", "the note `n`"),
        ("a fact's properties", "update facts set properties = cast('{}' as blob)", "the fact x knows"),
        ("a fact that was ended holds again", "update facts set valid_to = null, ended_at = null", "is not there"),
        ("a fact is over", "update facts set valid_to = 5, ended_at = 5 where object = 'z'", "the end of the fact"),
        ("a message", "update mail set event = x'00'", "a message to `m`"),
        ("a message is gone", "delete from mail", "is not there"),
        (
            "a change that follows",
            "update log set delta = (select delta from log where topic = 2) where topic = 0",
            "in `log`",
        ),
        ("what a change is about", "update log set about = 'global//other' where topic = 0", "in `log`"),
        ("a change of another kind", "update log set topic = 3 where topic = 2", "in `log`"),
        ("a change is another tenant's", "update log set tenant = 'default' where topic = 2", "in `log`"),
        ("a change that nobody follows", "delete from log where topic = 0", "`besides`"),
    ];
    for (what, edit, named) in edits {
        sqlx::raw_sql(edit).execute(&mut record).await?;
        let found = verify(&host, &[])?;
        let first = &found["damage"][0];
        assert!(first["what"].as_str().is_some_and(|what| what.contains(named)), "{what}: {found:#}");
        let tenant = if edit.contains("'default'") { "default" } else { "acme" };
        assert_eq!(first["tenant"], tenant, "{what}: {found:#}");
        sqlx::query("attach ? as copy").bind(&copy).execute(&mut record).await?;
        for table in ["memory", "notes", "facts", "mail", "log"] {
            let sql = format!("delete from main.{table}; insert into main.{table} select * from copy.{table}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut record).await?;
        }
        sqlx::query("detach copy").execute(&mut record).await?;
        assert_eq!(verify(&host, &[])?["damage"], json!([]), "put back after: {what}");
    }
    Ok(())
}

/// What `until` waits for at most.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Asks until it is so.
async fn until(host: &Host, path: &str, is: impl Fn(&Value) -> bool) -> Result<()> {
    let begun = std::time::Instant::now();
    loop {
        let found = host.get(path).await?.expect(200).json();
        if is(&found) {
            return Ok(());
        }
        anyhow::ensure!(begun.elapsed() < PATIENCE, "{path} does not come to that: {found:#}\n{}", host.log());
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
}

/// Sessions that were talked in, taken back, forked and closed; a question that is open and one that was answered; a run that waits for an event; and events
/// that a subscription took in.
async fn what_follows_journals(host: &mut Host) -> Result<()> {
    let memory = ["memory:read:*", "memory:write:*"];
    host.push(&host.admin, "writer", "memory-script", &memory).await?;
    host.push(&host.admin, "counter", "counter", &memory).await?;
    let post = async |host: &Host, path: &str, body: Value| -> Result<Value> {
        let request = host.request(Method::POST, path, &host.admin).header("prefer", "wait=20");
        let answer = host.send(request.json(&body)).await?;
        anyhow::ensure!(answer.status.is_success(), "{path}: {}", answer.text());
        Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
    };
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let opened = post(host, "/v1/sessions", json!({"agent": "writer"})).await?;
        sessions.push(opened["id"].as_str().unwrap_or_default().to_owned());
    }
    let says = |value: u32| json!([{"do": "put", "scope": "session", "key": "a", "value": value.to_string()}]);
    for session in &sessions {
        for value in 1..=3 {
            post(host, &format!("/v1/sessions/{session}/turns"), says(value)).await?;
        }
    }
    post(host, &format!("/v1/sessions/{}/rewind", sessions[0]), json!({"to": 2})).await?;
    post(host, &format!("/v1/sessions/{}/turns", sessions[0]), says(4)).await?;
    post(host, &format!("/v1/sessions/{}/fork", sessions[1]), json!({"at": 2})).await?;
    post(host, &format!("/v1/sessions/{}/close", sessions[1]), json!({})).await?;

    for (name, rest) in [
        ("publish", "flow: {ask: {title: \"Publish?\", of: author}}"),
        ("ship", "flow: {wait: {topic: orders, match: {type: order.paid, subject: $.input.id}}}"),
        (
            "intake",
            "on: [{topic: jobs}]\nflow: {agent: counter, with: {key: n, scope: agent, times: $.input.data.times}}",
        ),
    ] {
        let request = host.request(Method::PUT, &format!("/v1/workflows/{name}"), &host.admin);
        let document = format!("name: {name}\n{rest}\n");
        host.send(request.header("content-type", "application/yaml").body(document)).await?.expect(201);
    }
    let begin = async |host: &Host, name: &str, input: Value| -> Result<()> {
        let request = host.request(Method::POST, &format!("/v1/workflows/{name}/runs"), &host.admin);
        host.send(request.header("prefer", "wait=0").json(&input)).await?.expect(202);
        Ok(())
    };
    for _ in 0..2 {
        begin(host, "publish", json!({})).await?;
    }
    begin(host, "ship", json!({"id": "o1"})).await?;
    let len = |found: &Value, count: usize| found["items"].as_array().is_some_and(|items| items.len() == count);
    until(host, "/v1/approvals", |found| len(found, 2)).await?;
    let open = host.get("/v1/approvals").await?.expect(200).json();
    let token = open["items"][0]["token"].as_str().unwrap_or_default();
    post(host, &format!("/v1/approvals/{token}"), json!({"answer": true})).await?;
    until(host, "/v1/runs?state=waiting", |found| len(found, 2)).await?;
    for (number, times) in [(1, json!("many")), (2, json!(1))] {
        let event = json!({"specversion": "1.0", "id": number.to_string(), "source": "/shop", "type": "job", "data": {"times": times}});
        let request = host.request(Method::POST, "/v1/events?topic=jobs", &host.admin);
        let request = request.header("content-type", "application/cloudevents+json").body(event.to_string());
        host.send(request).await?.expect(200);
    }
    until(host, "/v1/subscriptions/intake:1", |row| row["dead"] == 1 && row["waiting"] == 1).await?;
    host.kill_and_restart().await?;
    until(host, "/v1/approvals", |found| len(found, 1)).await
}

/// Questions, waits, sessions and their turns, what these are taken back to, and what subscriptions took in: as the journals say, and by nobody else.
#[tokio::test]
async fn an_edit_of_what_follows_the_journals_is_found() -> Result<()> {
    let mut host = Host::start().await?;
    what_follows_journals(&mut host).await?;
    host.terminate().await?;
    assert_eq!(verify(&host, &[])?["damage"], json!([]));

    let mut record = SqliteConnection::connect(&host.data().join("record.db").to_string_lossy()).await?;
    count_nothing(&mut record).await?;
    let copy = host.data().join("copy.db").to_string_lossy().into_owned();
    sqlx::query("vacuum into ?").bind(&copy).execute(&mut record).await?;
    let edits = [
        ("a turn is another's", "update turns set by_key = 'aaaaaaaaaaaa' where number = 1", "in `turns`"),
        ("a turn counts again", "update turns set undone = 0", "in `turns`"),
        ("a turn is at work", "update turns set stage = 1 where number = 2", "in `turns`"),
        ("a turn began at another time", "update turns set began = began + 1 where number = 2", "in `turns`"),
        ("a turn is gone", "delete from turns where number = 3", "in `turns`"),
        (
            "a turn that nobody took",
            "insert into turns (tenant, session, number, run, by_key, stage) select tenant, session, 99, run, by_key, 2 from turns limit 1",
            "in `turns`",
        ),
        ("a session is open again", "update sessions set standing = 0", "in `sessions`"),
        ("a session had other turns", "update sessions set turns = turns + 1", "in `sessions`"),
        ("a session expires never", "update sessions set due_at = null where due_at is not null", "in `sessions`"),
        ("nobody attends to sessions", "delete from session_times", "in `session_times`"),
        ("others may answer", "update questions set of_role = 'caller' where state = 0", "in `questions`"),
        ("something else is asked", "update questions set title = 'Other?'", "in `questions`"),
        ("an answer never was", "update questions set state = 0 where state = 1", "in `questions`"),
        ("a question is gone", "delete from questions where state = 0", "in `questions`"),
        ("another event is waited for", "update subscriptions set subject = 'o2'", "in `subscriptions`"),
        ("no event is waited for", "delete from subscriptions", "in `subscriptions`"),
        ("what a key held", "update session_keeps set value = x'39' where value is not null", "in `session_keeps`"),
        ("that it held nothing", "update session_keeps set value = null", "in `session_keeps`"),
        ("for how long", "update session_keeps set expires_at = 5 where value is not null", "in `session_keeps`"),
        ("what was kept is gone", "delete from session_keeps", "in `session_keeps`"),
        (
            "what nobody kept",
            "insert into session_keeps select tenant, session, began, 'b', value, expires_at, revision from session_keeps limit 1",
            "in `session_keeps`",
        ),
        ("an event that was taken in", "update arrivals set event = x'00'", "in `arrivals`"),
        (
            "another one in its place",
            "update arrivals set event = (select b.event from arrivals b where b.position <> arrivals.position)",
            "in `arrivals`",
        ),
        ("its key", "update arrivals set key = 'other'", "in `arrivals`"),
        ("a dead letter waits again", "update arrivals set stage = 0 where stage > 1", "in `arrivals`"),
        ("one that waits is under way", "update arrivals set stage = 1 where stage = 0", "in `arrivals`"),
        ("another run did it", "update arrivals set run = (select id from runs where name = 'ship')", "in `arrivals`"),
        ("an event that is gone", "delete from arrivals", "`besides`"),
        ("an event of a topic", "update events set topic = 'orders'", "an event of `orders`"),
        (
            "an event that nobody published",
            "insert into events select tenant, topic, position + 1000, id + 1000, event, subject, cause from events",
            "in no entry",
        ),
        (
            "an event for those who follow",
            "update log set delta = (select delta from log order by position desc limit 1) where topic = 3",
            "in `log`",
        ),
        ("a run is another turn", "update runs set turn = turn + 1", "another turn"),
    ];
    let tables = [
        "turns",
        "sessions",
        "session_times",
        "questions",
        "subscriptions",
        "session_keeps",
        "arrivals",
        "events",
        "runs",
        "log",
    ];
    for (what, edit, named) in edits {
        let edited = sqlx::raw_sql(edit).execute(&mut record).await?;
        assert!(edited.rows_affected() > 0, "{what}: nothing was edited");
        let found = verify(&host, &[])?;
        let first = found["damage"][0]["what"].as_str().unwrap_or_default();
        assert!(first.contains(named), "{what}: {found:#}");
        sqlx::query("attach ? as copy").bind(&copy).execute(&mut record).await?;
        for table in tables {
            let sql = format!("delete from main.{table}; insert into main.{table} select * from copy.{table}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut record).await?;
        }
        sqlx::query("detach copy").execute(&mut record).await?;
        assert_eq!(verify(&host, &[])?["damage"], json!([]), "put back after: {what}");
    }
    Ok(())
}

/// Puts the catalog and the runs back as the copy has them.
async fn restore(record: &mut SqliteConnection, host: &Host) -> Result<()> {
    let copy = host.data().join("copy.db").to_string_lossy().into_owned();
    sqlx::query("attach ? as copy").bind(copy).execute(&mut *record).await?;
    for table in
        ["tenants", "ceilings", "keys", "agents", "grants", "workflows", "schedules", "runs", "idempotency", "chains"]
    {
        let sql = format!("delete from main.{table}; insert into main.{table} select * from copy.{table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *record).await?;
    }
    sqlx::query("detach copy").execute(&mut *record).await?;
    Ok(())
}
