//! What one client can take of the door, and what is left to the others: bodies, connections, answers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ltmc_tests::{Host, guest_bytes};
use reqwest::Method;
use serde_json::json;

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
    let host = Host::start_with("[limits]\nbody_stall = \"2m\"\n").await?;
    let author = host.key("default", "author").await?;
    let other = host.tenant("beta", "author").await?;
    let mut slow = Vec::new();
    let head = UPLOAD.replace("60000000", &(64 * MIB).to_string());
    for _ in 0..4 {
        slow.push(send(&host, &head, &author, 64 * MIB - (100 << 10))?);
    }
    for (key, size) in [(&other, MIB), (&other, 8 * MIB), (&host.admin, MIB), (&author, 60 << 10)] {
        let request = host.request(Method::POST, "/v1/agents/nobody/call", key).body(vec![b'x'; size]);
        let answer = host.send(request).await?;
        assert_eq!(answer.status, 404, "{size} bytes: {}", answer.text());
    }
    Ok(())
}

/// How long it takes until the host closes a connection; none: it does not within so long.
fn closed_after(mut stream: TcpStream, begun: Instant, patience: Duration) -> Option<Duration> {
    let mut chunk = [0; 4096];
    while let left = patience.saturating_sub(begun.elapsed())
        && !left.is_zero()
    {
        stream.set_read_timeout(Some(left)).ok()?;
        match stream.read(&mut chunk) {
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Ok(0) | Err(_) => return Some(begun.elapsed()),
            Ok(_) => {}
        }
    }
    None
}

#[tokio::test]
async fn a_head_that_does_not_come_is_waited_for_as_long_as_is_said() -> Result<()> {
    let host = Host::start_with("[limits]\nhead_time = \"2s\"\n").await?;
    let beginnings: [&[u8]; 6] = [
        b"",
        b"G",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT",
    ];
    let begun = Instant::now();
    let waiting = beginnings.map(|bytes| {
        let address = host.address();
        std::thread::spawn(move || -> Result<Option<Duration>> {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(bytes)?;
            Ok(closed_after(stream, begun, Duration::from_secs(30)))
        })
    });
    for (bytes, waiting) in beginnings.into_iter().zip(waiting) {
        let closed = waiting.join().expect("it does not panic")?;
        let sent = String::from_utf8_lossy(bytes);
        println!("{sent:?}: {closed:?}");
        // Room for a busy machine, and well under what an idle connection has.
        assert!(closed.is_some_and(|after| after < Duration::from_secs(20)), "{sent:?}: {closed:?}");
    }
    Ok(())
}

#[tokio::test]
async fn connections_without_a_key_leave_room_for_those_with_one() -> Result<()> {
    let host = Host::start_with("[limits]\nconnections = 64\nhead_time = \"1m\"\nidle = \"1m\"\n").await?;
    // Whoever was there before stays.
    host.get("/v1/runs").await?.expect(200);
    let mut held = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(host.address())?;
        let beginning: &[u8] = if number % 2 == 0 { b"G" } else { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" };
        drop(stream.write_all(beginning));
        held.push(stream);
    }
    for _ in 0..5 {
        let (mut other, begun) = (TcpStream::connect(host.address())?, Instant::now());
        write!(other, "GET /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", host.admin)?;
        let answer = answer(&mut other, Duration::from_secs(20));
        assert!(answer.starts_with("HTTP/1.1 200"), "after {:?}: {answer}", begun.elapsed());
    }
    Ok(())
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_answered_with_a_problem() -> Result<()> {
    let host = Host::start().await?;
    let long = "a".repeat(200_000);
    for (sent, status, code) in [
        ("GET\r\n\r\n".to_owned(), 400, "bad-request"),
        ("GET / HTTP/1.1\r\nHost x\r\n\r\n".to_owned(), 400, "bad-request"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"), 431, "head-too-large"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(200)), 431, "head-too-large"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n".to_owned(), 400, "bad-request"),
        (
            "POST /v1/agents/a/call HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
            501,
            "unsupported-transfer-coding",
        ),
    ] {
        let mut stream = TcpStream::connect(host.address())?;
        drop(stream.write_all(sent.as_bytes()));
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        let text = String::from_utf8_lossy(&bytes);
        let sent = &sent[..sent.len().min(60)];
        let last = text.rfind("HTTP/1.1 ").map(|at| &text[at..]).unwrap_or_default();
        assert!(last.starts_with(&format!("HTTP/1.1 {status} ")), "{sent:?}: {text}");
        assert!(last.contains("content-type: application/problem+json"), "{sent:?}: {text}");
        assert!(last.contains(&format!("\"code\":\"{code}\"")), "{sent:?}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_taken_back_ends_what_it_follows_and_waits_for() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "slow", "sleeper", &[]).await?;
    let made = json!({"tenant": "default", "role": "author"});
    let made = host.send(host.request(Method::POST, "/v1/keys", &host.admin).json(&made)).await?.expect(201).json();
    let (id, key) = (made["id"].as_str().unwrap_or_default(), made["key"].as_str().unwrap_or_default());
    let publish = async |number: u32| {
        let event = json!({"topic": "news", "type": "t", "data": number});
        host.send(host.request(Method::POST, "/v1/events", &host.admin).json(&event)).await?.expect(200);
        anyhow::Ok(())
    };
    let waiting = |prefer: &'static str| {
        let request = host.request(Method::POST, "/v1/agents/slow/call", key).json(&json!({"ms": 20_000}));
        let request = if prefer.is_empty() { request } else { request.header("prefer", prefer) };
        tokio::spawn(async move { request.send().await.map(|answer| answer.status().as_u16()) })
    };
    let waits = [waiting("wait=30"), waiting("")];
    let follow = |path: &str| host.request(Method::GET, path, key).send();
    let mut topic = follow("/v1/events/follow?topic=news").await?.error_for_status()?;
    let mut changes = follow("/v1/changes?scope=global").await?.error_for_status()?;
    publish(1).await?;
    let first = topic.chunk().await?.expect("the first event");
    assert!(String::from_utf8_lossy(&first).contains("\"data\":1"), "{first:?}");
    // Both calls are under way, most likely; what comes afterwards is refused all the same.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    host.send(host.request(Method::DELETE, &format!("/v1/keys/{id}"), &host.admin)).await?.expect(204);
    publish(2).await?;
    while let Some(chunk) = topic.chunk().await? {
        let text = String::from_utf8_lossy(&chunk);
        assert!(!text.contains("\"data\":2"), "what came after the key was taken back: {text}");
    }
    assert!(changes.chunk().await?.is_none());
    for waiting in waits {
        assert_eq!(waiting.await??, 401);
    }
    ensure!(begun.elapsed() < Duration::from_secs(15), "they ended by themselves: {:?}", begun.elapsed());
    Ok(())
}

/// A run's journal, page by page.
/// What was sent before a key was taken back counts no more than what is sent afterwards.
#[tokio::test]
async fn a_key_that_is_taken_back_while_a_body_comes_changes_nothing() -> Result<()> {
    let host = Host::start().await?;
    let form = "--b\r\nContent-Disposition: form-data; name=\"component\"\r\n\r\nx\r\n--b--\r\n";
    for (head, body) in [
        ("POST /v1/keys HTTP/1.1\r\nContent-Type: application/json", r#"{"role":"admin"}"#),
        ("PUT /v1/memory/global/k HTTP/1.1\r\nContent-Type: text/plain", "value"),
        ("PUT /v1/agents/a HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b", form),
    ] {
        let made = host.request(Method::POST, "/v1/keys", &host.admin).json(&json!({"role": "admin"}));
        let made = host.send(made).await?.expect(201).json();
        let (key, id) = (made["key"].as_str().unwrap_or_default(), made["id"].as_str().unwrap_or_default());
        ensure!(!key.is_empty() && !id.is_empty(), "{made}");
        let head = format!("{head}\r\nContent-Length: {}", body.len());
        let mut stream = send(&host, &head, key, 0)?;
        stream.write_all(&body.as_bytes()[..1])?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        host.send(host.request(Method::DELETE, &format!("/v1/keys/{id}"), &host.admin)).await?.expect(204);
        stream.write_all(&body.as_bytes()[1..])?;
        let answer = answer(&mut stream, Duration::from_secs(10));
        ensure!(answer.starts_with("HTTP/1.1 401"), "{head}: {answer}");
    }
    Ok(())
}

async fn journal(host: &Host, run: &str, key: &str) -> Result<Vec<serde_json::Value>> {
    let (mut entries, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/runs/{run}/journal?limit=500{cursor}");
        let mut page = host.send(host.request(Method::GET, &path, key)).await?.expect(200).json();
        entries.append(page["items"].as_array_mut().expect("items"));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(entries),
        }
    }
}

/// What an agent does that reads a large key often, and gives all of it.
async fn read_much(host: &Host, key: &str) -> Result<String> {
    host.push(&host.admin, "reader", "memory-script", &["memory:read:*", "memory:write:*"]).await?;
    let value = "v".repeat(900_000);
    host.send(host.request(Method::PUT, "/v1/memory/global/large", &host.admin).body(value)).await?.expect(200);
    let steps = json!([{"do": "get", "scope": "global", "key": "large", "times": 6}]);
    let called = host.call(key, "reader", &steps).await?.expect(200);
    Ok(called.headers["ltmc-run"].to_str()?.to_owned())
}

#[tokio::test]
async fn what_is_large_in_a_run_is_shown_alone() -> Result<()> {
    let host = Host::start().await?;
    let viewer = host.key("default", "viewer").await?;
    let get = |path: String| host.send(host.request(Method::GET, &path, &viewer));
    let run = read_much(&host, &host.admin).await?;
    let entries = journal(&host, &run, &viewer).await?;
    let large: Vec<_> = entries.iter().filter(|entry| entry["href"].is_string()).collect();
    assert_eq!(large.len(), 7, "six reads and the result: {entries:#?}");
    assert!(json!(entries).to_string().len() < 100_000);
    let read = &large[0];
    assert!(read["event"]["effect"]["reply"]["Ok"]["large"]["bytes"].as_u64() > Some(900_000), "{read}");
    let whole = get(read["href"].as_str().unwrap().to_owned()).await?.expect(200).json();
    assert_eq!((&whole["seq"], &whole["event"]["effect"]["call"]), (&read["seq"], &json!("memory.get")));
    assert!(whole.to_string().len() > 900_000 && whole["href"].is_null());
    get(format!("/v1/runs/{run}/journal/999999")).await?.expect(404);
    get(format!("/v1/runs/{run}/journal/0")).await?.expect(404);

    let view = get(format!("/v1/runs/{run}")).await?.expect(200);
    assert!(view.body.len() < 10_000, "{} bytes", view.body.len());
    let view = view.json();
    let output = get(view["output_href"].as_str().unwrap().to_owned()).await?.expect(200);
    assert_eq!(view["output"]["large"]["bytes"].as_u64(), Some(output.body.len() as u64));
    assert_eq!(output.headers["content-type"], "application/json");
    assert!(output.body.len() > 900_000);
    Ok(())
}

#[tokio::test]
async fn a_journal_is_read_in_pages_of_bounded_bytes_and_no_entry_is_missing() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "reader", "memory-script", &["memory:read:*"]).await?;
    let value = "v".repeat(15_000);
    host.send(host.request(Method::PUT, "/v1/memory/global/k", &host.admin).body(value)).await?.expect(200);
    let steps = json!([{"do": "get", "scope": "global", "key": "k", "times": 300}]);
    let called = host.call(&host.admin, "reader", &steps).await?.expect(200);
    let run = called.headers["ltmc-run"].to_str()?;
    let first = host.get(&format!("/v1/runs/{run}/journal?limit=500")).await?.expect(200);
    assert!(first.body.len() < 3 * MIB, "{} bytes", first.body.len());
    let entries = journal(&host, run, &host.admin).await?;
    let numbers: Vec<_> = entries.iter().filter_map(|entry| entry["seq"].as_u64()).collect();
    let length = host.get(&format!("/v1/runs/{run}")).await?.json()["entries"].as_u64().unwrap();
    assert_eq!(numbers, (1..=length).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn answers_that_nobody_reads_leave_room_for_those_of_others() -> Result<()> {
    const UNREAD: usize = 40;
    let host = Host::start().await?;
    let viewer = host.key("default", "viewer").await?;
    host.push(&host.admin, "cat", "cat", &[]).await?;
    let called = host.request(Method::POST, "/v1/agents/cat/call", &host.admin).body(vec![b'x'; 7 * MIB]);
    let called = host.send(called).await?.expect(200);
    let run = called.headers["ltmc-run"].to_str()?;
    let before = host.resident();
    let (mut unread, mut refused) = (Vec::new(), 0);
    for _ in 0..UNREAD {
        // More than sockets keep: what is answered first is on its way, what comes after that waits in the host.
        let head = format!("GET /v1/runs/{run}/output HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {viewer}\r\n\r\n");
        let mut stream = TcpStream::connect(host.address())?;
        stream.write_all(head.repeat(4).as_bytes())?;
        let mut status = [0; 12];
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.read_exact(&mut status)?;
        refused += usize::from(&status == b"HTTP/1.1 429");
        unread.push(stream);
    }
    let grown = host.resident().saturating_sub(before) as usize;
    println!("{} MiB more, {refused} of {UNREAD} refused", grown / MIB);
    assert!(refused > UNREAD / 4, "{refused} of {UNREAD} were refused");
    let answer = host.get(&format!("/v1/runs/{run}/output")).await?.expect(200);
    assert_eq!(answer.body.len(), 7 * MIB);
    Ok(())
}

#[tokio::test]
async fn a_caller_reads_in_its_runs_journal_what_it_may_read_elsewhere() -> Result<()> {
    let host = Host::start().await?;
    let caller = host.key("default", "caller").await?;
    host.push(&host.admin, "reader", "memory-script", &["memory:read:*", "memory:write:*"]).await?;
    host.send(host.request(Method::PUT, "/v1/memory/global/k", &host.admin).body("the secret")).await?.expect(200);
    let steps = json!([
        {"do": "get", "scope": "global", "key": "k"},
        {"do": "list", "scope": "global", "prefix": ""},
        {"do": "put", "key": "own", "value": "mine"},
    ]);
    let called = host.call(&caller, "reader", &steps).await?.expect(200);
    let run = called.headers["ltmc-run"].to_str()?;
    let get = |path: &str, key: &str| host.send(host.request(Method::GET, &format!("/v1/runs/{run}{path}"), key));
    let calls = ["memory.get", "memory.list", "memory.put"];
    let replies = |entries: &[serde_json::Value]| -> Vec<serde_json::Value> {
        let effects = entries.iter().map(|entry| &entry["event"]["effect"]);
        let effects = effects.filter(|effect| effect["call"].as_str().is_some_and(|call| calls.contains(&call)));
        effects.map(|effect| effect["reply"].clone()).collect()
    };
    let entries = get("/journal", &caller).await?.expect(200).json()["items"].as_array().unwrap().clone();
    let redacted = json!({"Ok": {"redacted": "memory:read"}});
    let seen = replies(&entries);
    assert_eq!(seen[..2], [redacted.clone(), redacted.clone()], "{entries:#?}");
    assert!(seen[2]["Ok"]["revision"].is_u64(), "what became of its own change: {}", seen[2]);
    assert_eq!(entries[0]["event"]["run-started"]["seed"], json!({"redacted": "run:seed"}));
    let alone = entries.iter().find(|entry| entry["event"]["effect"]["call"] == "memory.get").unwrap();
    let alone = get(&format!("/journal/{}", alone["seq"]), &caller).await?.expect(200).json();
    assert_eq!(alone["event"]["effect"]["reply"], redacted);
    let told = get("/events", &caller).await?.expect(200).text();
    assert_eq!(told.matches(r#""redacted":"memory:read""#).count(), 2, "{told}");

    let entries = get("/journal", &host.admin).await?.expect(200).json()["items"].as_array().unwrap().clone();
    assert_eq!(replies(&entries)[0]["Ok"]["item"]["key"], "k");
    assert_eq!(entries[0]["event"]["run-started"]["seed"], json!({"redacted": "run:seed"}));
    Ok(())
}

#[tokio::test]
async fn a_caller_sees_what_it_can_call_and_not_what_that_may_do() -> Result<()> {
    let host = Host::start().await?;
    let caller = host.key("default", "caller").await?;
    host.push(&host.admin, "reader", "memory-script", &["memory:read:*"]).await?;
    let put = host.request(Method::PUT, "/v1/workflows/thing", &host.admin).header("content-type", "application/yaml");
    host.send(put.body("name: thing\nflow: {agent: reader}\n")).await?.expect(201);
    let get = |path: &str| host.send(host.request(Method::GET, path, &caller));
    let listed = get("/v1/agents").await?.expect(200).json();
    assert_eq!(listed["items"][0]["name"], "reader");
    for agent in [&listed["items"][0], &get("/v1/agents/reader").await?.expect(200).json()] {
        assert!(["asks", "grants", "missing"].iter().all(|terms| agent[terms].is_null()), "{agent}");
    }
    assert_eq!(get("/v1/workflows").await?.expect(200).json()["items"][0]["name"], "thing");
    get("/v1/agents/reader/grants").await?.expect(403);
    get("/v1/workflows/thing").await?.expect(403);
    let run = host.send(host.request(Method::POST, "/v1/workflows/thing/runs", &caller).json(&json!([]))).await?;
    let run = run.expect(202).json()["run"].as_str().unwrap().to_owned();
    let entries = get(&format!("/v1/runs/{run}/journal")).await?.expect(200).json();
    assert_eq!(entries["items"][0]["event"]["run-started"]["document"], json!({"redacted": "workflow:read"}));
    Ok(())
}

#[tokio::test]
async fn a_parameter_that_a_route_does_not_take_is_refused() -> Result<()> {
    let host = Host::start().await?;
    for path in ["/v1/keys?limt=1", "/v1/agents/a?x=1", "/v1/ceilings?x", "/v1/runs?limit=1&stat=failed"] {
        let answer = host.get(path).await?.expect(400);
        assert_eq!(answer.code(), "bad-query", "{path}: {}", answer.text());
    }
    host.send(host.request(Method::POST, "/v1/agents/a/call?dry=1", &host.admin)).await?.expect(400);
    host.get("/v1/keys?limit=1&").await?.expect(200);
    host.get("/healthz?now").await?.expect(200);
    Ok(())
}

#[tokio::test]
async fn a_session_that_a_caller_names_is_its_own() -> Result<()> {
    let host = Host::start().await?;
    let [one, two] = [host.key("default", "caller").await?, host.key("default", "caller").await?];
    host.push(&host.admin, "keeper", "memory-script", &["memory:read:*", "memory:write:*"]).await?;
    let play = async |key: &str, session: &str, steps: serde_json::Value| {
        let request = host.request(Method::POST, "/v1/agents/keeper/call", key).header("ltmc-session", session);
        host.send(request.json(&steps)).await
    };
    let put = json!([{"do": "put", "key": "k", "value": "of the first"}]);
    let get = json!([{"do": "get", "key": "k"}]);
    let first = play(&one, "shared", put).await?.expect(200);
    assert!(play(&one, "shared", get.clone()).await?.expect(200).text().contains("of the first"));
    assert!(!play(&two, "shared", get.clone()).await?.expect(200).text().contains("of the first"));
    let run = first.headers["ltmc-run"].to_str()?;
    let view = host.send(host.request(Method::GET, &format!("/v1/runs/{run}"), &one)).await?.expect(200).json();
    let session = view["session"].as_str().unwrap();
    assert!(session.ends_with(":shared"), "{session}");
    assert!(!play(&two, session, get.clone()).await?.expect(200).text().contains("of the first"));
    assert!(play(&host.admin, session, get.clone()).await?.expect(200).text().contains("of the first"));
    // That of a run is its own too.
    let alone = host.call(&one, "keeper", &json!([{"do": "put", "key": "k", "value": "of a run"}])).await?.expect(200);
    let run = alone.headers["ltmc-run"].to_str()?;
    assert!(play(&one, run, get.clone()).await?.expect(200).text().contains("of a run"));
    assert!(!play(&two, run, get).await?.expect(200).text().contains("of a run"));
    let listed = host.send(host.request(Method::GET, "/v1/runs?session=shared", &one)).await?.expect(200).json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(2));
    Ok(())
}
