//! `rest`: calls over REST, authorized and journaled durably, against the same component behind a bare axum handler.

use anyhow::Result;

use crate::Plan;
use crate::client::{Load, Request};
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
    let served = Served::start()?;
    runtime.block_on(async {
        let host = rig::host(&scratch).await?;
        rig::register(&host, 1).await?;
        let (call, bare) = (request(&host.admin), Request::post("/call", "none", "", BODY));
        let load = Load::lasting(CLIENTS, plan.window);
        let (mut measured, mut reference) = (Series::default(), Series::default());
        // Round 0 warms both up.
        for number in 0..=plan.rounds {
            let with = load.rate(&host.address(), &call).await?;
            let without = load.rate(&served.address, &bare).await?;
            if let Some(number) = number.checked_sub(1) {
                measured.add(with);
                reference.add(without);
                round(number, plan.rounds, &[("host", with, "/s"), ("bare axum", without, "/s")]);
            }
        }
        Ok(vec![Line {
            bench: "rest",
            case: format!("{CLIENTS} connections"),
            unit: "/s",
            measured,
            reference: Some(("bare axum", reference)),
            goal: Goal::AtLeastTimes(0.8),
        }])
    })
}
