//! What one client can take of the door, and what is left to the others: bodies, connections, answers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ltmc_tests::{Host, guest_bytes};
use reqwest::Method;

const MIB: usize = 1 << 20;

/// A connection on which a request's head was sent, and so much of its body.
fn send(host: &Host, head: &str, key: &str, body: usize) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(host.address())?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "{head}\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n")?;
    // Who is refused need not take it.
    let chunk = vec![b'x'; 64 << 10];
    let mut left = body;
    while left > 0 {
        let next = left.min(chunk.len());
        if stream.write_all(&chunk[..next]).is_err() {
            break;
        }
        left -= next;
    }
    Ok(stream)
}

/// What comes of an answer within so long; empty where nothing does.
fn answer(stream: &mut TcpStream, patience: Duration) -> String {
    let (mut answer, mut chunk, until) = (Vec::new(), [0; 4096], Instant::now() + patience);
    while let left = until.saturating_duration_since(Instant::now())
        && !left.is_zero()
    {
        drop(stream.set_read_timeout(Some(left)));
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
        }
        if answer.windows(4).any(|window| window == b"\r\n\r\n") && answer.ends_with(b"}") {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

const FORM: &str =
    "PUT /v1/agents/a HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 60000000";
const UPLOAD: &str = "PUT /v1/agents/a HTTP/1.1\r\nContent-Type: application/wasm\r\nContent-Length: 60000000";

#[tokio::test]
async fn whoever_may_not_is_refused_by_the_head_of_the_request() -> Result<()> {
    let host = Host::start().await?;
    let viewer = host.key("default", "viewer").await?;
    for head in [
        FORM,
        UPLOAD,
        "PUT /v1/workflows/w HTTP/1.1\r\nContent-Type: application/yaml\r\nContent-Length: 1000",
        "POST /v1/agents/a/call HTTP/1.1\r\nContent-Length: 1000",
        "POST /v1/workflows/w/runs HTTP/1.1\r\nContent-Length: 1000",
        "POST /v1/keys HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1000",
        "PUT /v1/agents/a/grants HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1000",
        "PUT /v1/memory/global/k HTTP/1.1\r\nContent-Length: 1000",
        "PATCH /v1/memory/global/k HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1000",
        "POST /v1/events HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1000",
        "POST /v1/transactions HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked",
    ] {
        let mut stream = send(&host, head, &viewer, 0)?;
        let answer = answer(&mut stream, Duration::from_secs(5));
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("\"denied\""), "{head}: {answer}");
    }
    Ok(())
}

#[tokio::test]
async fn unfinished_forms_hold_no_more_than_bodies_may() -> Result<()> {
    let host = Host::start_with("[limits]\nbodies = \"64 MiB\"\nupload = \"16 MiB\"\n").await?;
    let author = host.key("default", "author").await?;
    let head = FORM.replace("60000000", "16000000");
    let part = "--b\r\nContent-Disposition: form-data; name=\"component\"\r\n\r\n";
    let before = host.resident();
    let (mut kept, mut refused) = (Vec::new(), 0);
    for _ in 0..24 {
        let mut stream = send(&host, &head, &author, 0)?;
        stream.write_all(part.as_bytes())?;
        let chunk = vec![b'x'; MIB];
        let took = (0..12).all(|_| stream.write_all(&chunk).is_ok());
        let said = answer(&mut stream, Duration::from_millis(200));
        refused += usize::from(!took || said.starts_with("HTTP/1.1 429"));
        kept.push(stream);
    }
    let grown = host.resident().saturating_sub(before) as usize;
    println!("{} MiB more, {refused} of {} refused", grown / MIB, kept.len());
    assert!(refused >= 20, "{refused} of {} were refused", kept.len());
    assert!(grown < 128 * MIB, "{} MiB more", grown / MIB);
    drop(kept);
    let answer = host.push_bytes(&host.admin, "a", guest_bytes("no-export")?).await?;
    assert_eq!(answer.code(), "no-export", "{}", answer.text());
    Ok(())
}

#[tokio::test]
async fn slow_uploads_of_one_key_leave_room_for_the_bodies_of_others() -> Result<()> {
    let host = Host::start().await?;
    let author = host.key("default", "author").await?;
    let other = host.tenant("beta", "author").await?;
    let mut slow = Vec::new();
    for _ in 0..6 {
        slow.push(send(&host, UPLOAD, &author, 55 * MIB)?);
    }
    let begun = Instant::now();
    for (key, size) in [(&other, MIB), (&other, 8 * MIB), (&host.admin, MIB), (&author, 60 << 10)] {
        let request = host.request(Method::POST, "/v1/agents/nobody/call", key).body(vec![b'x'; size]);
        let answer = host.send(request).await?;
        assert_eq!(answer.status, 404, "{size} bytes: {}", answer.text());
    }
    ensure!(begun.elapsed() < Duration::from_secs(10), "the slow ones were over: {:?}", begun.elapsed());
    Ok(())
}
