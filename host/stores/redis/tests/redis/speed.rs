//! How fast rows are applied, against a bare pipeline in the same run.

use std::time::Instant;

use ltmc_model::Position;
use ltmc_model::delta::{Delta, Logged};
use ltmc_ports::Projection as _;
use ltmc_ports::testing::sample::tenant;

use crate::rig::{Server, mailbox, sent, topic};

const ROWS: u64 = 100_000;
const BATCH: usize = 1_000;

fn rows(delta: impl Fn(u64) -> Delta) -> Vec<Logged> {
    (1..=ROWS).map(|id| Logged { position: Position(id), tenant: tenant("acme"), delta: delta(id) }).collect()
}

/// CPU time of the server and of this process, in microseconds a row.
fn cpu(server: &Server) -> (f64, f64) {
    let info = server.say("INFO cpu");
    let said = |key: &str| -> f64 {
        let line = info.lines().find_map(|line| line.trim_end().strip_prefix(key)?.strip_prefix(':'));
        line.unwrap().parse().unwrap()
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: f64 =
        stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2).map(|t| t.parse::<f64>().unwrap()).sum();
    let per_row = 1e6 / ROWS as f64;
    ((said("used_cpu_user") + said("used_cpu_sys")) * per_row, ticks / 100.0 * per_row)
}

fn between(before: (f64, f64), after: (f64, f64)) -> String {
    format!("CPU a row: server {:.1} us, client {:.1} us", after.0 - before.0, after.1 - before.1)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run it alone, in a release build"]
#[expect(clippy::print_stdout, reason = "it is a measurement")]
async fn rows_a_second() {
    let per_second = |begun: Instant| ROWS as f64 / begun.elapsed().as_secs_f64();
    let text = "x".repeat(100);
    for round in 0..3 {
        let server = Server::start();
        let client = redis::Client::open(server.server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let plain = rows(|id| sent(topic("news"), id, &text));
        let before = cpu(&server);
        let begun = Instant::now();
        for batch in plain.chunks(BATCH) {
            let mut pipe = redis::pipe();
            for row in batch {
                let Delta::Sent(message) = &row.delta else { unreachable!() };
                let event = rmp_serde::to_vec_named(&message.event).unwrap();
                pipe.cmd("XADD").arg("bare").arg(format!("{}-0", row.position)).arg("id").arg(message.id.0);
                pipe.arg("event").arg(event).ignore();
            }
            pipe.query_async::<()>(&mut connection).await.unwrap();
        }
        let bare = per_second(begun);
        println!("round {round}: bare pipeline of {BATCH} XADD: {bare:.0} rows/s; {}", between(before, cpu(&server)));
        for (name, rows) in [
            ("to a topic", plain),
            ("to 10 mailboxes", rows(|id| sent(mailbox(&format!("agent-{}", id % 10)), id, &text))),
        ] {
            let server = Server::start();
            let redis = server.open();
            redis.set_applied(&tenant("acme"), Position(0)).await.unwrap();
            let before = cpu(&server);
            let begun = Instant::now();
            for batch in rows.chunks(BATCH) {
                redis.apply(&tenant("acme"), batch, batch.last().unwrap().position).await.unwrap();
            }
            let ours = per_second(begun);
            let cpu = between(before, cpu(&server));
            println!("round {round}: apply of {BATCH} {name}: {ours:.0} rows/s, {:.2} of bare; {cpu}", ours / bare);
        }
    }
}
