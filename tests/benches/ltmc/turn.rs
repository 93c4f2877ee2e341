//! `turn`: a turn of a session, durable when it is answered, against a lone call of the same agent, which is so as well; by one client, and by 64
//! clients that have a session each. Clients are tasks of this program, the same for both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::json;

use crate::client::{Connection, Request};
use crate::report::{Goal, Line, Series, round};
use crate::{Plan, rig};

const MANY: usize = 64;
/// The number of the next request.
static NEXT: AtomicU64 = AtomicU64::new(1);
const BODY: &str = r#"{"say":"hello"}"#;

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("turn")?;
    runtime.block_on(async {
        let host = rig::host(&scratch).await?;
        host.push(&host.admin, "echo", "echo", &[]).await?;
        let mut turns = Vec::with_capacity(MANY);
        for _ in 0..MANY {
            let id = opened(&host).await?;
            turns.push(Request::post(&format!("/v1/sessions/{id}/turns"), &host.admin, "prefer: wait=30\r\n", BODY));
        }
        let call = Request::post("/v1/agents/echo/call", &host.admin, "idempotency-key: 0000000000\r\n", BODY);
        let calls = vec![call.numbered()?; MANY];
        let mut lines = Vec::new();
        for (clients, case) in [(1, "1 client"), (MANY, "64 sessions, a client each")] {
            let [mut took, mut reference] = <[Series; 2]>::default();
            for number in 0..=plan.rounds {
                let turn = time(&host, &turns[..clients], plan.window).await?;
                let call = time(&host, &calls[..clients], plan.window).await?;
                if let Some(number) = number.checked_sub(1) {
                    took.add(turn);
                    reference.add(call);
                    round(number, plan.rounds, &[("a turn", turn, "us"), ("a call", call, "us")]);
                }
            }
            lines.push(Line {
                bench: "turn",
                case: case.to_owned(),
                unit: "us",
                measured: took,
                reference: Some(("a lone call", reference)),
                goal: Goal::AtMostTimes(1.3),
            });
        }
        Ok(lines)
    })
}

async fn opened(host: &Host) -> Result<String> {
    let open = host.request(Method::POST, "/v1/sessions", &host.admin).json(&json!({"agent": "echo"}));
    let session = host.send(open).await?.expect(201).json();
    Ok(session["id"].as_str().context("a session's id")?.to_owned())
}

/// How long a request takes, in microseconds of each client's time: each sends its own again and again.
async fn time(host: &Host, requests: &[Request], window: Duration) -> Result<f64> {
    let (address, clients) = (host.address(), requests.len());
    let begun = Instant::now();
    let tasks = requests.iter().cloned().map(|mut request| {
        let address = address.clone();
        tokio::spawn(async move {
            let mut connection = Connection::open(&address).await?;
            let mut answered = 0_u64;
            while begun.elapsed() < window {
                // No two calls are the same.
                request.count(NEXT.fetch_add(1, Ordering::Relaxed));
                let status = connection.send(&request).await?;
                ensure!(status == 200, "{}", connection.text());
                answered += 1;
            }
            Ok::<_, anyhow::Error>(answered)
        })
    });
    let (tasks, mut answered) = (tasks.collect::<Vec<_>>(), 0);
    for task in tasks {
        answered += task.await??;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 * clients as f64 / answered.max(1) as f64)
}
