//! `message`: from an agent that sends to the other that has processed it, two agents in turns, through the crossing;
//! against an event added to a stream of Redis and read by a group, in a bare loop.

use std::time::Instant;

use anyhow::{Result, ensure};
use ltmc_test_servers::Redis;
use ltmc_tests::Host;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamReadOptions, StreamReadReply};
use serde_json::{Value, json};

use crate::Plan;
use crate::client::{Connection, Request};
use crate::report::{Goal, Line, Series, round};
use crate::rig;

/// How often a message goes there and back in one exchange.
const TURNS: usize = 20;

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("message")?;
    let server = Redis::start(&scratch.path().join("redis"))?;
    runtime.block_on(async {
        let config = format!("[redis]\nurl = \"{}\"\n", server.url());
        let mut embedded = Pair::start(rig::host_with(&scratch.path().join("embedded"), "").await?).await?;
        let mut on_redis = Pair::start(rig::host_with(&scratch.path().join("on-redis"), &config).await?).await?;
        let mut bare = Bare::open(&server).await?;
        let [mut alone, mut with, mut reference] = <[Series; 3]>::default();
        // Round 0 warms everything up.
        for number in 0..=plan.rounds {
            let (one, two, three) =
                (embedded.median(plan).await?, on_redis.median(plan).await?, bare.median(plan).await?);
            if let Some(number) = number.checked_sub(1) {
                alone.add(one);
                with.add(two);
                reference.add(three);
                let figures = [("embedded", one, "ms"), ("on Redis", two, "ms"), ("bare Redis", three, "ms")];
                round(number, plan.rounds, &figures);
            }
        }
        let line = |case: &str, measured, reference, goal| Line {
            bench: "message",
            case: case.to_owned(),
            unit: "ms",
            measured,
            reference,
            goal,
        };
        let bare = Some(("XADD and XREADGROUP", reference));
        Ok(vec![
            line("sent to processed, embedded", alone, None, Goal::Under(2.0)),
            line("sent to processed, on Redis", with, bare, Goal::AtMostTimes(3.0)),
        ])
    })
}

/// Two agents of one host.
struct Pair {
    _host: Host,
    connections: [Connection; 2],
    requests: [Request; 2],
}

impl Pair {
    async fn start(host: Host) -> Result<Self> {
        for agent in ["alice", "bob"] {
            host.push(&host.admin, agent, "message-script", &["message:send:*", "message:receive"]).await?;
        }
        let send = |to: &str| json!({"do": "send", "to": to, "kind": "turn", "data": "a short text"});
        let receive = json!({"do": "receive", "limit": 1, "wait_ms": 10_000, "then": "ack"});
        let request = |agent: &str, turn: [Value; 2]| {
            let steps: Vec<Value> = std::iter::repeat_n(turn, TURNS).flatten().collect();
            Request::post(&format!("/v1/agents/{agent}/call"), &host.admin, "", &json!(steps).to_string())
        };
        let requests = [request("alice", [send("bob"), receive.clone()]), request("bob", [receive, send("alice")])];
        let connections = [Connection::open(&host.address()).await?, Connection::open(&host.address()).await?];
        Ok(Self { _host: host, connections, requests })
    }

    /// Milliseconds a message: of all exchanges in the window the median.
    async fn median(&mut self, plan: &Plan) -> Result<f64> {
        let (begun, mut each) = (Instant::now(), Series::default());
        while begun.elapsed() < plan.window {
            let sent = Instant::now();
            let ([alice, bob], [first, second]) = (&mut self.connections, &self.requests);
            let (one, two) = tokio::try_join!(alice.send(first), bob.send(second))?;
            let took = sent.elapsed();
            for (status, connection) in [(one, alice), (two, bob)] {
                ensure!(status == 200 && !connection.text().contains("\"error\""), "{status}: {}", connection.text());
            }
            each.add(took.as_secs_f64() * 1e3 / (2 * TURNS) as f64);
        }
        Ok(each.median())
    }
}

/// A stream and a group of one, over one connection.
struct Bare(MultiplexedConnection);

impl Bare {
    async fn open(server: &Redis) -> Result<Self> {
        let mut connection = redis::Client::open(server.url())?.get_multiplexed_async_connection().await?;
        let _: () = connection.xgroup_create_mkstream("bare", "readers", "0").await?;
        Ok(Self(connection))
    }

    async fn median(&mut self, plan: &Plan) -> Result<f64> {
        let (begun, mut each) = (Instant::now(), Series::default());
        let options = StreamReadOptions::default().group("readers", "one").count(1).noack();
        while begun.elapsed() < plan.window {
            let sent = Instant::now();
            for _ in 0..2 * TURNS {
                let _: String = self.0.xadd("bare", "*", &[("kind", "turn"), ("data", "a short text")]).await?;
                let read: StreamReadReply = self.0.xread_options(&["bare"], &[">"], &options).await?;
                ensure!(read.keys.len() == 1, "nothing was read");
            }
            each.add(sent.elapsed().as_secs_f64() * 1e3 / (2 * TURNS) as f64);
        }
        let _: u64 = redis::cmd("XTRIM").arg("bare").arg("MAXLEN").arg(0).query_async(&mut self.0).await?;
        Ok(each.median())
    }
}
