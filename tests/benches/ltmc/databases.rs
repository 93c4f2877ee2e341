//! `databases`: what `rest` and `flow` give with Neo4j and Redis behind the host, which follow everything that happens;
//! against the same host on its embedded defaults, on the same machine. And the host's memory with 100,000 vectors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ltmc_test_servers::Databases;
use ltmc_tests::Host;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{Connection, Request};
use crate::load::Load;
use crate::report::{Goal, Line, Series, round, say};
use crate::{Plan, flow, rest, rig};

/// How long the databases may take to be told everything.
const PATIENCE: Duration = Duration::from_secs(600);
/// Rounds before the first that counts: Neo4j compiles what it does often, and takes both processors for that.
const WARM: usize = 3;
/// Bytes of one vector.
const VECTOR: usize = 384 * 4;
/// Words of a note.
const WORDS: usize = 12;

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("databases")?;
    let servers = Databases::start(scratch.path())?;
    runtime.block_on(async {
        let embedded = Loaded::start(rig::host_with(&scratch.path().join("embedded"), "").await?).await?;
        let host = rig::host_with(&scratch.path().join("followed"), &servers.config()).await?;
        let followed = Loaded::start(host).await?;
        let loads = [("rest, 32 connections", rest::CLIENTS), ("flow, 1 client", 1), ("flow, 128 clients", flow::MANY)];
        let mut measured: [Both; 3] = Default::default();
        for number in 0..WARM + plan.rounds {
            for (which, (name, clients)) in loads.iter().enumerate() {
                let load = Load::lasting(*clients, plan.window);
                let without = load.rate(&embedded.host.address(), embedded.request(which)).await?;
                let with = load.rate(&followed.host.address(), followed.request(which)).await?;
                let begun = Instant::now();
                followed.host.settled(PATIENCE).await?;
                let waited = begun.elapsed().as_secs_f64();
                if let Some(number) = number.checked_sub(WARM) {
                    measured[which].with.add(with);
                    measured[which].without.add(without);
                    say(format!("  {name}: told everything {waited:.1} s after the load"));
                    round(number, plan.rounds, &[("with databases", with, "/s"), ("embedded", without, "/s")]);
                }
            }
        }
        drop(embedded);
        let mut lines: Vec<Line> = loads
            .into_iter()
            .zip(measured)
            .map(|((case, _), Both { with, without })| Line {
                bench: "databases",
                case: case.to_owned(),
                unit: "/s",
                measured: with,
                reference: Some(("embedded", without)),
                goal: Goal::AtLeastTimes(0.9),
            })
            .collect();
        lines.push(memory(plan, &followed.host).await?);
        Ok(lines)
    })
}

#[derive(Default)]
struct Both {
    with: Series,
    without: Series,
}

/// A host with the agents and workflows of `rest` and `flow`.
struct Loaded {
    host: Host,
    call: Request,
    flow: Request,
}

impl Loaded {
    async fn start(host: Host) -> Result<Self> {
        rig::register(&host, 1).await?;
        let (call, flow) = (rest::request(&host.admin), flow::prepare(&host).await?);
        Ok(Self { host, call, flow })
    }

    fn request(&self, which: usize) -> &Request {
        if which == 0 { &self.call } else { &self.flow }
    }
}

/// The host's resident memory with so many notes, the vectors' own bytes taken off.
async fn memory(plan: &Plan, host: &Host) -> Result<Line> {
    say(format!("  {} notes are kept and embedded", plan.vectors));
    let mut random = StdRng::seed_from_u64(5);
    let mut word = |syllables: usize| -> String {
        (0..syllables)
            .map(|_| ["ka", "to", "mi", "re", "su", "no", "li", "pa", "vo", "den"][random.random_range(0..10)])
            .collect()
    };
    let vocabulary: Vec<String> = (0..3_000).map(|n| word(2 + n % 3)).collect();
    let mut random = StdRng::seed_from_u64(6);
    let mut bodies = Vec::with_capacity(plan.vectors);
    for number in 0..plan.vectors {
        let text: Vec<&str> =
            (0..WORDS).map(|_| vocabulary[random.random_range(0..vocabulary.len())].as_str()).collect();
        bodies.push((format!("/v1/recall/note-{number}"), json!({"text": text.join(" ")}).to_string()));
    }
    let bodies = Arc::new(bodies);
    let mut clients = JoinSet::new();
    for client in 0..rest::CLIENTS {
        let (bodies, address, key) = (bodies.clone(), host.address(), host.admin.clone());
        clients.spawn(async move {
            let mut connection = Connection::open(&address).await?;
            for (path, body) in bodies.iter().skip(client).step_by(rest::CLIENTS) {
                let status = connection.send(&Request::put(path, &key, body)).await?;
                ensure!(status == 200, "status {status}: {}", connection.text());
            }
            Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    host.settled(PATIENCE).await?;
    // The graph is built in the background, on one thread: it is there when the processor is left alone. What is freed then
    // is given back within 10 s.
    let quiet = async {
        let (mut before, mut quiet) = (rig::processor(host.pid())?, 0);
        while quiet < 5 {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let now = rig::processor(host.pid())?;
            quiet = if now - before < 0.1 { quiet + 1 } else { 0 };
            before = now;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, quiet).await.context("the host does not come to rest")??;
    let answer = host.post_json("/v1/recall/search", &json!({"query": vocabulary[0], "limit": 5})).await?;
    ensure!(
        answer.status.is_success() && answer.json()["hits"].as_array().is_some_and(|hits| !hits.is_empty()),
        "{}",
        answer.text()
    );
    let own = (plan.vectors * VECTOR) as f64;
    let mut measured = Series::default();
    measured.add((host.resident() as f64 - own) / 1e6);
    Ok(Line {
        bench: "databases",
        case: format!("memory with {} vectors, their own bytes taken off", plan.vectors),
        unit: "MB",
        measured,
        reference: None,
        goal: Goal::Under(150.0),
    })
}
