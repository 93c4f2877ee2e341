//! `transition`: what a transition of its own state costs a guest, against a put of a key of memory: both decided, journaled, and true with
//! the call's end.

use anyhow::{Result, ensure};
use ltmc_tests::guest_bytes;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::json;

use crate::client::{Connection, Request};
use crate::ops::call;
use crate::report::{Goal, Line, Series, round};
use crate::{Plan, rig};

/// Operations in one call of the guest.
const OPERATIONS: u32 = 1_000;

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("transition")?;
    runtime.block_on(async {
        let host = rig::host(&scratch).await?;
        let state = json!({
            "version": 1, "initial": "here", "states": {"here": {}, "there": {}},
            "transitions": [{"from": "here", "to": "there", "on": "go"}, {"from": "there", "to": "here", "on": "go"}],
            "invariants": [{"pick": "$.state.n", "less": OPERATIONS}],
            "data": {"n": 0},
        });
        let manifest = json!({"manifest": 1, "state": state}).to_string();
        let form = Form::new().part("component", Part::bytes(guest_bytes("memory-loop")?));
        let form = form.part("manifest", Part::text(manifest));
        let pushed = host.send(host.request(Method::PUT, "/v1/agents/loop", &host.admin).multipart(form)).await?;
        ensure!(pushed.status.is_success(), "{}", pushed.text());
        let grants = ["state", "memory:read:global", "memory:write:global"];
        host.put_json("/v1/agents/loop/grants", &json!(grants)).await?;
        let asking = |body: String| Request::post("/v1/agents/loop/call", &host.admin, "", &body);
        let nothing = asking("{}".into());
        let moves = asking(format!(r#"{{"moves":{OPERATIONS}}}"#));
        let puts = asking(format!(r#"{{"puts":{OPERATIONS}}}"#));
        let mut connection = Connection::open(&host.address()).await?;
        let [mut moved, mut put] = <[Series; 2]>::default();
        // Round 0 warms both up.
        for number in 0..=plan.rounds {
            let empty = call(plan, &mut connection, &nothing).await?;
            let each = |took: f64| (took - empty) / f64::from(OPERATIONS);
            let took = each(call(plan, &mut connection, &moves).await?);
            let reference = each(call(plan, &mut connection, &puts).await?);
            if let Some(number) = number.checked_sub(1) {
                moved.add(took);
                put.add(reference);
                round(number, plan.rounds, &[("transition", took, "us"), ("put", reference, "us")]);
            }
        }
        Ok(vec![Line {
            bench: "transition",
            case: "state.transition".to_owned(),
            unit: "us",
            measured: moved,
            reference: Some(("memory.put", put)),
            goal: Goal::AtMostTimes(1.3),
        }])
    })
}
