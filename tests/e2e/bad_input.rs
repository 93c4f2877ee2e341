//! Whatever is sent: a clear error of the right class, never a 500, and the host goes on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;
use ltmc_tests::{Host, guest_bytes, wasm};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn uploads_that_are_no_agents_say_why() -> Result<()> {
    let host = Host::start().await?;
    let echo = guest_bytes("echo")?;
    let mut malformed = echo.clone();
    let middle = malformed.len() / 2;
    malformed[middle..middle + 64].fill(0xff);
    let cases = [
        ("empty", Vec::new(), "empty"),
        ("text", b"hello".to_vec(), "not-wasm"),
        ("core", guest_bytes("core-module")?, "core-module"),
        ("cut", echo[..echo.len() / 2].to_vec(), "malformed"),
        ("damaged", malformed, "malformed"),
        ("nothing", guest_bytes("no-export")?, "no-export"),
        ("greedy", guest_bytes("memory-claim")?, "needs-too-much"),
        ("crowded", guest_bytes("many-instances")?, "needs-too-much"),
        ("unknown", guest_bytes("unknown-import")?, "unknown-import"),
    ];
    for (name, bytes, code) in cases {
        let answer = host.push_bytes(&host.admin, name, bytes).await?;
        assert!(answer.status.is_client_error(), "{name}: {}", answer.text());
        assert_eq!(answer.code(), code, "{name}: {}", answer.text());
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(host.get(&format!("/v1/agents/{name}")).await?.status, 404, "{name} was kept");
    }
    let large = host.push_bytes(&host.admin, "large", vec![0; 65 << 20]).await?.expect(413);
    assert_eq!(large.code(), "too-large");
    host.push_bytes(&host.admin, "echo", echo).await?.expect(201);
    Ok(())
}

#[tokio::test]
async fn manifests_names_and_capabilities_that_do_not_parse_are_refused() -> Result<()> {
    let host = Host::start().await?;
    let echo = guest_bytes("echo")?;
    for manifest in [
        "{",
        "[]",
        r#"{"manifest":2}"#,
        r#"{"manifest":1,"asks":["fly"]}"#,
        r#"{"manifest":1,"x":1}"#,
        r#"{"manifest":1,"asks":["log","log"]}"#,
        r#"{"manifest":1,"limits":{"cpu":"60s","wall":"1s"}}"#,
        r#"{"manifest":1,"limits":{"memory":"0B"}}"#,
    ] {
        let form = reqwest::multipart::Form::new()
            .part("component", reqwest::multipart::Part::bytes(echo.clone()))
            .part("manifest", reqwest::multipart::Part::text(manifest.to_owned()));
        let request = host.request(Method::PUT, "/v1/agents/echo", &host.admin).multipart(form);
        let answer = host.send(request).await?;
        assert!(answer.status.is_client_error(), "{manifest}: {}", answer.text());
        assert_eq!(answer.code(), "bad-manifest", "{manifest}: {}", answer.text());
    }
    for name in ["Echo", "a--", "-a", "a_b", "%2e%2e", &"a".repeat(64)] {
        let answer = host.push_bytes(&host.admin, name, echo.clone()).await?;
        assert!(matches!(answer.status.as_u16(), 400 | 404 | 422), "{name}: {}", answer.text());
    }
    host.push_bytes(&host.admin, "echo", echo).await?.expect(201);
    for grants in [json!(["fly"]), json!(["memory:read:all"]), json!("log"), json!([1]), json!({"a": 1})] {
        let answer = host.put_json("/v1/agents/echo/grants", &grants).await?;
        assert!(answer.status.is_client_error(), "{grants}: {}", answer.text());
    }
    Ok(())
}

#[tokio::test]
async fn a_document_with_several_faults_shows_all_of_them_with_their_places() -> Result<()> {
    let host = Host::start().await?;
    let document = "name: review\nflow:\n  sequence:\n    - agent: Nobody\n    - agnt: x\n    - agent: ghost\n      retry: {attempts: 0}\n";
    let request = host.request(Method::PUT, "/v1/workflows/review", &host.admin);
    let answer = host.send(request.header("content-type", "application/yaml").body(document)).await?;
    assert!(answer.status.is_client_error(), "{}", answer.text());
    let details = answer.json()["details"].as_array().cloned().unwrap_or_default();
    assert!(details.len() >= 3, "{}", answer.text());
    assert!(details.iter().all(|d| d["line"].as_u64() >= Some(1) && d["column"].as_u64() >= Some(1)), "{details:#?}");

    let deep = format!("name: deep\nflow: {}{}", "{sequence: [".repeat(1_000), "]}".repeat(1_000));
    let request = host.request(Method::PUT, "/v1/workflows/deep", &host.admin);
    let answer = host.send(request.header("content-type", "application/yaml").body(deep)).await?;
    assert!(answer.status.is_client_error(), "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn http_that_is_malformed_slow_or_half_closed_harms_nobody() -> Result<()> {
    let host = Host::start_with("").await?;
    for garbage in [
        "GET\r\n\r\n".to_owned(),
        "POST /v1/agents/a/call HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(200_000)),
        "POST /v1/agents/a/call HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
    ] {
        let mut stream = TcpStream::connect(host.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        drop(stream.write_all(garbage.as_bytes()));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // Half-closed with half a body.
    let mut stream = TcpStream::connect(host.address())?;
    write!(
        stream,
        "POST /v1/agents/a/call HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 100\r\n\r\nhalf",
        host.admin
    )?;
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    for path in ["/v1/nothing", "/v1/runs/not-an-id", "/v1/runs?limit=x", "/v1/runs?cursor=%00", "/v1/runs?state=odd"] {
        let answer = host.get(path).await?;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.text());
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
    }
    let answer = host.send(host.request(Method::DELETE, "/healthz", "")).await?;
    assert_eq!(answer.status, 405);
    host.get("/healthz").await?.expect(200);
    Ok(())
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() -> Result<()> {
    let host = Host::start_with("[limits]\nbody_stall = \"1s\"\nhead_time = \"1s\"\n").await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let mut slow = TcpStream::connect(host.address())?;
    let authorization = format!("Authorization: Bearer {}", host.admin);
    write!(
        slow,
        "POST /v1/agents/echo/call HTTP/1.1\r\nHost: x\r\n{authorization}\r\nContent-Length: 100\r\n\r\nhalf"
    )?;
    // Another that never gets to the end of its head.
    let mut slower = TcpStream::connect(host.address())?;
    write!(slower, "GET / HTTP/1.1\r\nHost:")?;
    host.call(&host.admin, "echo", &json!({})).await?.expect(200);
    for (stream, wanted) in [(&mut slow, "slow-body"), (&mut slower, "")] {
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let mut answer = String::new();
        drop(stream.read_to_string(&mut answer));
        assert!(answer.contains(wanted), "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn a_component_made_to_exhaust_the_compiler_takes_only_the_child_with_it() -> Result<()> {
    let bomb = wasm::compile_bomb(60_000)?;
    for limit in ["compile_time = \"1s\"", "compile_memory = \"200MiB\""] {
        let host = Host::start_with(&format!("[sandbox]\n{limit}\n")).await?;
        let before = host.resident();
        let bombing = host.push_bytes(&host.admin, "bomb", bomb.clone());
        let living = async {
            for _ in 0..10 {
                host.get("/v1/agents").await?.expect(200);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            anyhow::Ok(())
        };
        let (refused, lives) = tokio::join!(bombing, living);
        lives?;
        let refused = refused?;
        assert_eq!(
            (refused.status.as_u16(), refused.code().as_str()),
            (400, "too-costly"),
            "{limit}: {}",
            refused.text()
        );
        assert_eq!(host.get("/v1/agents/bomb").await?.status, 404, "{limit}: it was kept");
        let grown = host.resident().saturating_sub(before);
        assert!(grown < 64 << 20, "{limit}: the host has {grown} bytes more than before");
    }
    Ok(())
}

#[tokio::test]
async fn a_second_host_on_the_same_directory_is_refused() -> Result<()> {
    let host = Host::start().await?;
    let other = std::process::Command::new(ltmc_tests::binary()?)
        .arg("serve")
        .arg("--data")
        .arg(host.data())
        .args(["--listen", "127.0.0.1:0"])
        .output()?;
    assert!(!other.status.success());
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(said.contains("another") || said.contains("in use") || said.contains("lock"), "{said}");
    host.get("/healthz").await?.expect(200);
    Ok(())
}
