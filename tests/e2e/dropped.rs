//! The table of clients that go away: every route of the OpenAPI document that changes something is sent, and its connection
//! cut a moment later: closed, reset, half-closed, with other requests before and behind it. Afterwards record, caches and
//! slots agree, nothing is counted as alive, and a retry gives what the first would have given. A route that is added without
//! a case here fails the test.
//!
//! - here: what is sent on each route, how it is cut off, and what must be so after a retry
//! - `agree`: what must agree at any moment, before the retry and after it
//!
//! The moments are random, and their seed is printed; `LTMC_TEST_SEED` gives it again, `LTMC_TEST_ROUNDS` more rounds a route.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ltmc_tests::{Answer, Host, guest_bytes};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use self::agree::{Look, acts, all};

mod agree;

/// Rounds a route, unless told otherwise: each way to go away, three times.
const ROUNDS: usize = 12;
/// The longest moment between a request and the end of its connection.
const LATEST: Duration = Duration::from_millis(2);
/// What is under way is over sooner than this.
const PATIENCE: Duration = Duration::from_secs(20);
/// Asked by POST, and changes nothing.
const READS: [&str; 1] = ["/v1/recall/search"];

/// Whatever the host counts as alive, or under way: where nothing is asked for any more there is none of it.
const COUNTED: [&str; 11] = [
    "ltmc_runs_alive",
    "ltmc_runs_input_bytes",
    "ltmc_changes_under_way",
    "ltmc_changes_staged_bytes",
    "ltmc_subscribed_places",
    "ltmc_sandbox_running",
    "ltmc_sandbox_queued",
    "ltmc_sandbox_waiting",
    "ltmc_sandbox_compiling_queued",
    "ltmc_file_threads_working",
    "ltmc_blocked_threads",
];

/// How a client goes away.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// It closes its connection.
    Closed,
    /// It says that it will send no more, and reads what there is to be read.
    HalfClosed,
    /// It closes its connection, with other requests before and behind the one that changes something.
    Pipelined,
    /// It dies in the middle of its request, and has sent it whole on another connection before.
    Twice,
}

const WAYS: [Way; 4] = [Way::Closed, Way::HalfClosed, Way::Pipelined, Way::Twice];

/// A request as it goes over the wire.
#[derive(Debug, Clone)]
struct Sent {
    method: Method,
    path: String,
    key: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// What must be so afterwards.
#[derive(Debug)]
enum Then {
    /// This is answered so; with this in the answer, or without it.
    Asked { ask: Sent, status: u16, has: Option<String>, lacks: Option<String> },
    /// The key that the retry gave opens something. Of those that expire then, which the retry's is and perhaps the first's, each is in the
    /// audit as made once, and none else.
    GivenKeyOpens { expires: String },
    /// The key opens nothing; whatever the list says of it until then, it does.
    KeyIsGone { id: String, key: String },
    /// The agent may write memory, or may not; whatever the list says of it until then, it does.
    MayWrite { agent: String, at_last: bool },
    /// The fork of this run that the retry gave is completed, and there is no other that an earlier request began.
    TheOneGivenEnds { of: String },
    /// Of the runs that are listed so, there is one, which the retry gave, and which is completed: before the retry there may be none.
    OneRun { of: String },
    /// The same, and there may be another one, which ended with its client or came to its end before.
    OneRunEach { of: String },
    /// So many runs were started by the subscription, which ended so, as it counts them itself.
    Started { subscription: String, of: String, times: RangeInclusive<u64>, state: &'static str },
    /// As many sessions of this title are open as requests were done: the retry's, and perhaps the first.
    Opened { title: String },
    /// The note is found, or is not; whatever the last act about it says until then, it is so.
    Note { note: String, at_last: bool },
    /// The agent is handed as many messages as acts say that it was sent, and before the retry no more than one.
    Received { agent: String },
    /// The databases hold what the record holds.
    Repaired,
    /// The run ends so.
    RunEnds { run: String, state: &'static str },
}

/// One round of a route.
struct Round {
    sent: Sent,
    /// Statuses of a retry.
    again: &'static [u16],
    then: Then,
    /// What must agree, before the retry and after it.
    look: Option<Look>,
}

impl Sent {
    fn new(host: &Host, method: &str, path: impl Into<String>) -> Self {
        let method = method.parse().unwrap_or(Method::GET);
        Self { method, path: path.into(), key: host.admin.clone(), headers: Vec::new(), body: Vec::new() }
    }

    fn by(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn of_type(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.with("content-type", content_type)
    }

    fn json(self, body: &Value) -> Self {
        self.of_type("application/json", body.to_string())
    }

    fn bytes(&self, host: &Host) -> Vec<u8> {
        let Self { method, path, key, headers, body } = self;
        let address = host.address();
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("content-length: {}\r\n\r\n", body.len());
        [text.as_bytes(), body].concat()
    }

    async fn answered(&self, host: &Host) -> Result<Answer> {
        let mut request = host.request(self.method.clone(), &self.path, &self.key);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        timeout(PATIENCE, host.send(request.body(self.body.clone())))
            .await
            .with_context(|| format!("{} {} is not answered", self.method, self.path))?
    }

    /// Sends it, and goes away after a moment.
    async fn cut(&self, host: &Host, way: Way, after: Duration) -> Result<()> {
        let mut stream = TcpStream::connect(host.address()).await?;
        stream.set_nodelay(true)?;
        let (bytes, other) = (self.bytes(host), format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", host.address()));
        let pause = async || {
            if !after.is_zero() {
                sleep(after).await
            }
        };
        match way {
            Way::Closed => {
                stream.write_all(&bytes).await?;
                pause().await;
            }
            Way::HalfClosed => {
                stream.write_all(&bytes).await?;
                pause().await;
                stream.shutdown().await?;
                let mut rest = Vec::new();
                let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
                drop(
                    read.with_context(|| format!("{} {}: the host keeps what is half closed", self.method, self.path))?,
                );
            }
            Way::Pipelined => {
                stream.write_all(&[other.as_bytes(), &bytes, other.as_bytes()].concat()).await?;
                pause().await;
            }
            Way::Twice => {
                stream.write_all(&bytes).await?;
                let mut second = TcpStream::connect(host.address()).await?;
                second.write_all(&bytes[..bytes.len() / 2]).await?;
                pause().await;
            }
        }
        Ok(())
    }
}

/// A new session of an agent.
async fn session(host: &Host, agent: &str) -> Result<String> {
    let opened = Sent::new(host, "POST", "/v1/sessions").json(&json!({"agent": agent}));
    let opened = opened.answered(host).await?.expect(201).json();
    Ok(opened["id"].as_str().context("an id")?.to_owned())
}

/// An agent with states, of this version of their declaration.
async fn declare(host: &Host, name: &str, version: u32) -> Result<()> {
    let mut state = json!({
        "version": version, "initial": "on", "states": {"on": {}, "off": {}},
        "transitions": [{"from": "on", "to": "off", "on": "end"}, {"from": "off", "to": "on", "on": "begin"}],
    });
    if version > 1 {
        state["migrate"] = json!({"from": version - 1, "agent": "slow"});
    }
    push_with(host, name, "state-script", &json!({"manifest": 1, "state": state})).await?;
    host.put_json(&format!("/v1/agents/{name}/grants"), &json!(["state", "call:slow"])).await?.expect(200);
    Ok(())
}

/// An agent with a manifest beside it.
async fn push_with(host: &Host, name: &str, guest: &str, manifest: &Value) -> Result<()> {
    let form = reqwest::multipart::Form::new()
        .part("component", reqwest::multipart::Part::bytes(guest_bytes(guest)?))
        .part("manifest", reqwest::multipart::Part::text(manifest.to_string()));
    let push = host.request(Method::PUT, &format!("/v1/agents/{name}"), &host.admin).multipart(form);
    let pushed = host.send(push).await?;
    ensure!(pushed.status.is_success(), "{}", pushed.text());
    Ok(())
}

/// What a round of a route is; none: this test does not know the route.
async fn round(host: &Host, method: &str, path: &str, number: usize) -> Result<Option<Round>> {
    let name = format!("r{number}");
    let sent = |filled: String| Sent::new(host, method, filled);
    let of = |filled: &str| Sent::new(host, "GET", filled);
    let asked = |ask: Sent, status: u16| Then::Asked { ask, status, has: None, lacks: None };
    let counted = json!({"key": "n", "scope": "agent", "times": 1});
    let call = |agent: &str| Sent::new(host, "POST", format!("/v1/agents/{agent}/call")).json(&counted);
    let one = |sent: Sent, again: &'static [u16], then: Then| Ok(Some(Round { sent, again, then, look: None }));
    let looked = |sent: Sent, again: &'static [u16], then: Then, look: Look| {
        Ok(Some(Round { sent, again, then, look: Some(look) }))
    };
    match (method, path) {
        ("PUT", "/v1/agents/{name}") => {
            let push = sent(format!("/v1/agents/{name}")).of_type("application/wasm", guest_bytes("echo")?);
            one(push, &[200, 201], asked(of(&format!("/v1/agents/{name}")), 200))
        }
        ("DELETE", "/v1/agents/{name}") => {
            host.push(&host.admin, &name, "counter", &["memory:read:*", "memory:write:*"]).await?;
            call(&name).answered(host).await?.expect(200);
            one(sent(format!("/v1/agents/{name}")), &[204, 404], asked(call(&name), 404))
        }
        ("PUT", "/v1/agents/{name}/grants") => {
            host.push(&host.admin, &name, "counter", &["memory:read:*"]).await?;
            call(&name).answered(host).await?.expect(422);
            let set = sent(format!("/v1/agents/{name}/grants")).json(&json!(["memory:read:*", "memory:write:*"]));
            one(set, &[200], Then::MayWrite { agent: name, at_last: true })
        }
        ("DELETE", "/v1/agents/{name}/grants/{cap}") => {
            host.push(&host.admin, &name, "counter", &["memory:read:*", "memory:write:*"]).await?;
            call(&name).answered(host).await?.expect(200);
            let revoke = sent(format!("/v1/agents/{name}/grants/memory:write:*"));
            one(revoke, &[204, 404], Then::MayWrite { agent: name, at_last: false })
        }
        ("POST", "/v1/agents/{name}/call") => {
            let guest = if number.is_multiple_of(2) { "slow-effects" } else { "echo" };
            host.push(&host.admin, &name, guest, &["memory:read:*", "memory:write:*"]).await?;
            let work = json!({"n": 3, "sleep_ms": 20, "scope": "agent"});
            let (call, of) = (sent(format!("/v1/agents/{name}/call")).json(&work), format!("agent={name}"));
            // With a key it is the same run that a retry is answered with; without one it ends with its client.
            match number % 4 < 2 {
                true => one(call.with("idempotency-key", name), &[200], Then::OneRun { of }),
                false => one(call, &[200], Then::OneRunEach { of }),
            }
        }
        ("POST", "/v1/approvals/{token}") => {
            let asking = "name: asking\nflow: {ask: {title: Well?, of: admin}}\n";
            let put = Sent::new(host, "PUT", "/v1/workflows/asking").of_type("application/yaml", asking);
            put.answered(host).await?;
            let start = Sent::new(host, "POST", "/v1/workflows/asking/runs").json(&json!({}));
            let run = started_run(&start.answered(host).await?)?;
            let token = token_of(host, &run).await?;
            let answer = sent(format!("/v1/approvals/{token}")).json(&json!({"answer": true}));
            looked(answer, &[204, 409], Then::RunEnds { run: run.clone(), state: "completed" }, Look::Run(run))
        }
        ("POST", "/v1/workflows/{name}/runs") => {
            let steps = format!("name: {name}\nflow: {{sequence: [{{agent: slow}}, {{agent: echo}}]}}\n");
            let put = Sent::new(host, "PUT", format!("/v1/workflows/{name}")).of_type("application/yaml", steps);
            put.answered(host).await?.expect(201);
            let run =
                sent(format!("/v1/workflows/{name}/runs")).json(&json!({"n": 1, "sleep_ms": 1, "scope": "agent"}));
            let of = format!("workflow={name}");
            one(run.with("idempotency-key", name).with("prefer", "wait=20"), &[200], Then::OneRun { of })
        }
        ("PUT", "/v1/workflows/{name}") => {
            let put = sent(format!("/v1/workflows/{name}")).of_type("application/yaml", document(&name));
            one(put, &[200, 201], asked(of(&format!("/v1/workflows/{name}")), 200))
        }
        ("DELETE", "/v1/workflows/{name}") => {
            let workflow = format!("/v1/workflows/{name}");
            let put = Sent::new(host, "PUT", &workflow).of_type("application/yaml", document(&name));
            put.answered(host).await?.expect(201);
            let run = Sent::new(host, "POST", format!("{workflow}/runs")).json(&json!({})).with("prefer", "wait=20");
            run.answered(host).await?.expect(200);
            one(sent(workflow), &[204, 404], asked(run, 404))
        }
        ("POST", "/v1/schedules/{workflow}/{number}/pause" | "/v1/schedules/{workflow}/{number}/continue") => {
            let workflow = format!("name: {name}\non: [{{schedule: 0 0 1 1 *}}]\nflow: {{agent: echo}}\n");
            let put = Sent::new(host, "PUT", format!("/v1/workflows/{name}")).of_type("application/yaml", workflow);
            put.answered(host).await?.expect(201);
            let is_pause = path.ends_with("pause");
            if !is_pause {
                let pause = Sent::new(host, "POST", format!("/v1/schedules/{name}/1/pause"));
                pause.answered(host).await?.expect(204);
            }
            let ask = of(&format!("/v1/schedules?workflow={name}"));
            let is_on = "\"paused\":null".to_owned();
            let (has, lacks) = if is_pause { (None, Some(is_on)) } else { (Some(is_on), None) };
            let asked = path.replace("{workflow}", &name).replace("{number}", "1");
            one(sent(asked), &[204, 409], Then::Asked { ask, status: 200, has, lacks })
        }
        ("POST", "/v1/schedules/{workflow}/{number}/run-now") => {
            let yearly = format!("name: {name}\non: [{{schedule: 0 0 1 1 *, input: {{}}}}]\nflow: {{agent: echo}}\n");
            let put = Sent::new(host, "PUT", format!("/v1/workflows/{name}")).of_type("application/yaml", yearly);
            put.answered(host).await?.expect(201);
            let of = format!("workflow={name}");
            let run = sent(format!("/v1/schedules/{name}/1/run-now"));
            // Without a key each that is done is a run of its own.
            match number.is_multiple_of(2) {
                true => one(run.with("idempotency-key", name), &[202], Then::OneRun { of }),
                false => one(run, &[202], Then::OneRunEach { of }),
            }
        }
        ("PUT", "/v1/subscriptions/{name}") => {
            let subscription = format!("/v1/subscriptions/{name}");
            let put = sent(subscription.clone()).json(&json!({"topic": name, "agent": "echo"}));
            looked(put, &[200, 201], asked(of(&subscription), 200), Look::Subscription(name))
        }
        (
            "DELETE" | "POST",
            "/v1/subscriptions/{name}" | "/v1/subscriptions/{name}/pause" | "/v1/subscriptions/{name}/continue",
        ) => {
            let subscription = format!("/v1/subscriptions/{name}");
            let put = Sent::new(host, "PUT", &subscription).json(&json!({"topic": name, "agent": "echo"}));
            put.answered(host).await?.expect(201);
            if path.ends_with("continue") {
                Sent::new(host, "POST", format!("{subscription}/pause")).answered(host).await?.expect(204);
            }
            let is_on = "\"paused\":null".to_owned();
            let (status, has, lacks) = match path.rsplit('/').next() {
                Some("pause") => (200, None, Some(is_on)),
                Some("continue") => (200, Some(is_on), None),
                _ => (404, None, None),
            };
            let then = Then::Asked { ask: of(&subscription), status, has, lacks };
            looked(sent(path.replace("{name}", &name)), &[204, 404, 409], then, Look::Subscription(name))
        }
        ("POST", "/v1/agents/{name}/subscriptions") => {
            let manifest = json!({"manifest": 1, "subscriptions": [{"topic": name}]});
            push_with(host, &name, "echo", &manifest).await?;
            let then = asked(of(&format!("/v1/subscriptions/{name}@1")), 200);
            looked(sent(path.replace("{name}", &name)), &[200], then, Look::Subscription(format!("{name}@1")))
        }
        ("POST", "/v1/subscriptions/{name}/replay") => {
            host.push(&host.admin, &name, "echo", &[]).await?;
            let put = Sent::new(host, "PUT", format!("/v1/subscriptions/{name}"));
            put.json(&json!({"topic": name, "agent": name})).answered(host).await?.expect(201);
            let publish = Sent::new(host, "POST", "/v1/events").json(&json!({"topic": name, "type": "t"}));
            publish.answered(host).await?.expect(200);
            let of = format!("agent={name}");
            until("its event has started its run", async || Ok(all(host, &format!("/v1/runs?{of}")).await?.len() == 1))
                .await?;
            let replay = sent(path.replace("{name}", &name)).json(&json!({"after": 0, "force": true}));
            // Once for the event, and once for each replay.
            let then = Then::Started { subscription: name.clone(), of, times: 2..=3, state: "completed" };
            looked(replay, &[204], then, Look::Subscription(name))
        }
        (
            "POST",
            "/v1/subscriptions/{name}/events/{position}/release" | "/v1/subscriptions/{name}/events/{position}/skip",
        ) => {
            let subscription = format!("/v1/subscriptions/{name}");
            let put = Sent::new(host, "PUT", &subscription).json(&json!({"topic": name, "agent": name}));
            host.push(&host.admin, &name, "counter", &["memory:read:*"]).await?;
            put.answered(host).await?.expect(201);
            let publish = Sent::new(host, "POST", "/v1/events").json(&json!({"topic": name, "type": "t"}));
            publish.answered(host).await?.expect(200);
            let letters = format!("{subscription}/events?dead=true");
            let mut position = None;
            until("it is a dead letter", async || {
                let found = of(&letters).answered(host).await?.expect(200).json();
                position = found["items"][0]["position"].as_u64();
                Ok(position.is_some())
            })
            .await?;
            let position = position.context("no dead letter")?.to_string();
            // One that is released fails again.
            let then = match path.ends_with("skip") {
                false => {
                    let (subscription, of) = (name.clone(), format!("agent={name}"));
                    Then::Started { subscription, of, times: 2..=3, state: "failed" }
                }
                true => {
                    let ask = of(&letters);
                    Then::Asked { ask, status: 200, has: Some("\"items\":[]".into()), lacks: None }
                }
            };
            let settle = sent(path.replace("{name}", &name).replace("{position}", &position));
            looked(settle, &[204, 404], then, Look::Subscription(name))
        }
        ("POST", "/v1/sessions") => {
            one(sent(path.into()).json(&json!({"agent": "echo", "title": name})), &[201], Then::Opened { title: name })
        }
        ("POST", "/v1/sessions/{id}/turns") => {
            let id = session(host, "slow").await?;
            let say =
                sent(format!("/v1/sessions/{id}/turns")).json(&json!({"n": 2, "sleep_ms": 5, "scope": "session"}));
            let say = say.with("idempotency-key", name).with("prefer", "wait=20");
            // However often it was sent, it was said once.
            let ask = of(&format!("/v1/sessions/{id}"));
            let then = Then::Asked { ask, status: 200, has: Some("\"turns\":1,".into()), lacks: None };
            looked(say, &[200], then, Look::Session(id))
        }
        ("DELETE", "/v1/sessions/{id}/turns/{number}") => {
            let id = session(host, "slow").await?;
            let say = Sent::new(host, "POST", format!("/v1/sessions/{id}/turns"));
            let say = say.json(&json!({"n": 2, "sleep_ms": 5_000, "scope": "session"}));
            let run = started_run(&say.answered(host).await?)?;
            let then = Then::RunEnds { run, state: "cancelled" };
            looked(sent(format!("/v1/sessions/{id}/turns/1")), &[204, 409], then, Look::Session(id))
        }
        ("POST", "/v1/sessions/{id}/hand-off") => {
            let put = Sent::new(host, "PUT", "/v1/workflows/desk");
            let desk = "name: desk\nflow: {hand-off: {start: echo, among: [echo, slow]}}";
            drop(put.of_type("application/yaml", desk.to_owned()).answered(host).await?);
            let open = Sent::new(host, "POST", "/v1/sessions").json(&json!({"workflow": "desk"}));
            let opened = open.answered(host).await?.expect(201).json();
            let id = opened["id"].as_str().context("an id")?;
            let ask = of(&format!("/v1/sessions/{id}"));
            let then = Then::Asked { ask, status: 200, has: Some("\"holder\":\"slow\"".into()), lacks: None };
            let to = json!({"to": "slow", "reason": "so"});
            // Where it was done the first time it cannot be done again; where it is done at this moment, that is told.
            let hand_off = sent(format!("/v1/sessions/{id}/hand-off")).json(&to);
            looked(hand_off, &[200, 400, 409], then, Look::Session(id.to_owned()))
        }
        ("POST", "/v1/sessions/{id}/rewind") => {
            let id = session(host, "echo").await?;
            let say =
                Sent::new(host, "POST", format!("/v1/sessions/{id}/turns")).json(&json!({})).with("prefer", "wait=20");
            say.answered(host).await?.expect(200);
            let ask = of(&format!("/v1/sessions/{id}/turns"));
            let then = Then::Asked { ask, status: 200, has: Some("\"undone\":true".into()), lacks: None };
            // Where it is done at this moment, that is told.
            let rewind = sent(format!("/v1/sessions/{id}/rewind")).json(&json!({"to": 0}));
            looked(rewind, &[200, 409], then, Look::Session(id))
        }
        ("POST", "/v1/sessions/{id}/fork") => {
            let id = session(host, "echo").await?;
            let fork = sent(format!("/v1/sessions/{id}/fork")).json(&json!({"title": name}));
            looked(fork, &[201], Then::Opened { title: name }, Look::Session(id))
        }
        (method, "/v1/sessions/{id}/participants/{participant}") => {
            let id = session(host, "echo").await?;
            let make = Sent::new(host, "POST", "/v1/keys").json(&json!({"role": "caller"}));
            let made = make.answered(host).await?.expect(201).json();
            let key = made["id"].as_str().context("a key's id")?.to_owned();
            let put = Sent::new(host, "PUT", format!("/v1/sessions/{id}/participants/{key}"));
            let put = put.json(&json!({"part": "observer"}));
            let ask = of(&format!("/v1/sessions/{id}/participants"));
            let (has, lacks) = match method {
                "PUT" => (Some(key), None),
                _ => {
                    put.answered(host).await?.expect(204);
                    (None, Some(key))
                }
            };
            let then = Then::Asked { ask, status: 200, has, lacks };
            let look = Look::Session(id);
            match method {
                "PUT" => looked(put, &[204], then, look),
                _ => looked(sent(put.path), &[204, 404], then, look),
            }
        }
        ("POST", "/v1/sessions/{id}/close") => {
            let id = session(host, "echo").await?;
            let ask = of(&format!("/v1/sessions/{id}"));
            let then = Then::Asked { ask, status: 200, has: Some("\"state\":\"closed\"".into()), lacks: None };
            looked(sent(format!("/v1/sessions/{id}/close")), &[200, 409], then, Look::Session(id))
        }
        ("POST", "/v1/agents/{name}/state/set") => {
            declare(host, &name, 1).await?;
            let (state, path) = (format!("/v1/agents/{name}/state"), format!("/v1/agents/{name}/state/set"));
            let set = sent(path).json(&json!({"state": "off", "data": {}, "reason": "a test"}));
            let has = Some("\"state\":\"off\"".to_owned());
            one(set, &[200], Then::Asked { ask: of(&state), status: 200, has, lacks: None })
        }
        ("POST", "/v1/agents/{name}/state/release") => {
            // The migration of its state fails, for `slow` cannot do it.
            declare(host, &name, 1).await?;
            let set = Sent::new(host, "POST", format!("/v1/agents/{name}/state/set"));
            let set = set.json(&json!({"state": "on", "data": {}, "reason": "a test"}));
            set.answered(host).await?.expect(200);
            declare(host, &name, 2).await?;
            let look = Sent::new(host, "POST", format!("/v1/agents/{name}/call")).json(&json!([{"do": "get"}]));
            ensure!(look.answered(host).await?.expect(200).text().contains("quarantined"));
            let release = sent(format!("/v1/agents/{name}/state/release")).json(&json!({"reason": "a test"}));
            let (ask, lacks) = (of(&format!("/v1/agents/{name}/state")), Some("quarantined".to_owned()));
            one(release, &[200, 409], Then::Asked { ask, status: 200, has: None, lacks })
        }
        ("POST", "/v1/keys") => {
            let expires = format!("2100-01-01T{:02}:{:02}:{:02}.000Z", number / 3_600, number / 60 % 60, number % 60);
            let make = sent(path.into()).json(&json!({"role": "viewer", "expires": expires}));
            one(make, &[201], Then::GivenKeyOpens { expires })
        }
        ("DELETE", "/v1/keys/{id}") => {
            let make = Sent::new(host, "POST", "/v1/keys").json(&json!({"role": "viewer"}));
            let made = make.answered(host).await?.expect(201).json();
            let text = |field: &str| made[field].as_str().unwrap_or_default().to_owned();
            of("/v1/runs").by(&text("key")).answered(host).await?.expect(200);
            let then = Then::KeyIsGone { id: text("id"), key: text("key") };
            one(sent(format!("/v1/keys/{}", text("id"))), &[204], then)
        }
        ("DELETE", "/v1/tenants/{name}") => {
            let key = host.tenant(&name, "admin").await?;
            let opens = of("/v1/agents").by(&key);
            opens.answered(host).await?.expect(200);
            one(sent(format!("/v1/tenants/{name}")).by(&host.operator), &[202, 404], asked(opens, 401))
        }
        ("POST", "/v1/tenants") => {
            let tenant = format!("t{number}");
            let make = sent(path.into()).by(&host.operator).json(&json!({"name": tenant}));
            one(make, &[201, 409], asked(of(&format!("/v1/ceilings/{tenant}")).by(&host.operator), 200))
        }
        ("PUT", "/v1/ceilings/{tenant}") => {
            let tenant = format!("c{number}");
            let (ceiling, concurrency) = (format!("/v1/ceilings/{tenant}"), 1_000 + number);
            host.tenant(&tenant, "viewer").await?;
            of(&ceiling).by(&host.operator).answered(host).await?.expect(200);
            let set = sent(ceiling.clone())
                .by(&host.operator)
                .json(&json!({"capabilities": ["log"], "concurrency": concurrency}));
            let ask = of(&ceiling).by(&host.operator);
            let then =
                Then::Asked { ask, status: 200, has: Some(format!("\"concurrency\":{concurrency}")), lacks: None };
            one(set, &[200], then)
        }
        ("PUT", "/v1/memory/{scope}/{key}") => {
            let key = format!("/v1/memory/global/{name}");
            looked(sent(key.clone()).json(&json!(1)), &[200], asked(of(&key), 200), Look::Memory(vec![name]))
        }
        ("PATCH", "/v1/memory/{scope}/{key}") => {
            let key = format!("/v1/memory/global/{name}");
            let more = sent(key.clone()).json(&json!({"increment": 1}));
            looked(more, &[200], asked(of(&key), 200), Look::Memory(vec![name]))
        }
        ("DELETE", "/v1/memory/{scope}/{key}") => {
            let key = format!("/v1/memory/global/{name}");
            Sent::new(host, "PUT", &key).json(&json!(1)).answered(host).await?.expect(200);
            looked(sent(key.clone()), &[204, 404], asked(of(&key), 404), Look::Memory(vec![name]))
        }
        ("POST", "/v1/graph/facts") => {
            let tell = sent(path.into()).json(&json!({"subject": name, "relation": "is", "object": "told"}));
            let ask = of(&format!("/v1/graph/facts?entity={name}"));
            one(tell, &[200], Then::Asked { ask, status: 200, has: Some("told".into()), lacks: None })
        }
        ("DELETE", "/v1/graph/facts") => {
            let fact = json!({"subject": name, "relation": "is", "object": "told"});
            Sent::new(host, "POST", "/v1/graph/facts").json(&fact).answered(host).await?.expect(200);
            let end = sent(format!("/v1/graph/facts?subject={name}&relation=is&object=told"));
            let ask = of(&format!("/v1/graph/facts?entity={name}"));
            one(end, &[204, 404], Then::Asked { ask, status: 200, has: None, lacks: Some("told".into()) })
        }
        ("PUT", "/v1/recall/{id}") => {
            let note = json!({"text": format!("a text of {name}")});
            one(sent(format!("/v1/recall/{name}")).json(&note), &[200], Then::Note { note: name, at_last: true })
        }
        ("DELETE", "/v1/recall/{id}") => {
            let note = format!("/v1/recall/{name}");
            let text = json!({"text": format!("a text of {name}")});
            Sent::new(host, "PUT", &note).json(&text).answered(host).await?.expect(200);
            one(sent(note), &[204, 404], Then::Note { note: name, at_last: false })
        }
        ("POST", "/v1/events") => {
            let publish = sent(path.into()).json(&json!({"topic": name, "type": "t", "data": "told"}));
            let ask = of(&format!("/v1/events?topic={name}"));
            one(publish, &[200], Then::Asked { ask, status: 200, has: Some("told".into()), lacks: None })
        }
        ("POST", "/v1/messages") => {
            host.push(&host.admin, &name, "message-script", &["message:receive"]).await?;
            one(sent(path.into()).json(&json!({"to": name, "type": "t"})), &[200], Then::Received { agent: name })
        }
        ("POST", "/v1/transactions") => {
            let put = |key: &str| json!({"put": {"scope": "global", "key": key, "json": 1}});
            let [first, last] = ["a", "z"].map(|end| format!("{name}-{end}"));
            let both = sent(path.into()).json(&json!({"operations": [put(&first), put(&last)]}));
            let ask = of(&format!("/v1/memory/global?prefix={name}-"));
            let has = Some(format!("\"key\":\"{last}\""));
            let then = Then::Asked { ask, status: 200, has, lacks: None };
            looked(both, &[200], then, Look::Memory(vec![first, last]))
        }
        ("POST", "/v1/dead-letters/{id}/retry") | ("DELETE", "/v1/dead-letters/{id}") => {
            host.push(&host.admin, &name, "message-script", &["message:receive"]).await?;
            let message = Sent::new(host, "POST", "/v1/messages").json(&json!({"to": name, "type": "t"}));
            message.answered(host).await?.expect(200);
            let reject = json!([{"do": "receive", "limit": 1, "then": "reject", "reason": "a test"}]);
            host.call(&host.admin, &name, &reject).await?.expect(200);
            let letters = format!("/v1/dead-letters?agent={name}");
            let found = host.get(&letters).await?.expect(200).json();
            let id = found["items"][0]["id"].as_u64().with_context(|| format!("no dead letter: {found}"))?;
            let ask = of(&letters);
            let then = Then::Asked { ask, status: 200, has: Some("\"items\":[]".into()), lacks: None };
            one(sent(path.replace("{id}", &id.to_string())).json(&json!({})), &[204, 404], then)
        }
        ("POST", "/v1/databases/repair") => {
            one(sent(path.into()).by(&host.operator).json(&json!({"check": false})), &[200], Then::Repaired)
        }
        ("POST", "/v1/runs/{id}/cancel") => {
            let run = started(host, 100).await?;
            let then = Then::RunEnds { run: run.clone(), state: "cancelled" };
            looked(sent(format!("/v1/runs/{run}/cancel")), &[204, 409], then, Look::Run(run))
        }
        ("POST", "/v1/runs/{id}/resume") => {
            let run = started(host, 3).await?;
            let cancel = Sent::new(host, "POST", format!("/v1/runs/{run}/cancel"));
            cancel.answered(host).await?.expect(204);
            let then = Then::RunEnds { run: run.clone(), state: "completed" };
            looked(sent(format!("/v1/runs/{run}/resume")), &[202, 409], then, Look::Run(run))
        }
        ("POST", "/v1/runs/{id}/restart" | "/v1/runs/{id}/fork") => {
            let run = started(host, 2).await?;
            host.ended(&host.admin, &run).await?;
            let body = if path.ends_with("restart") { json!({"from": "slow"}) } else { json!({}) };
            let again = sent(path.replace("{id}", &run)).json(&body).with("idempotency-key", name);
            one(again, &[202], Then::TheOneGivenEnds { of: run })
        }
        ("POST", "/v1/runs/{id}/pause") => {
            let run = started(host, 100).await?;
            let then = Then::RunEnds { run: run.clone(), state: "paused" };
            looked(sent(format!("/v1/runs/{run}/pause")), &[204], then, Look::Run(run))
        }
        ("POST", "/v1/runs/{id}/continue") => {
            let run = started(host, 3).await?;
            let pause = Sent::new(host, "POST", format!("/v1/runs/{run}/pause"));
            pause.answered(host).await?.expect(204);
            let then = Then::RunEnds { run: run.clone(), state: "completed" };
            looked(sent(format!("/v1/runs/{run}/continue")), &[202, 409], then, Look::Run(run))
        }
        _ => Ok(None),
    }
}

/// A run that makes so many effects, 50 ms each.
async fn started(host: &Host, effects: u32) -> Result<String> {
    let request = Sent::new(host, "POST", "/v1/agents/slow/call").with("prefer", "respond-async");
    let begun =
        request.json(&json!({"n": effects, "sleep_ms": 50, "scope": "session"})).answered(host).await?.expect(202);
    Ok(begun.json()["run"].as_str().unwrap_or_default().to_owned())
}

/// The run that an answer says was started.
fn started_run(answer: &Answer) -> Result<String> {
    let location = answer.headers.get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
    location.strip_prefix("/v1/runs/").map(str::to_owned).context("no run was started")
}

/// What the question is answered by that a run asks.
async fn token_of(host: &Host, run: &str) -> Result<String> {
    let mut token = None;
    until("it asks", async || {
        let shown = Sent::new(host, "GET", format!("/v1/runs/{run}")).answered(host).await?.json();
        token = shown["nodes"][0]["waits_for"]["answer"]["token"].as_str().map(str::to_owned);
        Ok(token.is_some())
    })
    .await?;
    token.context("it asks nothing")
}

fn document(name: &str) -> String {
    format!("name: {name}\nflow: {{agent: echo}}\n")
}

impl Then {
    /// Whether what the record says and what is done by it agree, before anything was asked again.
    async fn agrees(&self, host: &Host) -> Result<bool> {
        Ok(match self {
            Self::KeyIsGone { id, key } => {
                let found = listed(host, id).await?;
                let opens = Sent::new(host, "GET", "/v1/runs").by(key).answered(host).await?.status;
                (opens == 401) != found["revoked_at"].is_null()
            }
            Self::MayWrite { agent, .. } => {
                let granted = host.get(&format!("/v1/agents/{agent}/grants")).await?.expect(200).text();
                granted.contains("memory:write:*") == may_write(host, agent).await?
            }
            // Whoever asks under a key, or for one thing, begins one run at most.
            Self::OneRun { of } | Self::OneRunEach { of } => all(host, &format!("/v1/runs?{of}")).await?.len() <= 1,
            Self::Opened { title } => opened(host, title).await?.len() <= 1,
            Self::Started { subscription, of, .. } => {
                let row = host.get(&format!("/v1/subscriptions/{subscription}")).await?.expect(200).json();
                row["started"] == all(host, &format!("/v1/runs?{of}")).await?.len()
            }
            Self::GivenKeyOpens { expires } => {
                let (made, there) = (made(host, expires).await?, expiring(host, expires).await?);
                made == there && there.len() <= 1
            }
            Self::TheOneGivenEnds { of } => {
                let origin = host.get(&format!("/v1/runs/{of}")).await?.expect(200).json();
                origin["state"] == "completed" && forks(host, of).await?.len() <= 1
            }
            Self::Note { note, .. } => {
                let is_there = acts(host, note).await?.first().is_some_and(|last| last == "recall.remember");
                is_found(host, note).await? == is_there
            }
            Self::Received { agent } => {
                // What is neither acknowledged nor rejected goes back, a few times.
                let (look, sent) = (json!([{"do": "receive", "limit": 10}]), format!("to {agent}"));
                let before = acts(host, &sent).await?.len();
                let waiting = host.call(&host.admin, agent, &look).await?.expect(200).json();
                let waiting = waiting[0]["ok"].as_array().context("messages")?.len();
                waiting <= 1 && (before..=acts(host, &sent).await?.len()).contains(&waiting)
            }
            // What is kept of them is looked at by itself, or can be asked for only as the retry does.
            Self::Asked { .. } | Self::RunEnds { .. } | Self::Repaired => true,
        })
    }

    /// What must be so after a retry was answered.
    async fn holds(&self, host: &Host, retry: &Answer) -> Result<()> {
        match self {
            Self::OneRun { of } | Self::OneRunEach { of } => {
                let given = given_run(retry)?;
                let ended = host.ended(&host.admin, &given).await?;
                ensure!(ended["state"] == "completed", "the run ended otherwise: {ended:#}");
                let runs = all(host, &format!("/v1/runs?{of}")).await?;
                let most = if matches!(self, Self::OneRun { .. }) { 1 } else { 2 };
                ensure!((1..=most).contains(&runs.len()), "{of} was begun {} times: {runs:#?}", runs.len());
                ensure!(runs.iter().any(|run| run["id"] == *given), "{given} is not among {runs:#?}");
                for run in &runs {
                    let id = run["id"].as_str().unwrap_or_default();
                    let ended = host.ended(&host.admin, id).await?;
                    let is_well = ended["state"] == "completed" || id != given && ended["state"] == "cancelled";
                    ensure!(is_well, "a run ended otherwise: {ended:#}");
                }
            }
            Self::Started { subscription, of, times, state } => {
                let (row, runs) = (format!("/v1/subscriptions/{subscription}"), format!("/v1/runs?{of}"));
                until("every run that it started is over, and counted", async || {
                    let (row, runs) = (host.get(&row).await?.expect(200).json(), all(host, &runs).await?);
                    let started = row["started"].as_u64().context("started")?;
                    let is_so = runs.iter().all(|run| run["state"] == *state);
                    Ok(is_so && runs.len() as u64 == started && times.contains(&started))
                })
                .await?;
            }
            Self::Opened { title } => {
                let opened = opened(host, title).await?;
                ensure!((1..=2).contains(&opened.len()), "opened {} times: {opened:#?}", opened.len());
                ensure!(opened.iter().any(|session| session["id"] == retry.json()["id"]), "{opened:#?}");
                ensure!(opened.iter().all(|session| session["state"] == "idle"), "{opened:#?}");
            }
            Self::Note { note, at_last } => {
                until("the index has what was asked for last", async || Ok(is_found(host, note).await? == *at_last))
                    .await?;
            }
            Self::Received { agent } => {
                let receive = json!([{"do": "receive", "limit": 10, "then": "ack"}]);
                let mut received = 0;
                // The request that was cut off may be done after its retry.
                until("as many messages are received as were sent", async || {
                    let some = host.call(&host.admin, agent, &receive).await?.expect(200).json();
                    received += some[0]["ok"].as_array().map_or(0, Vec::len);
                    Ok((1..=2).contains(&received) && received == acts(host, &format!("to {agent}")).await?.len())
                })
                .await?;
            }
            Self::Repaired => {
                let check = Sent::new(host, "POST", "/v1/databases/repair").by(&host.operator);
                let check = check.json(&json!({"check": true}));
                until("the databases hold what the record holds", async || {
                    let found = check.answered(host).await?.expect(200).json();
                    let reports = found["reports"].as_array().context("reports")?;
                    let is_equal = |one: &Value| ["missing", "different", "extra"].iter().all(|which| one[*which] == 0);
                    Ok(!reports.is_empty() && reports.iter().all(is_equal) && found["failed"] == json!([]))
                })
                .await?;
            }
            Self::Asked { ask, status, has, lacks } => {
                let found = ask.answered(host).await?;
                let text = found.text();
                ensure!(found.status == *status, "{ask:?} gives {}: {text}", found.status);
                ensure!(has.as_ref().is_none_or(|has| text.contains(has)), "{has:?} is not in {text}");
                ensure!(lacks.as_ref().is_none_or(|lacks| !text.contains(lacks)), "{lacks:?} is in {text}");
            }
            Self::GivenKeyOpens { expires } => {
                let (made, there) = (made(host, expires).await?, expiring(host, expires).await?);
                ensure!(made == there && (1..=2).contains(&there.len()), "{made:?} were made, {there:?} are listed");
                ensure!(there.iter().any(|id| retry.json()["id"] == **id), "the key is not among {there:?}");
                let key = retry.json()["key"].as_str().unwrap_or_default().to_owned();
                let opens = Sent::new(host, "GET", "/v1/runs").by(&key).answered(host).await?;
                ensure!(opens.status == 200, "the key opens nothing: {}", opens.text());
            }
            Self::KeyIsGone { key, .. } => {
                let opens = Sent::new(host, "GET", "/v1/runs").by(key).answered(host).await?;
                ensure!(opens.status == 401, "a key that was taken back still opens: {}", opens.status);
            }
            Self::MayWrite { agent, at_last } => {
                ensure!(may_write(host, agent).await? == *at_last, "what is in force is not what was asked for last");
            }
            Self::TheOneGivenEnds { of } => {
                let run = retry.json()["run"].as_str().unwrap_or_default().to_owned();
                let ended = host.ended(&host.admin, &run).await?;
                ensure!(ended["state"] == "completed", "the run ended otherwise: {ended:#}");
                let forks = forks(host, of).await?;
                ensure!(forks == [run], "{forks:?} were forked from {of}");
            }
            Self::RunEnds { run, state } => {
                let ended = host.ended(&host.admin, run).await?;
                ensure!(ended["state"] == *state, "the run ended otherwise: {ended:#}");
            }
        }
        Ok(())
    }
}

/// The keys that the audit says were made to expire then, in order.
async fn made(host: &Host, expires: &str) -> Result<Vec<String>> {
    let acts = host.get("/v1/audit?action=key-created&limit=100").await?.expect(200).json();
    let acts = acts["items"].as_array().context("items")?.iter().filter(|act| is_then(&act["detail"], expires));
    let mut ids: Vec<String> = acts.filter_map(|act| act["subject"].as_str().map(str::to_owned)).collect();
    ids.sort();
    Ok(ids)
}

/// The keys that are listed as expiring then, in order.
async fn expiring(host: &Host, expires: &str) -> Result<Vec<String>> {
    let keys = all(host, "/v1/keys").await?;
    let keys = keys.iter().filter(|key| is_then(key, expires));
    let mut ids: Vec<String> = keys.filter_map(|key| key["id"].as_str().map(str::to_owned)).collect();
    ids.sort();
    Ok(ids)
}

fn is_then(of: &Value, expires: &str) -> bool {
    of["expires_at"] == *expires
}

/// The runs that were forked from one.
async fn forks(host: &Host, of: &str) -> Result<Vec<String>> {
    let mut forks = Vec::new();
    // The newest come first, and a run was forked from an older one.
    for run in host.get("/v1/runs?limit=100").await?.expect(200).json()["items"].as_array().context("items")? {
        let id = run["id"].as_str().context("an id")?;
        if id == of {
            return Ok(forks);
        }
        if host.get(&format!("/v1/runs/{id}")).await?.expect(200).json()["forked"]["of"] == *of {
            forks.push(id.to_owned());
        }
    }
    bail!("{of} is not among the newest runs")
}

/// Whether a note is found whose text names it.
async fn is_found(host: &Host, note: &str) -> Result<bool> {
    let search = Sent::new(host, "POST", "/v1/recall/search").json(&json!({"query": note, "limit": 10}));
    let found = search.answered(host).await?.expect(200).json();
    Ok(found["hits"].as_array().context("hits")?.iter().any(|hit| hit["id"] == *note))
}

/// Sessions of this title.
async fn opened(host: &Host, title: &str) -> Result<Vec<Value>> {
    // Those that were opened last come first.
    let page = host.get("/v1/sessions?limit=100").await?.expect(200).json();
    let sessions = page["items"].as_array().context("items")?.iter();
    Ok(sessions.filter(|session| session["title"] == title).cloned().collect())
}

/// The run that an answer is about.
fn given_run(answer: &Answer) -> Result<String> {
    let run = answer.headers.get("ltmc-run").and_then(|run| run.to_str().ok());
    Ok(run.context("the answer names no run")?.to_owned())
}

/// A key, as the list shows it.
async fn listed(host: &Host, id: &str) -> Result<Value> {
    let mut path = "/v1/keys?limit=500".to_owned();
    loop {
        let page = host.get(&path).await?.expect(200).json();
        if let Some(found) = page["items"].as_array().into_iter().flatten().find(|one| one["id"] == id) {
            return Ok(found.clone());
        }
        let next = page["next"].as_str().with_context(|| format!("the key {id} is not listed"))?;
        path = format!("/v1/keys?limit=500&cursor={next}");
    }
}

/// Whether the agent `counter` under this name may write memory.
async fn may_write(host: &Host, agent: &str) -> Result<bool> {
    let answer = host.call(&host.admin, agent, &json!({"key": "n", "scope": "agent", "times": 1})).await?;
    match answer.status.as_u16() {
        200 => Ok(true),
        422 if answer.text().contains("memory:write") => Ok(false),
        _ => bail!("{}: {}", answer.status, answer.text()),
    }
}

/// Waits until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await? {
        ensure!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Waits until it agrees, and says what does not otherwise.
async fn agreed(host: &Host, look: &Look) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Some(what) = look.disagrees(host).await? {
        ensure!(Instant::now() < deadline, "{look:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// A gauge of the metrics, as they are now.
async fn gauge(host: &Host, name: &str) -> Result<f64> {
    let metrics = Sent::new(host, "GET", "/metrics").by(&host.operator).answered(host).await?.expect(200).text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("{name} is not among the metrics"))?.trim().parse()?)
}

fn number(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "a failing seed can be given again, and more rounds asked for")]
    let value = std::env::var(name).ok();
    value?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing_half_done() -> Result<()> {
    let seed = number("LTMC_TEST_SEED").unwrap_or_else(rand::random::<u64>);
    let rounds = number("LTMC_TEST_ROUNDS").map_or(ROUNDS, |rounds| usize::try_from(rounds).unwrap_or(ROUNDS));
    println!("LTMC_TEST_SEED={seed} LTMC_TEST_ROUNDS={rounds}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut host = Host::start().await?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    host.push(&host.admin, "slow", "slow-effects", &["memory:read:*", "memory:write:*"]).await?;
    let document = host.get("/openapi.json").await?.expect(200).json();
    let (mut routes, mut rounds_made) = (0, 0);
    for (path, item) in document["paths"].as_object().context("paths")? {
        for method in item.as_object().context("a path's methods")?.keys().map(|method| method.to_uppercase()) {
            if method.parse::<Method>().is_err() || method == "GET" || READS.contains(&path.as_str()) {
                continue;
            }
            routes += 1;
            for turn in 0..rounds {
                rounds_made += 1;
                let made =
                    round(&host, &method, path, rounds_made).await.with_context(|| format!("{method} {path}"))?;
                let Round { sent, again, then, look } =
                    made.with_context(|| format!("{method} {path} changes something and has no case in this table"))?;
                let way = WAYS[turn % WAYS.len()];
                let after = LATEST.mul_f64(random.random_range(0.0..1.0));
                let place =
                    || format!("seed {seed}: {method} {path}, {way:?} after {after:?}: {sent:?}\n{}", host.log());
                sent.cut(&host, way, after).await.with_context(place)?;
                let agrees = async || match &look {
                    Some(look) => agreed(&host, look).await,
                    None => Ok(()),
                };
                until("record and cache do not agree", async || then.agrees(&host).await).await.with_context(place)?;
                agrees().await.with_context(place)?;
                let retry = sent.answered(&host).await.with_context(place)?;
                ensure!(again.contains(&retry.status.as_u16()), "{}\n{}: {}", place(), retry.status, retry.text());
                then.holds(&host, &retry).await.with_context(place)?;
                agrees().await.with_context(place)?;
            }
        }
    }
    assert!(routes >= 20, "only {routes} routes that change something stand in the document");

    for name in COUNTED {
        until(&format!("{name} stays above 0"), async || Ok(gauge(&host, name).await? == 0.0)).await?;
    }
    // The one that asks for it.
    until("requests stay active", async || Ok(gauge(&host, "ltmc_http_requests_active").await? <= 1.0)).await?;
    for state in ["queued", "running", "waiting"] {
        let found = host.get(&format!("/v1/runs?state={state}")).await?.expect(200).json();
        assert_eq!(found["items"], json!([]), "nothing is alive, and the record has runs that are {state}");
    }
    host.call(&host.admin, "echo", &json!({})).await?.expect(200);
    assert!(host.terminate().await?.success(), "{}", host.log());
    let verify = std::process::Command::new(ltmc_tests::binary()?)
        .args(["audit", "verify", "--data"])
        .arg(host.data())
        .output()?;
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    Ok(())
}
