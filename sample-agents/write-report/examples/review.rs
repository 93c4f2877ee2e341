//! The whole review without a host: `git diff HEAD~1 | cargo run -p write-report --example review` prints its Markdown,
//! and with `-- --sarif` its SARIF log.

use std::io::{Read as _, Write as _};

use ltmc::testing::Host;
use ltmc::{Failure, Payload, serde_json};
use serde_json::Value;

/// An agent, called through bytes as the host calls it.
type Call = fn(&Host, Payload) -> Result<Payload, Failure>;

/// The agents of review.yaml.
pub const AGENTS: [Call; 5] = [
    Host::call_bytes::<read_diff::ReadDiff>,
    Host::call_bytes::<scan_secrets::ScanSecrets>,
    Host::call_bytes::<measure_complexity::MeasureComplexity>,
    Host::call_bytes::<audit_dependencies::AuditDependencies>,
    Host::call_bytes::<write_report::WriteReport>,
];

#[allow(dead_code, reason = "a test includes this file for its agents")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut diff = Vec::new();
    std::io::stdin().read_to_end(&mut diff)?;
    let host = Host::new();
    let report = AGENTS.iter().try_fold(Payload::new("text/x-diff", diff), |payload, agent| agent(&host, payload))?;
    let report: Value = serde_json::from_slice(&report.bytes)?;
    let text = match std::env::args().nth(1).as_deref() {
        Some("--sarif") => serde_json::to_string_pretty(&report["sarif"])?,
        _ => report["markdown"].as_str().unwrap_or_default().to_owned(),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
