//! The job `support-desk`: a conversation that agents hand on to each other, over the death of the host.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::process::{Host, output, run as run_process};
use crate::steps::{Steps, say};

/// The agents of the workflow, and the one that tells them what there is.
pub(super) const AGENTS: &[&str] = &["brief-desk", "triage-request", "settle-refund", "solve-problem"];
/// Steps of this job.
pub(super) const STEPS: usize = 3;

/// What is said, with what the answer says, and who gives it.
const SAID: [(&str, &str, &str); 3] = [
    ("Hello", "How can we help", "triage-request"),
    ("The app crashes when I pay", "version 2.1", "solve-problem"),
    ("It works now. But I was charged twice: my money back for order 4711, please", "19.50", "settle-refund"),
];
/// The same after the host was killed.
const SAID_LATER: [(&str, &str, &str); 2] = [
    ("Where is my refund?", "settled already", "settle-refund"),
    ("And the app crashes again", "version 2.1", "solve-problem"),
];

/// Holds the conversation, and shows it.
pub(super) fn run(steps: &mut Steps, host: &mut Host) -> anyhow::Result<()> {
    let session = steps.step("Orders and notes; a session", || {
        let brief = json!({
            "orders": {"4711": 1950, "4712": 500},
            "notes": {
                "crash": "Where the app crashes, install version 2.1 and start it again.",
                "password": "A password is set anew under Settings, Account.",
            },
        });
        let path = host.data.join("brief.json");
        std::fs::write(&path, brief.to_string())?;
        run_process(host.ltmc(&["call", "brief-desk", "--input", &path.to_string_lossy()]))?;
        let opened = output(host.ltmc(&["session", "open", "--workflow", "support-desk", "--title", "Order 4711"]))?;
        Ok(String::from_utf8(opened)?.trim().to_owned())
    })?;
    steps.step("A conversation", || SAID.iter().try_for_each(|said| exchange(host, &session, *said)))?;
    steps.step("The same after `kill -9`", || {
        host.kill_and_restart()?;
        SAID_LATER.iter().try_for_each(|said| exchange(host, &session, *said))
    })?;
    run_process(host.ltmc(&["session", "history", &session]))?;
    run_process(host.ltmc(&["session", "close", &session]))
}

/// Says something, and looks at the answer and at who holds the conversation then.
fn exchange(host: &Host, session: &str, (message, answer, holder): (&str, &str, &str)) -> anyhow::Result<()> {
    say(format!("  > {message}"));
    let said = String::from_utf8(output(host.ltmc(&["session", "say", session, message]))?)?;
    say(format!("  < {}", said.trim()));
    ensure!(said.contains(answer), "the answer does not say `{answer}`");
    let shown: Value = serde_json::from_slice(&output(host.ltmc(&["session", "show", session, "--json"]))?)?;
    let is = shown["holder"].as_str();
    ensure!(is.unwrap_or(AGENTS[1]) == holder, "{is:?} holds the conversation, not {holder}");
    shown["turns"].as_u64().context("a session has turns").map(drop)
}
