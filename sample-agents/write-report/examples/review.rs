//! The whole review without a host: `git diff HEAD~1 | cargo run -p write-report --example review` prints its Markdown,
//! and with `-- --sarif` its SARIF log.

use std::io::{Read as _, Write as _};

use ltmc::testing::Host;
use ltmc::{Failure, Payload, serde_json};
use serde_json::{Value, json};

/// An agent, called through bytes as the host calls it.
type Call = fn(&Host, Payload) -> Result<Payload, Failure>;

/// The agents of review.yaml that stand side by side there, by what they look for.
const SCANS: [(&str, Call); 3] = [
    ("secrets", Host::call_bytes::<scan_secrets::ScanSecrets>),
    ("complexity", Host::call_bytes::<measure_complexity::MeasureComplexity>),
    ("dependencies", Host::call_bytes::<audit_dependencies::AuditDependencies>),
];

/// What review.yaml does, and every payload on the way.
pub fn review(host: &Host, diff: Payload) -> Result<Vec<Payload>, Failure> {
    let read = Host::call_bytes::<read_diff::ReadDiff>(host, diff)?;
    let mut payloads = vec![read.clone()];
    let mut review = json!({"files": value(&read)["files"], "scans": {}});
    for (kind, scan) in SCANS {
        let scan = scan(host, read.clone())?;
        review["scans"][kind] = value(&scan);
        payloads.push(scan);
    }
    payloads.push(Host::call_bytes::<write_report::WriteReport>(
        host,
        Payload::new("application/json", review.to_string()),
    )?);
    Ok(payloads)
}

fn value(payload: &Payload) -> Value {
    serde_json::from_slice(&payload.bytes).unwrap_or_default()
}

#[allow(dead_code, reason = "a test includes this file for what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut diff = Vec::new();
    std::io::stdin().read_to_end(&mut diff)?;
    let payloads = review(&Host::new(), Payload::new("text/x-diff", diff))?;
    let report: Value = payloads.last().map(value).unwrap_or_default();
    let text = match std::env::args().nth(1).as_deref() {
        Some("--sarif") => serde_json::to_string_pretty(&report["sarif"])?,
        _ => report["markdown"].as_str().unwrap_or_default().to_owned(),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
