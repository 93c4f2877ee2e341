//! The neighbour test: one tenant does, one thing after the other, everything that its roles can do to weigh on a host, and
//! another tenant goes on as before. What is asserted: none of the other's requests fails, its stream misses nothing, the host
//! says that it lives and is ready, and its memory comes back. How much slower the other becomes is printed, as the ratio of its
//! 99th percentiles with and without; `LTMC_TEST_NEIGHBOURS=30` gives each kind so many seconds, where CI gives two, and
//! `LTMC_TEST_NEIGHBOURS_OF=lists,inputs` only those kinds.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use ltmc_tests::{Host, guest_bytes};
use reqwest::Method;
use serde_json::{Value, json};

use crate::documents::{doubling, judged_by_doubling, nested};
use crate::states;

/// What the host is given: so many descriptors.
const DESCRIPTORS: u64 = 1_024;
/// It never has more memory than this.
const MEMORY: u64 = 3 << 30;
/// Within this much of what it had before, its memory is back.
const LEFT_OVER: u64 = 512 << 20;

/// The tenant that weighs on others.
#[derive(Clone)]
struct Loud {
    url: String,
    address: String,
    admin: String,
    viewer: String,
    http: reqwest::Client,
    over: Arc<AtomicBool>,
}

impl Loud {
    async fn send(&self, method: Method, path: &str, body: impl Into<reqwest::Body>, kind: &str) {
        let request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.admin);
        let sent = request.header("content-type", kind).body(body).timeout(Duration::from_secs(40)).send();
        if let Ok(answer) = sent.await {
            let _ = answer.bytes().await;
        }
    }

    async fn call(&self, agent: &str, input: Value) {
        self.send(Method::POST, &format!("/v1/agents/{agent}/call"), input.to_string(), "application/json").await;
    }

    /// Asks for something, without waiting for its end; what it is answered.
    async fn ask(&self, path: &str, body: Value) -> Option<Value> {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.admin).header("prefer", "wait=0");
        let answer = request.json(&body).timeout(Duration::from_secs(40)).send().await.ok()?;
        answer.json().await.ok()
    }

    async fn get(&self, path: &str) {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.viewer);
        if let Ok(answer) = request.timeout(Duration::from_secs(40)).send().await {
            let _ = answer.bytes().await;
        }
    }

    /// `work` again and again, `side_by_side` at once, until it is over.
    async fn again<W: Future<Output = ()>>(&self, side_by_side: usize, work: impl Fn(usize) -> W) {
        let lane = async |lane: usize| {
            let mut round = 0;
            while !self.over.load(Ordering::SeqCst) {
                let gone = async {
                    while !self.over.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                // A client that goes away in the middle, too.
                tokio::select! { () = work(lane * 1_000_000 + round) => {}, () = gone => {} }
                round += 1;
            }
        };
        futures::future::join_all((0..side_by_side).map(lane)).await;
    }

    /// Connections on which `first` is sent, and then a byte now and then, until it is over.
    async fn hold(&self, connections: usize, first: Vec<u8>) {
        let (address, over) = (self.address.clone(), self.over.clone());
        let held = tokio::task::spawn_blocking(move || {
            let mut held = Vec::new();
            while !over.load(Ordering::SeqCst) {
                if held.len() < connections
                    && let Ok(stream) = TcpStream::connect(&address)
                {
                    let _ = stream.set_nonblocking(true);
                    let _ = (&stream).write_all(&first);
                    held.push(stream);
                    continue;
                }
                // What the host closed is opened anew.
                held.retain(|stream| !matches!((&*stream).read(&mut [0; 64]), Ok(0)));
                held.iter().for_each(|mut stream| drop(stream.write_all(b"x")));
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let _ = held.await;
    }
}

type Way = fn(Loud) -> BoxFuture<'static, ()>;

/// Every way to weigh on others: what docs/security.md's table of bounds is filled by.
const WAYS: &[(&str, Way)] = &[
    ("agents that compute", |loud| async move { loud.again(96, |_| loud.call("spin", json!({}))).await }.boxed()),
    ("agents that take memory", |loud| {
        async move { loud.again(64, |_| loud.call("memory-bomb", json!({}))).await }.boxed()
    }),
    ("agents that sleep", |loud| async move { loud.again(400, |_| loud.call("sleeper", json!({}))).await }.boxed()),
    ("agents that wait for messages", |loud| {
        async move {
            let wait = || json!([{"do": "receive", "limit": 1, "wait_ms": 30_000}]);
            loud.again(400, |_| loud.call("post", wait())).await;
        }
        .boxed()
    }),
    ("runs that fail and are tried again", |loud| {
        async move {
            loud.again(64, |_| {
                loud.send(Method::POST, "/v1/workflows/stubborn/runs", r#"{"until":99}"#, "application/json")
            })
            .await;
        }
        .boxed()
    }),
    ("large inputs", |loud| {
        async move {
            let body = bytes::Bytes::from(vec![b'x'; 7 << 20]);
            loud.again(32, |_| loud.send(Method::POST, "/v1/agents/echo/call", body.clone(), "text/plain")).await;
        }
        .boxed()
    }),
    ("components to compile", |loud| {
        async move {
            let component = guest_bytes("message-script").unwrap_or_default();
            loud.again(8, |number| {
                let mut other = component.clone();
                let mark = number.to_be_bytes();
                other.extend([0, 6 + 8, 5, b'm', b'a', b'r', b'k', b's']);
                other.extend(mark);
                let path = format!("/v1/agents/many-{}", number % 7);
                let loud = loud.clone();
                async move { loud.send(Method::PUT, &path, other, "application/wasm").await }
            })
            .await;
        }
        .boxed()
    }),
    ("writes of memory", |loud| {
        async move {
            let value = bytes::Bytes::from(vec![b'v'; 256 << 10]);
            loud.again(64, |number| {
                let (path, value, loud) = (format!("/v1/memory/global/k{}", number % 500), value.clone(), loud.clone());
                async move { loud.send(Method::PUT, &path, value, "text/plain").await }
            })
            .await;
        }
        .boxed()
    }),
    ("events of a topic", |loud| {
        async move {
            let event = json!({"topic": "news", "type": "t", "data": "n".repeat(100 << 10)}).to_string();
            loud.again(64, |_| loud.send(Method::POST, "/v1/events", event.clone(), "application/json")).await;
        }
        .boxed()
    }),
    ("walks of a star", |loud| async move { loud.again(16, |_| loud.get("/v1/graph/reach?from=hub")).await }.boxed()),
    ("searches", |loud| {
        async move {
            let query = json!({"query": "star of the hub"}).to_string();
            loud.again(16, |_| loud.send(Method::POST, "/v1/recall/search", query.clone(), "application/json")).await;
        }
        .boxed()
    }),
    ("long lists", |loud| {
        async move {
            loud.again(8, |number| {
                let path = ["/v1/runs?limit=500", "/v1/memory/global?limit=500", "/v1/events?topic=news&limit=500"];
                loud.get(path[number % path.len()])
            })
            .await;
        }
        .boxed()
    }),
    ("readers of events", |loud| {
        async move { loud.again(700, |_| loud.get("/v1/changes?scope=global")).await }.boxed()
    }),
    ("documents that multiply", |loud| {
        async move {
            let body = bytes::Bytes::from(format!("{:?}", "y".repeat(1 << 20)));
            loud.again(8, |_| loud.send(Method::POST, "/v1/workflows/multiply/runs", body.clone(), "application/json"))
                .await;
        }
        .boxed()
    }),
    ("schemas that are judged for long", |loud| {
        async move {
            let body = bytes::Bytes::from(nested(60));
            loud.again(8, |_| loud.send(Method::POST, "/v1/workflows/doubling/runs", body.clone(), "application/json"))
                .await;
        }
        .boxed()
    }),
    ("agents' states that are judged for long", |loud| {
        async move {
            let data: Value = serde_json::from_str(&nested(60)).unwrap_or_default();
            loud.again(64, |_| loud.call("dear", json!([{"do": "move", "event": "go", "patch": data}]))).await;
        }
        .boxed()
    }),
    ("schemas of documents that are put", |loud| {
        async move {
            loud.again(8, |number| {
                let (document, loud) = (format!("# {number}\n{}", judged_by_doubling()), loud.clone());
                async move { loud.send(Method::PUT, "/v1/workflows/doubling", document, "application/yaml").await }
            })
            .await;
        }
        .boxed()
    }),
    ("sessions whose turns are interrupted", |loud| {
        async move {
            loud.again(16, |_| async {
                let settings = json!({"agent": "sleeper", "if-busy": "interrupt", "turn": "1s"});
                let Some(session) = loud.ask("/v1/sessions", settings).await else { return };
                let turns = format!("/v1/sessions/{}/turns", session["id"].as_str().unwrap_or_default());
                for _ in 0..3 {
                    loud.ask(&turns, json!({})).await;
                }
            })
            .await;
        }
        .boxed()
    }),
    ("events that start runs of many subscriptions", |loud| {
        async move {
            let event = json!({"topic": "busy", "type": "t", "data": 1}).to_string();
            loud.again(16, |_| loud.send(Method::POST, "/v1/events", event.clone(), "application/json")).await;
        }
        .boxed()
    }),
    ("questions, and waits of a second", |loud| {
        async move {
            loud.again(32, |number| {
                let workflow = ["asks", "waits"][number % 2];
                let (path, loud) = (format!("/v1/workflows/{workflow}/runs"), loud.clone());
                async move { drop(loud.ask(&path, json!({})).await) }
            })
            .await;
        }
        .boxed()
    }),
    ("agents that call agents", |loud| {
        async move {
            let calls: Vec<Value> = (0..8).map(|_| json!(["echo", {}])).collect();
            loud.again(16, |_| loud.call("calls", json!([{"do": "fork", "calls": calls}]))).await;
        }
        .boxed()
    }),
    ("wide maps, and forks", |loud| {
        async move {
            let publish = json!([{"do": "publish", "topic": "forked", "kind": "t", "data": 1}]);
            loud.again(8, |number| {
                let (workflow, many) = [("wide", 200), ("forked", 20)][number % 2];
                let (path, loud) = (format!("/v1/workflows/{workflow}/runs"), loud.clone());
                let items = vec![publish.clone(); many];
                async move { drop(loud.ask(&path, json!(items)).await) }
            })
            .await;
        }
        .boxed()
    }),
    ("schedules that are put", |loud| {
        async move {
            loud.again(8, |number| {
                let each: String = (0..16).map(|n| format!("{{schedule: \"* * * * *\", input: {n}}}, ")).collect();
                let (name, loud) = (format!("beat-{}", number % 50), loud.clone());
                let document = format!("# {number}\nname: {name}\non: [{each}]\nflow: {{agent: echo}}\n");
                async move { loud.send(Method::PUT, &format!("/v1/workflows/{name}"), document, "application/yaml").await }
            })
            .await;
        }
        .boxed()
    }),
    ("wrong keys", |loud| {
        async move {
            loud.again(64, |number| {
                let key = format!("ltmc_abcdefghijkl_{number:032}");
                let request = loud.http.get(format!("{}/v1/runs", loud.url)).bearer_auth(key);
                async move { drop(request.send().await) }
            })
            .await;
        }
        .boxed()
    }),
    ("uploads that stand still", |loud| {
        async move {
            let head = format!(
                "PUT /v1/agents/slow HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nContent-Type: application/wasm\r\n\
                 Content-Length: 8000000\r\n\r\n",
                loud.admin
            );
            loud.hold(100, head.into_bytes()).await;
        }
        .boxed()
    }),
    ("forms that stand still, of a viewer", |loud| {
        async move {
            let mut head = format!(
                "PUT /v1/agents/slow HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\n\
                 Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 80000000\r\n\r\n\
                 --b\r\nContent-Disposition: form-data; name=\"component\"\r\n\r\n",
                loud.viewer
            )
            .into_bytes();
            head.resize(head.len() + (1 << 20), b'x');
            loud.hold(100, head).await;
        }
        .boxed()
    }),
    ("connections of nobody with one byte", |loud| async move { loud.hold(1_500, b"G".to_vec()).await }.boxed()),
    ("connections of nobody with the preface of HTTP/2", |loud| {
        async move { loud.hold(1_500, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()).await }.boxed()
    }),
];

/// The tenant that goes on.
struct Quiet {
    url: String,
    key: String,
    http: reqwest::Client,
    /// How many of its writes its stream has told.
    told: Arc<AtomicUsize>,
    written: usize,
}

impl Quiet {
    /// What it does for so long; how long each request took.
    async fn go_on(&mut self, long: Duration, operator: &str) -> Result<Vec<Duration>> {
        let echo = guest_bytes("echo")?;
        let (mut took, begun, mut round) = (Vec::new(), Instant::now(), 0_u32);
        while begun.elapsed() < long || round < 10 {
            round += 1;
            let number = self.written;
            let asks: [(Method, String, Option<Vec<u8>>, &str); 8] = [
                (Method::POST, "/v1/agents/echo/call".into(), Some(b"hello".to_vec()), "text/plain"),
                (Method::PUT, format!("/v1/memory/global/q{number}"), Some(b"value".to_vec()), "text/plain"),
                (Method::GET, format!("/v1/memory/global/q{number}"), None, ""),
                (Method::GET, "/v1/runs?limit=10".into(), None, ""),
                (Method::GET, "/v1/graph/reach?from=a".into(), None, ""),
                (Method::PUT, "/v1/agents/echo".into(), (round % 8 == 0).then(|| echo.clone()), "application/wasm"),
                (Method::GET, "/readyz".into(), None, ""),
                (Method::GET, "/healthz".into(), None, ""),
            ];
            for (method, path, body, kind) in asks {
                if path == "/v1/agents/echo" && body.is_none() {
                    continue;
                }
                let key = if path == "/readyz" { operator } else { &self.key };
                let send = || {
                    let request = self.http.request(method.clone(), format!("{}{path}", self.url)).bearer_auth(key);
                    let request = request.timeout(Duration::from_secs(30));
                    match body.clone() {
                        Some(body) => request.header("content-type", kind).body(body).send(),
                        None => request.send(),
                    }
                };
                let asked = Instant::now();
                // A connection that rests may be closed to make room just as a request sets out on it: as any client does, it asks again.
                let answer = match send().await {
                    Err(error) if error.is_request() && !error.is_timeout() => send().await?,
                    answer => answer?,
                };
                let status = answer.status();
                let said = answer.text().await?;
                ensure!(status.is_success(), "{method} {path} was answered {status}: {said}");
                took.push(asked.elapsed());
            }
            self.written += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(took)
    }

    /// Follows its own changes.
    async fn follow(&self) -> Result<tokio::task::JoinHandle<()>> {
        let request = self.http.get(format!("{}/v1/changes?scope=global&prefix=q", self.url)).bearer_auth(&self.key);
        let answer = request.send().await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        let told = self.told.clone();
        Ok(tokio::spawn(async move {
            let mut stream = answer.bytes_stream();
            let mut rest = String::new();
            while let Some(Ok(chunk)) = stream.next().await {
                rest.push_str(&String::from_utf8_lossy(&chunk));
                while let Some(end) = rest.find("\n\n") {
                    told.fetch_add(usize::from(rest[..end].contains("\"q")), Ordering::SeqCst);
                    rest.drain(..end + 2);
                }
            }
        }))
    }
}

fn percentile(took: &mut [Duration], of_hundred: usize) -> Duration {
    took.sort_unstable();
    took.get(took.len().saturating_sub(1) * of_hundred / 100).copied().unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "how long the proof by hand lasts")]
fn seconds() -> u64 {
    std::env::var("LTMC_TEST_NEIGHBOURS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// Whether a kind is one of those that are asked for.
#[expect(clippy::disallowed_methods, reason = "what the proof by hand looks at")]
fn is_wanted(name: &str) -> bool {
    std::env::var("LTMC_TEST_NEIGHBOURS_OF")
        .map_or(true, |wanted| wanted.split(',').any(|wanted| name.contains(wanted)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_tenant_does_alone_fails_nobody_else() -> Result<()> {
    let host = Host::start_with_descriptors(DESCRIPTORS, "").await?;
    let (admin, quiet) = (host.tenant("loud", "admin").await?, host.tenant("quiet", "admin").await?);
    let loud = Loud {
        url: host.url(""),
        address: host.address(),
        viewer: host.key("loud", "viewer").await?,
        http: reqwest::Client::builder().pool_max_idle_per_host(0).build()?,
        over: Arc::default(),
        admin,
    };
    set_the_stage(&host, &loud, &quiet).await?;
    let http = reqwest::Client::new();
    let mut quiet = Quiet { url: host.url(""), key: quiet, http, told: Arc::default(), written: 0 };
    let follower = quiet.follow().await?;
    let long = Duration::from_secs(seconds());
    quiet.go_on(long, &host.operator).await?;
    let mut alone = quiet.go_on(long * 2, &host.operator).await?;
    let (alone, before) = (percentile(&mut alone, 99), host.resident());
    let mut failed = Vec::new();
    println!("{:<52} {:>10} {:>8}", "alone", format!("{alone:.1?}"), "");
    for (name, way) in WAYS.iter().filter(|(name, _)| is_wanted(name)) {
        let weighing = Loud { over: Arc::default(), ..loud.clone() };
        let over = weighing.over.clone();
        let task = tokio::spawn(way(weighing));
        tokio::time::sleep(Duration::from_millis(300)).await;
        let went = quiet.go_on(long, &host.operator).await;
        let held = host.resident();
        over.store(true, Ordering::SeqCst);
        task.await?;
        match went {
            Ok(mut took) => {
                let with = percentile(&mut took, 99);
                let ratio = with.as_secs_f64() / alone.as_secs_f64().max(1e-6);
                println!("{name:<52} {:>10} {ratio:>7.1}x {:>6} MiB", format!("{with:.1?}"), held >> 20);
            }
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
        ensure!(held < MEMORY, "{name}: the host has {held} bytes");
    }
    assert!(failed.is_empty(), "the neighbour noticed:\n{}", failed.join("\n"));
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let (told, written, held) = (quiet.told.load(Ordering::SeqCst), quiet.written, host.resident());
        if told >= written && held < before + LEFT_OVER {
            break;
        }
        ensure!(Instant::now() < patience, "told {told} of {written}; {held} bytes, {before} before");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    follower.abort();
    Ok(())
}

async fn set_the_stage(host: &Host, loud: &Loud, quiet: &str) -> Result<()> {
    let all =
        ["log", "call:*", "memory:read:*", "memory:write:*", "message:receive", "message:send:*", "message:publish:*"];
    for (name, guest) in [
        ("spin", "spin"),
        ("memory-bomb", "memory-bomb"),
        ("sleeper", "sleeper"),
        ("post", "message-script"),
        ("flaky", "flaky"),
        ("calls", "call-script"),
        ("echo", "echo"),
    ] {
        host.push(&loud.admin, name, guest, &all).await?;
    }
    host.push(quiet, "echo", "echo", &[]).await?;
    let with: String = (0..100).map(|pick| format!("        p{pick}: $.input\n")).collect();
    let state = json!({
        "version": 1, "initial": "idle", "per": "session", "data": {}, "schema": doubling(),
        "states": {"idle": {}, "done": {"final": true}},
        "transitions": [{"from": "idle", "to": "idle", "on": "go"}, {"from": "idle", "to": "done", "on": "end"}],
    });
    states::push(host, &loud.admin, "dear", "state-script", &state).await?.expect(201);
    states::grant(host, &loud.admin, "dear", &["state"]).await?;
    let document = |name: &str, flow: &str| (name.to_owned(), format!("name: {name}\nflow: {flow}\n"));
    for (name, document) in [
        document("stubborn", "{agent: flaky, retry: {attempts: 10, backoff: 100ms}}"),
        document("multiply", &format!("\n  sequence:\n    - agent: echo\n      with:\n{with}")),
        document("asks", "{ask: {title: \"Really?\", of: admin}}"),
        document("waits", "{wait: 1s}"),
        document("wide", "{map: $.input, do: {agent: echo}}"),
        document("forked", "{map: $.input, do: {agent: post}, context: {fork: [session, messages]}}"),
        ("doubling".to_owned(), judged_by_doubling()),
    ] {
        let put = host.request(Method::PUT, &format!("/v1/workflows/{name}"), &loud.admin);
        // A document that is refused would weigh on nobody.
        host.send(put.header("content-type", "application/yaml").body(document)).await?.expect(201);
    }
    for number in 0..100 {
        let subscription = json!({"topic": "busy", "agent": "echo"});
        let put = host.request(Method::PUT, &format!("/v1/subscriptions/s{number}"), &loud.admin);
        host.send(put.json(&subscription)).await?.expect(201);
    }
    for (key, from, count) in [(loud.admin.as_str(), "hub", 1_000), (quiet, "a", 3)] {
        for first in (0..count).step_by(100) {
            let fact = |n: usize| json!({"relate": {"subject": from, "relation": "r", "object": format!("o{n}")}});
            let operations: Vec<Value> = (first..count.min(first + 100)).map(fact).collect();
            let request = host.request(Method::POST, "/v1/transactions", key).json(&json!({"operations": operations}));
            host.send(request).await?.expect(200);
        }
    }
    Ok(())
}
