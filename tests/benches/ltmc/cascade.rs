//! `cascade`: one event that starts ten runs, each of which publishes one event that starts ten, over three levels: 1,110 runs, from publishing the first until the last
//! is over; against the same number of calls of the same agent in a `map`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::json;

use crate::report::{Goal, Line, Series, round};
use crate::{Plan, rig};

const WIDE: usize = 10;
const LEVELS: [&str; 3] = ["one", "two", "three"];
const MAPPED: &str = "name: mapped\nflow: {map: $.input, do: {agent: echo}, at-once: 16}";
/// A cascade that takes longer has stopped.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::threads()?;
    let scratch = rig::scratch("cascade")?;
    runtime.block_on(async {
        let host = rig::host(&scratch).await?;
        host.push(&host.admin, "echo", "echo", &[]).await?;
        rig::workflow(&host, "mapped", MAPPED).await?;
        for (level, topic) in LEVELS.iter().enumerate() {
            for number in 0..WIDE {
                let name = format!("{topic}-{number}");
                let publishes = LEVELS.get(level + 1).map_or_else(String::new, |next| {
                    format!(", {{emit: {{topic: {next}, type: t}}}}")
                });
                let document = format!(
                    "name: {name}\non: [{{topic: {topic}, at-once: 100}}]\nflow: {{sequence: [{{agent: echo, with: {{say: hello}}}}{publishes}]}}"
                );
                rig::workflow(&host, &name, &document).await?;
            }
        }
        let runs = WIDE + WIDE.pow(2) + WIDE.pow(3);
        let input = json!(vec![json!({"say": "hello"}); runs]);
        let [mut reference, mut measured] = <[Series; 2]>::default();
        // Round 0 warms both up.
        for number in 0..=plan.rounds {
            let mapped = rig::timed_run(&host, "mapped", &input).await?.as_secs_f64() * 1e3;
            let cascaded = cascaded(&host, number + 1).await?.as_secs_f64() * 1e3;
            if let Some(number) = number.checked_sub(1) {
                reference.add(mapped);
                measured.add(cascaded);
                round(number, plan.rounds, &[("mapped", mapped, "ms"), ("cascaded", cascaded, "ms")]);
            }
        }
        Ok(vec![Line {
            bench: "cascade",
            case: format!("{runs} runs by one event"),
            unit: "ms",
            measured,
            reference: Some(("the same calls in a map", reference)),
            goal: Goal::AtMostTimes(1.5),
        }])
    })
}

/// How long a cascade takes, which is the `times`th.
async fn cascaded(host: &Host, times: usize) -> Result<Duration> {
    let begun = Instant::now();
    let publish = host.request(Method::POST, "/v1/events", &host.admin);
    host.send(publish.json(&json!({"topic": LEVELS[0], "type": "t"}))).await?.expect(200);
    loop {
        let rows = host.get("/v1/subscriptions?limit=500").await?.expect(200).json();
        let rows = rows["items"].as_array().context("subscriptions")?;
        let of_last = rows.iter().filter(|row| row["topic"] == LEVELS[2]);
        let started: u64 = of_last.filter_map(|row| row["started"].as_u64()).sum();
        let is_quiet = rows.iter().all(|row| row["waiting"] == 0 && row["under-way"] == 0);
        if is_quiet && started == (times * WIDE.pow(3)) as u64 {
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < PATIENCE, "the cascade stopped: {started} runs of its last level\n{}", host.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
