//! HTTP as it is said on the wire: what can be read in two ways is refused, and a client that takes nothing of an answer over
//! HTTP/2 holds neither its connection nor its part of the room for answers.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long the host's answers may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// `limits.write_stall` of a host whose clients take nothing.
const STALL: Duration = Duration::from_secs(3);

/// All that comes of a connection on which this was sent; `then` is done to it first.
fn said(host: &Host, pieces: &[&str], then: impl FnOnce(&TcpStream) -> std::io::Result<()>) -> Result<String> {
    let mut stream = TcpStream::connect(host.address())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    for piece in pieces {
        drop(stream.write_all(piece.as_bytes()));
        std::thread::sleep(Duration::from_millis(20));
    }
    then(&stream)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(|| format!("{pieces:?}: {}", String::from_utf8_lossy(&bytes)))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_in_two_ways_is_refused_with_a_problem() -> Result<()> {
    let host = Host::start().await?;
    let long = "a".repeat(100_000);
    let post = "POST /v1/agents/a/call HTTP/1.1\r\nHost: x\r\n";
    let get = "GET /healthz HTTP/1.1\r\n";
    for (sent, status, code, field) in [
        (format!("{get}Host: x\r\nHost: x\r\n\r\n"), 400, "bad-request", "Host"),
        (format!("{get}Host: x\r\nhost: y\r\n\r\n"), 400, "bad-request", "Host"),
        (format!("{get}\r\n"), 400, "bad-request", "Host"),
        (format!("{get}Host: x\nX: y\r\n\r\n"), 400, "bad-request", ""),
        ("GET /healthz HTTP/1.1\nHost: x\n\n".to_owned(), 400, "bad-request", ""),
        (format!("{get}Host: x\r\n\n"), 400, "bad-request", ""),
        (
            format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
            "bad-request",
            "Content-Length",
        ),
        (
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
            400,
            "bad-request",
            "Content-Length",
        ),
        (format!("{post}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"), 400, "bad-request", "Content-Length"),
        (format!("{post}Content-Length: {}\r\n\r\nx", u64::MAX), 400, "bad-request", "Content-Length"),
        (format!("{post}Content-Length: 18446744073709551616\r\n\r\nx"), 400, "bad-request", "Content-Length"),
        (format!("{post}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"), 400, "bad-request", ""),
        (
            format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            501,
            "unsupported-transfer-coding",
            "Transfer-Encoding",
        ),
        (
            format!("{post}Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            501,
            "unsupported-transfer-coding",
            "Transfer-Encoding",
        ),
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), 414, "uri-too-long", ""),
        (format!("{get}Host: x\r\nX: {long}\r\n\r\n"), 431, "head-too-large", ""),
    ] {
        // Also where it comes in two pieces, and behind a request that is answered.
        let (first, second) = sent.split_at(sent.len() / 2);
        let good = format!("{get}Host: x\r\n\r\n");
        for (pieces, before) in [(vec![sent.as_str()], 0), (vec![first, second], 0), (vec![&good, &sent], 1)] {
            let text = said(&host, &pieces, |_| Ok(()))?;
            let shown = &sent[..sent.len().min(100)];
            assert_eq!(text.matches("HTTP/1.1 200 ").count(), before, "{shown:?}: {text}");
            let last = text.rfind("HTTP/1.1 ").map(|at| &text[at..]).unwrap_or_default();
            assert!(last.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?} {}: {text}", pieces.len());
            assert!(last.contains("content-type: application/problem+json"), "{shown:?}: {text}");
            assert!(last.contains(&format!("\"code\":\"{code}\"")), "{shown:?}: {text}");
            assert!(field.is_empty() || last.contains(&format!("\"field\":\"{field}\"")), "{shown:?}: {text}");
        }
    }
    // A chunk's length with a space behind it, of a body that somebody waits for.
    host.push(&host.admin, "cat", "cat", &[]).await?;
    let key = &host.admin;
    let head = format!("POST /v1/agents/cat/call HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n");
    for (line, status) in [("3", 200), ("3;a=b", 200), ("3 ", 400), ("3 ;a=b", 400), ("+3", 400)] {
        let sent = format!("{head}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n{line}\r\nabc\r\n0\r\n\r\n");
        let text = said(&host, &[&sent], |_| Ok(()))?;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{line:?}: {text}");
        assert!(status == 200 || text.contains("content-type: application/problem+json"), "{line:?}: {text}");
    }
    let text = said(&host, &["GET /healthz HTTP/1.0\r\n\r\n"], |_| Ok(()))?;
    assert!(text.starts_with("HTTP/1.0 200 ") || text.starts_with("HTTP/1.1 200 "), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_come_whole_whatever_stands_in_them_and_whatever_comes_behind() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "cat", "cat", &[]).await?;
    let head = format!(
        "POST /v1/agents/cat/call HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nAuthorization: Bearer {}\r\n",
        host.admin
    );
    let body = "GET / HTTP/1.1\n\n\nHost: x\nHost: y\n";
    let length = body.len();
    let sent = format!(
        "{head}Content-Length: {length}\r\n\r\n{body}{head}Transfer-Encoding: chunked\r\n\r\n\
         3;a=b\r\n{}\r\n{:X}\r\n{}\r\n0\r\nTrailer: x\r\n\r\n\r\n{head}Connection: close\r\nContent-Length: 0\r\n\r\n",
        &body[..3],
        length - 3,
        &body[3..],
    );
    for size in [sent.len(), 7, 100] {
        let pieces: Vec<_> =
            sent.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).unwrap_or_default()).collect();
        let text = said(&host, &pieces, |_| Ok(()))?;
        assert_eq!(text.matches("HTTP/1.1 200 ").count(), 3, "{text}");
        assert_eq!(text.matches(body).count(), 2, "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_client_gets_its_answers() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "slow", "slow-effects", &["memory:read:*", "memory:write:*"]).await?;
    let close = |stream: &TcpStream| stream.shutdown(Shutdown::Write);
    let key = &host.admin;
    let call = |headers: &str, times: u32| {
        let body = json!({"n": times, "sleep_ms": 200, "scope": "agent"}).to_string();
        let length = body.len();
        format!(
            "POST /v1/agents/slow/call HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{headers}\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let get = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_owned();
    let kept = ["Prefer: wait=20\r\n", "Idempotency-Key: k\r\n"].map(|header| call(header, 5));
    for (sent, answers) in [(get.clone(), 1), (get.repeat(3), 3), (kept[0].clone(), 1), (kept[1].clone() + &get, 2)] {
        let begun = Instant::now();
        let text = said(&host, &[&sent], close)?;
        assert_eq!(text.matches("HTTP/1.1 200 ").count(), answers, "{sent}: {text}");
        assert!(begun.elapsed() < PATIENCE / 2, "it is closed then: {:?}", begun.elapsed());
    }
    // What ends with its client ends: that a client has gone looks the same. It is told so.
    let text = said(&host, &[&call("", 100)], close)?;
    assert!(text.starts_with("HTTP/1.1 409 ") && text.contains("\"code\":\"cancelled\""), "{text}");
    // Half a request is none.
    let text = said(&host, &[&get[..get.len() - 2]], close)?;
    assert!(!text.contains(" 200 "), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_field_that_a_document_does_not_have_is_refused_by_name() -> Result<()> {
    let host = Host::start().await?;
    for (method, path, document) in [
        ("POST", "/v1/keys", json!({"role": "viewer"})),
        ("POST", "/v1/tenants", json!({"name": "beta"})),
        ("PUT", "/v1/ceilings/default", json!({"capabilities": []})),
        ("POST", "/v1/graph/facts", json!({"subject": "a", "relation": "r", "object": "b"})),
        ("PUT", "/v1/recall/n", json!({"text": "t"})),
        ("POST", "/v1/recall/search", json!({"query": "q"})),
        ("POST", "/v1/messages", json!({"to": "a", "type": "t"})),
        ("POST", "/v1/events", json!({"topic": "a", "type": "t"})),
        ("POST", "/v1/transactions", json!({"operations": []})),
        ("POST", "/v1/databases/repair", json!({})),
    ] {
        let key = if path.contains("tenants") || path.contains("ceilings") || path.contains("databases") {
            &host.operator
        } else {
            &host.admin
        };
        let mut wrong = document.clone();
        wrong["surprise"] = json!(1);
        let answer = host.send(host.request(method.parse()?, path, key).json(&wrong)).await?;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "bad-json"), "{path}: {}", answer.text());
        assert!(answer.text().contains("surprise"), "{path}: {}", answer.text());
    }
    Ok(())
}

/// An HTTP/2 client whose window for each answer has so many bytes, and opens no further than it says.
async fn client(host: &Host, window: u32) -> Result<(SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>)> {
    let stream = tokio::net::TcpStream::connect(host.address()).await?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(16 << 20);
    let (requests, connection) = builder.handshake(stream).await?;
    Ok((requests, tokio::spawn(connection)))
}

/// The body of an answer, of which nothing was taken yet.
async fn ask(requests: &mut SendRequest<Bytes>, host: &Host, path: &str, key: &str) -> Result<h2::RecvStream> {
    let request = http::Request::get(host.url(path)).header("authorization", format!("Bearer {key}")).body(())?;
    *requests = requests.clone().ready().await?;
    let (answer, _) = requests.send_request(request, true)?;
    let answer = timeout(PATIENCE, answer).await??;
    ensure!(answer.status() == 200, "{path}: {}", answer.status());
    Ok(answer.into_body())
}

/// Reads without opening the window; why it ends.
async fn ends(mut body: h2::RecvStream) -> Result<Option<h2::Reason>> {
    loop {
        match timeout(PATIENCE, body.data()).await.context("what nobody takes is kept")? {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Ok(error.reason()),
            None => return Ok(None),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_over_http2_that_nobody_takes_is_given_up_and_others_go_on() -> Result<()> {
    // Long enough for all of them to be asked for on a busy machine.
    let stall = Duration::from_secs(10);
    let host = Host::start_with("[limits]\nwrite_stall = \"10s\"\n").await?;
    let viewer = host.key("default", "viewer").await?;
    host.push(&host.admin, "cat", "cat", &[]).await?;
    let called = host.request(Method::POST, "/v1/agents/cat/call", &host.admin).body(vec![b'x'; 7 << 20]);
    let called = host.send(called).await?.expect(200);
    let output = format!("/v1/runs/{}/output", called.headers["ltmc-run"].to_str()?);
    let (mut requests, connection) = client(&host, 1_000).await?;
    // They take all the room for answers that a key has.
    let begun = Instant::now();
    let mut large = Vec::new();
    for _ in 0..9 {
        large.push(ask(&mut requests, &host, &output, &viewer).await?);
    }
    assert_eq!(host.send(host.request(Method::GET, &output, &viewer)).await?.status, 429);
    let events = ask(&mut requests, &host, "/v1/changes?scope=global&after=0", &host.admin).await?;
    let unread = tokio::spawn(async move {
        let mut ended = Vec::new();
        for one in large {
            ended.push((ends(one).await?, begun.elapsed()));
        }
        anyhow::Ok(ended)
    });
    let mut told = 0;
    let publish = async |number: u32| {
        let value = json!(format!("{number}{}", "v".repeat(500)));
        host.send(host.request(Method::PUT, "/v1/memory/global/k", &host.admin).json(&value)).await?.expect(200);
        anyhow::Ok(())
    };
    // What it does not take is given up, though it takes much else on the same connection.
    while !unread.is_finished() {
        ensure!(begun.elapsed() < PATIENCE, "what nobody takes is kept");
        let mut small = ask(&mut requests, &host, "/healthz", &viewer).await?;
        while let Some(data) = timeout(PATIENCE, small.data()).await? {
            small.flow_control().release_capacity(data?.len())?;
        }
        publish(told).await?;
        told += 1;
        sleep(Duration::from_millis(100)).await;
    }
    for (why, after) in unread.await?? {
        assert!(why == Some(h2::Reason::CANCEL) && after >= stall, "{why:?} after {after:?}");
    }
    assert_eq!(ends(events).await?, Some(h2::Reason::CANCEL), "a stream of events that nobody reads");
    let deadline = Instant::now() + PATIENCE;
    while host.send(host.request(Method::GET, &output, &viewer)).await?.status != 200 {
        ensure!(Instant::now() < deadline, "its part of the room was not given back");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(!connection.is_finished(), "others move on it");
    drop(ask(&mut requests, &host, "/healthz", &viewer).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_nothing_is_taken_is_closed() -> Result<()> {
    let host = Host::start_with("[limits]\nwrite_stall = \"3s\"\nidle = \"10m\"\n").await?;
    // Small answers too: a window of nothing takes none of them.
    let (mut requests, connection) = client(&host, 0).await?;
    let begun = Instant::now();
    let mut bodies = Vec::new();
    for _ in 0..8 {
        bodies.push(ask(&mut requests, &host, "/v1/agents", &host.admin).await?);
    }
    let closed = timeout(PATIENCE, connection).await.context("the connection is kept")?;
    println!("closed after {:?}: {closed:?}", begun.elapsed());
    assert!(begun.elapsed() >= STALL);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_its_answer_slowly_gets_all_of_it() -> Result<()> {
    let host = Host::start_with("[limits]\nwrite_stall = \"3s\"\n").await?;
    host.push(&host.admin, "cat", "cat", &[]).await?;
    let sent: Vec<u8> = (0..400_000_u32).map(|number| (number % 251) as u8).collect();
    let called = host.send(host.request(Method::POST, "/v1/agents/cat/call", &host.admin).body(sent.clone())).await?;
    let run = called.expect(200).headers["ltmc-run"].to_str()?.to_owned();
    let (mut requests, _connection) = client(&host, 16_000).await?;
    let mut body = ask(&mut requests, &host, &format!("/v1/runs/{run}/output"), &host.admin).await?;
    let (mut read, mut untold, begun) = (Vec::new(), 0, Instant::now());
    while let Some(data) = timeout(PATIENCE, body.data()).await? {
        let data = data?;
        read.extend_from_slice(&data);
        untold += data.len();
        // Window by window, not frame by frame: these would become ever smaller.
        if untold >= 16_000 {
            sleep(Duration::from_millis(200)).await;
            body.flow_control().release_capacity(std::mem::take(&mut untold))?;
        }
    }
    assert_eq!(read, sent);
    assert!(begun.elapsed() > STALL, "it took longer than one that takes nothing has: {:?}", begun.elapsed());
    Ok(())
}
