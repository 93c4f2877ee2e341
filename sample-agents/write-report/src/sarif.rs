//! The report for programs: SARIF 2.1.0 (OASIS), as code hosts take it in.

use std::collections::BTreeMap;

use findings::{Change, Finding, Severity};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// What stands in a relative reference as it is.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(crate) fn write(change: &Change) -> Value {
    let mut rules: BTreeMap<&str, &Finding> = BTreeMap::new();
    for finding in &change.findings {
        rules.entry(&finding.rule).or_insert(finding);
    }
    let place: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(index, rule)| (*rule, index)).collect();
    let descriptors: Vec<Value> = rules.iter().map(|(rule, example)| rule_of(rule, example)).collect();
    let results: Vec<Value> =
        change.findings.iter().map(|finding| result(finding, place[finding.rule.as_str()])).collect();
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "ltmc-review",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": descriptors,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule_of(rule: &str, example: &Finding) -> Value {
    let (agent, name) = rule.split_once('/').unwrap_or(("", rule));
    let mut descriptor = json!({
        "id": rule,
        "shortDescription": {"text": name.replace('-', " ")},
        "properties": {"tags": [agent]},
    });
    if let Some(help) = &example.help {
        descriptor["help"] = json!({ "text": help });
    }
    descriptor
}

fn result(finding: &Finding, index: usize) -> Value {
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    // A reference that is relative to the repository's root has no slash to begin with.
    let uri = utf8_percent_encode(finding.path.trim_start_matches('/'), KEPT).to_string();
    let mut location = json!({ "artifactLocation": {"uri": uri, "uriBaseId": "%SRCROOT%"} });
    if let Some(line) = finding.line.filter(|line| *line > 0) {
        location["region"] = json!({ "startLine": line, "endLine": finding.end_line.unwrap_or(line).max(line) });
    }
    json!({
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": level,
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"finding/v1": fingerprint(finding)},
    })
}

/// The same for the same finding while its line moves. FNV-1a, 64 bits.
fn fingerprint(finding: &Finding) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in [&finding.rule, &finding.path, &finding.message].into_iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}
