//! Tenants are deleted: at once for who comes with their keys, wholly in the background, also over a host that is killed meanwhile;
//! and who has the name afterwards sees nothing of it.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

const PATIENCE: Duration = Duration::from_secs(60);
const GRANTS: [&str; 4] = ["memory:read:*", "memory:write:*", "message:send:*", "log"];

/// Everything that a tenant has a way to have.
async fn furnish(host: &Host, key: &str) -> Result<()> {
    for (name, guest) in [("m", "memory-script"), ("post", "message-script"), ("own", "counter"), ("slow", "sleeper")] {
        host.push(key, name, guest, &GRANTS).await?;
    }
    let send = async |method, path: &str, body: Value| -> Result<()> {
        let answer = host.send(host.request(method, path, key).json(&body)).await?;
        ensure!(answer.status.is_success(), "{path}: {}", answer.text());
        Ok(())
    };
    for number in 0..200 {
        send(Method::PUT, &format!("/v1/memory/global/k{number}"), json!("v".repeat(1_000))).await?;
    }
    send(Method::PUT, "/v1/recall/n", json!({"text": "a note of acme's", "metadata": {"a": "1"}})).await?;
    send(Method::POST, "/v1/graph/facts", json!({"subject": "x", "relation": "knows", "object": "y"})).await?;
    send(Method::POST, "/v1/events", json!({"topic": "news", "type": "t", "data": 1})).await?;
    let steps = json!([{"do": "send", "to": "m", "kind": "tick", "data": 7}]);
    host.call(key, "post", &steps).await?.expect(200);
    let flow = "name: patient\nflow: {agent: own}\n";
    let put = host.request(Method::PUT, "/v1/workflows/patient", key).header("content-type", "application/yaml");
    ensure!(host.send(put.body(flow)).await?.status.is_success());
    Ok(())
}

/// How many rows each table of the record has of a tenant.
async fn rows(host: &Host, tenant: &str) -> Result<Vec<(String, i64)>> {
    let mut record = SqliteConnection::connect(&host.data().join("record.db").to_string_lossy()).await?;
    let sql = "select m.name from sqlite_schema m join pragma_table_info(m.name) c where m.type = 'table' and c.name = 'tenant'";
    let tables: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut record).await?;
    ensure!(tables.len() > 10, "{tables:?}");
    let mut found = Vec::new();
    for table in tables {
        let sql = format!("select count(*) from {table} where tenant = ?");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(tenant).fetch_one(&mut record).await?;
        if count > 0 {
            found.push((table, count));
        }
    }
    Ok(found)
}

async fn acts(host: &Host, action: &str) -> Result<Vec<Value>> {
    let path = format!("/v1/audit?action={action}");
    let page = host.send(host.request(Method::GET, &path, &host.operator)).await?.expect(200).json();
    Ok(page["items"].as_array().cloned().unwrap_or_default())
}

async fn until_gone(host: &Host, times: usize) -> Result<Vec<Value>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let gone = acts(host, "tenant-gone").await?;
        if gone.len() == times {
            return Ok(gone);
        }
        ensure!(Instant::now() < deadline, "it is not gone: {:?}\n{}", rows(host, "acme").await?, host.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn verify(host: &Host) -> Result<Value> {
    let mut command = Command::new(ltmc_tests::binary()?);
    let output = command.args(["audit", "verify", "--json", "--data"]).arg(host.data()).output()?;
    Ok(serde_json::from_slice::<Value>(&output.stdout)?["damage"].clone())
}

/// The host dies while a tenant goes, at several moments: what others keep is found still, and the name becomes free.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_while_a_tenant_goes_serves_the_others() -> Result<()> {
    let mut host = Host::start().await?;
    for (number, millis) in [0_u64, 5, 40].into_iter().enumerate() {
        let doomed = host.tenant("doomed", "admin").await?;
        let note = |text: String| json!({"text": text, "metadata": {}});
        let kept = host.request(Method::PUT, "/v1/recall/n", &doomed).json(&note("a note of doomed's".into()));
        ensure!(host.send(kept).await?.status.is_success());
        host.send(host.request(Method::DELETE, "/v1/tenants/doomed", &host.operator)).await?.expect(202);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        host.kill_and_restart().await?;
        let id = format!("after-{number}");
        let text = format!("what was kept after the deletion of number {number}");
        let kept = host.request(Method::PUT, &format!("/v1/recall/{id}"), &host.admin).json(&note(text.clone()));
        ensure!(host.send(kept).await?.status.is_success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = host.post_json("/v1/recall/search", &json!({"query": text})).await?.expect(200).json();
            let is_free = acts(&host, "tenant-gone").await?.len() > number;
            if found["degraded"] != true && found.to_string().contains(&id) && is_free {
                break;
            }
            ensure!(Instant::now() < deadline, "{found}\n{}", host.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_is_gone_with_all_it_had_and_its_name_is_anothers() -> Result<()> {
    let mut host = Host::start().await?;
    let (acme, beta) = (host.tenant("acme", "admin").await?, host.tenant("beta", "admin").await?);
    furnish(&host, &acme).await?;
    // The same code, which is another's too.
    host.push(&beta, "theirs", "counter", &GRANTS).await?;
    let counted = json!({"key": "n", "scope": "agent", "times": 1});
    host.call(&beta, "theirs", &counted).await?.expect(200);
    let under_way = host.request(Method::POST, "/v1/agents/slow/call", &acme).json(&json!({"ms": 60_000}));
    let under_way = tokio::spawn(async move { under_way.send().await.map(|answer| answer.status().as_u16()) });
    tokio::time::sleep(Duration::from_millis(500)).await;

    let delete =
        |host: &Host, tenant: &str, key: &str| host.request(Method::DELETE, &format!("/v1/tenants/{tenant}"), key);
    host.send(delete(&host, "acme", &acme)).await?.expect(403);
    host.send(delete(&host, "nobody", &host.operator)).await?.expect(404);
    let begun = Instant::now();
    host.send(delete(&host, "acme", &host.operator)).await?.expect(202);
    host.send(host.request(Method::GET, "/v1/agents", &acme)).await?.expect(401);
    host.send(delete(&host, "acme", &host.operator)).await?.expect(404);
    // It dies at once, and goes on with it.
    host.kill_and_restart().await?;
    host.send(host.request(Method::GET, "/v1/agents", &acme)).await?.expect(401);
    ensure!(verify(&host)? == json!([]), "{:#}", verify(&host)?);
    let gone = until_gone(&host, 1).await?;
    assert_eq!(gone[0]["subject"], "acme");
    drop(under_way.await?);
    ensure!(begun.elapsed() < Duration::from_secs(50), "what is under way ends: {:?}", begun.elapsed());
    assert_eq!(rows(&host, "acme").await?, []);
    let deleted = acts(&host, "tenant-deleted").await?;
    let operator = host.operator.split('_').nth(1).unwrap_or_default();
    assert_eq!((&deleted[0]["subject"], &deleted[0]["by"]), (&json!("acme"), &json!(operator)));
    // Components go where nobody else has them.
    host.call(&beta, "theirs", &counted).await?.expect(200);
    let kept = std::fs::read_dir(host.data().join("sandbox/components"))?.count();
    assert_eq!(kept, 1, "beta's alone");

    // Another has its name.
    let anew = host.tenant("acme", "admin").await?;
    for path in
        ["/v1/agents", "/v1/runs", "/v1/workflows", "/v1/memory/global", "/v1/graph/facts", "/v1/events?topic=news"]
    {
        let found = host.send(host.request(Method::GET, path, &anew)).await?.expect(200).json();
        let items = found["items"].as_array().or(found["facts"].as_array()).or(found["events"].as_array());
        assert!(items.is_some_and(Vec::is_empty), "{path}: {found}");
    }
    let search = host.request(Method::POST, "/v1/recall/search", &anew).json(&json!({"query": "a note of acme's"}));
    let found = host.send(search).await?.expect(200).text();
    assert!(!found.contains("a note of"), "{found}");
    host.push(&anew, "own", "counter", &GRANTS).await?;
    host.call(&anew, "own", &counted).await?.expect(200);
    host.terminate().await?;
    ensure!(verify(&host)? == json!([]), "{:#}", verify(&host)?);

    // And once more, by the command; the last one stays.
    host.restart().await?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(ltmc_tests::binary()?);
        let output = command.args(["tenant", "delete"]).args(arguments).arg("--data").arg(host.data()).output()?;
        anyhow::Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (code, said) = command(&["acme"])?;
    assert!(code == Some(2) && said.contains("--yes"), "{said}");
    for tenant in ["acme", "beta"] {
        let (code, said) = command(&[tenant, "--yes"])?;
        assert!(code == Some(0), "{said}");
    }
    until_gone(&host, 3).await?;
    let (code, said) = command(&["default", "--yes"])?;
    assert!(code == Some(1) && said.contains("is the only one"), "{said}");
    ensure!(verify(&host)? == json!([]), "{:#}", verify(&host)?);
    Ok(())
}
