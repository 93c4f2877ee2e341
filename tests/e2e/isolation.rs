//! Two tenants with the same names everywhere never see each other.

use anyhow::Result;
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn what_is_anothers_is_not_there() -> Result<()> {
    let host = Host::start().await?;
    let (a, b) = (host.tenant("alpha", "admin").await?, host.tenant("beta", "admin").await?);
    let grants = ["memory:read:*", "memory:write:*"];
    host.push(&a, "counter", "counter", &grants).await?;
    assert_eq!(host.call(&b, "counter", &json!({})).await?.status, 404);

    host.push(&b, "counter", "counter", &grants).await?;
    for scope in ["global", "agent"] {
        let body = json!({"key": "n", "scope": scope, "times": 3});
        let first = host.call(&a, "counter", &body).await?.expect(200);
        let other = host.call(&b, "counter", &body).await?.expect(200);
        assert_eq!(first.json()["value"], other.json()["value"], "{}", other.text());
        let run = first.headers["ltmc-run"].to_str()?;
        for path in [format!("/v1/runs/{run}"), format!("/v1/runs/{run}/journal"), format!("/v1/runs/{run}/events")] {
            host.send(host.request(Method::GET, &path, &b)).await?.expect(404);
        }
        host.send(host.request(Method::POST, &format!("/v1/runs/{run}/cancel"), &b)).await?.expect(404);
    }
    let runs = host.send(host.request(Method::GET, "/v1/runs", &b)).await?.expect(200).json();
    assert_eq!(runs["items"].as_array().unwrap().len(), 2);
    // The operator keeps the house, and sees nobody's things.
    let operator = host.operator.clone();
    host.send(host.request(Method::GET, "/v1/runs", &operator)).await?.expect(403);
    host.call(&operator, "counter", &json!({})).await?.expect(403);
    Ok(())
}

#[tokio::test]
async fn a_caller_reads_its_own_runs_only() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let (one, two) = (host.key("default", "caller").await?, host.key("default", "caller").await?);
    let run = host.call(&one, "echo", &json!({})).await?.expect(200).headers["ltmc-run"].to_str()?.to_owned();
    host.send(host.request(Method::GET, &format!("/v1/runs/{run}"), &one)).await?.expect(200);
    host.send(host.request(Method::GET, &format!("/v1/runs/{run}"), &two)).await?.expect(404);
    Ok(())
}

/// However much another tenant writes, one's own revisions go on as if nobody else were there.
#[tokio::test]
async fn revisions_do_not_tell_what_others_write() -> Result<()> {
    let mut host = Host::start().await?;
    let (a, b) = (host.tenant("alpha", "admin").await?, host.tenant("beta", "admin").await?);
    let put = async |host: &Host, key: &str, name: &str| -> Result<u64> {
        let request = host.request(Method::PUT, &format!("/v1/memory/global/{name}"), key).body("v");
        let answer = host.send(request).await?;
        anyhow::ensure!(answer.status.is_success(), "{}", answer.text());
        Ok(answer.headers["etag"].to_str()?.trim_matches('"').parse()?)
    };
    assert_eq!((put(&host, &a, "k").await?, put(&host, &b, "k").await?), (1, 1));
    for n in 0..20 {
        put(&host, &b, &format!("k{n}")).await?;
    }
    assert_eq!(put(&host, &a, "k").await?, 2);
    host.kill_and_restart().await?;
    assert_eq!((put(&host, &a, "k").await?, put(&host, &b, "k").await?), (3, 22));
    Ok(())
}
