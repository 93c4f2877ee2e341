//! `rest`: calls over REST, authorized and journaled durably, against components that do the same without any of that:
//! behind `wasmtime serve`, and behind a bare axum handler.

use anyhow::Result;

use crate::Plan;
use crate::client::Request;
use crate::load::{Done, Load};
use crate::reference::Served;
use crate::report::{Goal, Line, Series, round};
use crate::rig;

/// Connections, each with one request at a time.
pub(crate) const CLIENTS: usize = 32;

const BODY: &str = r#"{"say":"hello","to":["one","two","three"],"times":12}"#;

/// A call of `echo`.
pub(crate) fn request(key: &str) -> Request {
    Request::post("/v1/agents/echo/call", key, "", BODY)
}

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("rest")?;
    let (bare, wasmtime) = (Served::bare()?, Served::wasmtime(scratch.path())?);
    runtime.block_on(async {
        let host = rig::host(&scratch).await?;
        rig::register(&host, 1).await?;
        let plain = Request::post("/call", "none", "", BODY);
        let mut sides = [
            Side::new("host", host.address(), host.pid(), request(&host.admin)),
            Side::new("wasmtime serve", wasmtime.address.clone(), wasmtime.pid(), plain.clone()),
            Side::new("bare axum", bare.address.clone(), bare.pid(), plain),
        ];
        // Round 0 warms all up.
        for number in 0..=plan.rounds {
            let mut figures = Vec::new();
            for side in &mut sides {
                let (done, cost) = side.measure(plan).await?;
                figures.extend([(side.name, done.rate(), "/s"), ("of CPU", cost, "us"), ("load", done.cost(), "us")]);
                if number > 0 {
                    side.rates.add(done.rate());
                }
            }
            if let Some(number) = number.checked_sub(1) {
                round(number, plan.rounds, &figures);
            }
        }
        let [measured, references @ ..] = sides;
        let line = |(reference, least): (Side, f64)| Line {
            bench: "rest",
            case: format!("{CLIENTS} connections"),
            unit: "/s",
            measured: measured.rates.clone(),
            reference: Some((reference.name, reference.rates)),
            goal: Goal::AtLeastTimes(least),
        };
        Ok(references.into_iter().zip([1.0, 0.55]).map(line).collect())
    })
}

/// One of those compared.
struct Side {
    name: &'static str,
    address: String,
    pid: u32,
    request: Request,
    rates: Series,
}

impl Side {
    fn new(name: &'static str, address: String, pid: u32, request: Request) -> Self {
        Self { name, address, pid, request, rates: Series::default() }
    }

    /// What came of the load, and the microseconds of processor time that an answer took: these say the same on a machine
    /// that is busy.
    async fn measure(&self, plan: &Plan) -> Result<(Done, f64)> {
        let before = rig::processor(self.pid)?;
        let done = Load::lasting(CLIENTS, plan.window).put_on(&self.address, &self.request).await?;
        let took = rig::processor(self.pid)? - before;
        Ok((done, took / done.answered as f64 * 1e6))
    }
}
