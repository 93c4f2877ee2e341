//! Joins what was found file by file to what was found in a change: the worst of it, and how many files could not be looked at.

use findings::{Change, Scan};
use ltmc::{Aggregator, Branch, BranchOutcome, Failure, Json, Task};

/// So many reasons are told why something was not looked at.
const GAPS: usize = 5;

/// Takes the [`Scan`] of each file, gives that of all.
#[ltmc::aggregator]
#[derive(Default)]
pub struct JoinScans;

impl Aggregator for JoinScans {
    type Input = Json<Scan>;
    type Output = Json<Scan>;

    fn aggregate(&self, branches: Vec<Branch<Json<Scan>>>, _task: &Task) -> Result<Json<Scan>, Failure> {
        let (mut change, mut found, mut gaps) = (Change::default(), Vec::new(), Vec::new());
        let (all, mut left_out) = (branches.len(), 0);
        for Branch { name: _, outcome } in branches {
            let BranchOutcome::Output(Json(Scan { findings, omitted, gap })) = outcome else {
                left_out += 1;
                continue;
            };
            found.extend(findings);
            change.omitted += omitted;
            gaps.extend(gap);
        }
        change.add(found);
        gaps.truncate(GAPS);
        if left_out > 0 {
            gaps.push(format!("{left_out} of {all} files"));
        }
        let gap = (!gaps.is_empty()).then(|| gaps.join("; "));
        Ok(Json(Scan { gap, ..change.into() }))
    }
}

#[cfg(test)]
mod tests {
    use findings::{Finding, Severity};
    use ltmc::testing::Host;

    use super::*;

    fn scan(rules: &[(&str, Severity)], gap: Option<&str>) -> Json<Scan> {
        let finding = |(rule, severity): &(&str, Severity)| Finding {
            rule: (*rule).to_owned(),
            severity: *severity,
            message: String::new(),
            help: None,
            path: "a.rs".into(),
            line: None,
            end_line: None,
        };
        Json(Scan { findings: rules.iter().map(finding).collect(), omitted: 1, gap: gap.map(str::to_owned) })
    }

    #[test]
    fn what_was_found_is_joined_and_what_was_not_looked_at_is_counted() {
        let branches = vec![
            Branch::output("0", scan(&[("b", Severity::Note)], None)),
            Branch::failed("1", Failure::new("agent-error", "unreadable")),
            Branch::output("2", scan(&[("a", Severity::Error)], Some("no rules"))),
            Branch::skipped("3"),
        ];
        let Json(joined) = Host::new().aggregate::<JoinScans>(branches).unwrap();
        let rules: Vec<&str> = joined.findings.iter().map(|finding| finding.rule.as_str()).collect();
        assert_eq!((rules, joined.omitted), (vec!["a", "b"], 2), "the worst first");
        assert_eq!(joined.gap.as_deref(), Some("no rules; 2 of 4 files"));
        let Json(nothing) = Host::new().aggregate::<JoinScans>(Vec::new()).unwrap();
        assert_eq!(nothing, Scan::default());
    }
}
