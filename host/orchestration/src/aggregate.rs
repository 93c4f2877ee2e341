//! What branches gave, as one value.
//!
//! Invariant: nothing is written beyond [`MAX_BUILT`]: what would be more is a failure of the node.

use std::io::Write as _;

use ltmc_journal::RunLog;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::workflow::{Does, Node, Vote};
use ltmc_model::{Payload, StepPath};
use ltmc_rules::{Merge, apply_all};
use ltmc_tenancy::Compute;
use ltmc_tenancy::compute::LARGE;
use serde_json::{Value, json};

use crate::input::{self, MAX_BUILT, computed};
use crate::picked::{Bounded, Json};
use crate::plan::Plan;
use crate::vote;

/// Puts a list together.
pub(crate) async fn list(compute: &Compute, log: &RunLog, gave: Vec<Option<StepPath>>) -> Result<Payload, Failure> {
    let parts = gave.into_iter().map(|path| (None, path.map(|path| output(log, path)))).collect();
    written(compute, log, ["[", "]"], parts).await
}

/// Puts an object together, without who gave nothing.
pub(crate) async fn object(
    compute: &Compute,
    log: &RunLog,
    gave: Vec<(String, Option<StepPath>)>,
) -> Result<Payload, Failure> {
    let parts = gave.into_iter().filter_map(|(name, path)| Some((Some(name), Some(output(log, path?)))));
    written(compute, log, ["{", "}"], parts.collect()).await
}

/// Puts one object together: each over those before it.
pub(crate) async fn merged(
    compute: &Compute,
    plan: &Plan,
    log: &RunLog,
    at: &StepPath,
    gave: Vec<Option<StepPath>>,
) -> Result<Payload, Failure> {
    let (node, _) = plan.node(at)?;
    let parts =
        gave.into_iter().enumerate().filter_map(|(number, path)| Some((called(node, number), output(log, path?))));
    let parts: Vec<(String, Gave)> = parts.collect();
    computed(compute, log, move || merge(&parts)).await?
}

fn merge(parts: &[(String, Gave)]) -> Result<Payload, Failure> {
    let bad_step = |why: String| Failure::new(Code::BadStep, why);
    let mut texts = Vec::new();
    for (name, (path, output)) in parts {
        let text = json(path, output.as_ref())?;
        if !text.text().starts_with('{') {
            let message = format!("`collect: merge` takes an object of each branch, and what `{name}` gave is none");
            return Err(bad_step(message).in_step(path));
        }
        texts.push(text);
    }
    let mut texts = texts.iter().map(Json::text);
    let Some(first) = texts.next() else { return Ok(Payload::json(&json!({}))) };
    let merged = apply_all(texts.map(Merge::MergePatch), Some(first.as_bytes())).map_err(bad_step)?;
    if merged.len() > MAX_BUILT {
        return Err(too_large());
    }
    Ok(Payload { content_type: Payload::JSON.into(), bytes: merged.into() })
}

/// What each branch came to, as a list of `{branch, output}`, `{branch, failure}` and `{branch, skipped}`: what somebody is given who makes
/// one of them.
pub(crate) async fn branches(
    compute: &Compute,
    plan: &Plan,
    log: &RunLog,
    at: &StepPath,
    gave: &[Option<StepPath>],
) -> Result<Payload, Failure> {
    let (node, _) = plan.node(at)?;
    let lost = log.read(|history| history.node(at).and_then(|node| Some(node.joined.as_ref()?.lost.clone())));
    let lost = lost.unwrap_or_default();
    let came = gave.iter().enumerate().map(|(number, path)| {
        let failure = || lost.iter().find(|lost| lost.branch as usize == number).map(|lost| lost.failure.clone());
        let came = match path {
            Some(path) => Came::Gave(output(log, path.clone())),
            None => failure().map_or(Came::Nothing, Came::Failed),
        };
        (called(node, number), came)
    });
    let came: Vec<(String, Came)> = came.collect();
    computed(compute, log, move || list_of(&came)).await?
}

/// What a branch came to.
enum Came {
    Gave(Gave),
    Failed(Failure),
    Nothing,
}

fn list_of(came: &[(String, Came)]) -> Result<Payload, Failure> {
    let mut out = Bounded::new(MAX_BUILT);
    let mut write = |text: &str| out.write_all(text.as_bytes()).map_err(|_| too_large());
    write("[")?;
    for (number, (name, came)) in came.iter().enumerate() {
        write(if number > 0 { "," } else { "" })?;
        write(&format!("{{\"branch\":{}", json!(name)))?;
        match came {
            Came::Gave((path, output)) => {
                let kind = output.as_ref().map(|output| &output.content_type).filter(|kind| *kind != Payload::JSON);
                if let Some(kind) = kind {
                    write(&format!(",\"content-type\":{}", json!(kind)))?;
                }
                write(",\"output\":")?;
                write(json(path, output.as_ref())?.text())?;
            }
            Came::Failed(Failure { code, message, agent_code, .. }) => {
                let failure = json!({"code": code.as_str(), "message": message, "agent-code": agent_code});
                write(&format!(",\"failure\":{failure}"))?;
            }
            Came::Nothing => write(",\"skipped\":true")?,
        }
        write("}")?;
    }
    write("]")?;
    Ok(Payload { content_type: Payload::JSON.into(), bytes: out.into_bytes().into() })
}

/// What a vote comes to.
pub(crate) fn voted(log: &RunLog, at: &StepPath, by: Option<&StepPath>) -> Result<Payload, Failure> {
    let missing = || Failure::new(Code::Internal, format!("the journal has no votes of {at}"));
    let voted = log.read(|history| history.node(at).and_then(|node| node.voted.clone())).ok_or_else(missing)?;
    let said = match by {
        Some(by) => {
            let output = input::output(log, by)?;
            let bytes = output.bytes.len();
            if bytes > Vote::MAX_VALUE {
                let message = format!("what wins a vote has at most {} bytes, and this has {bytes}", Vote::MAX_VALUE);
                return Err(Failure::new(Code::BadStep, message).in_step(by));
            }
            Some(output.to_value().unwrap_or_else(Value::String))
        }
        None => None,
    };
    Ok(vote::outcome(&voted, said))
}

fn called(node: &Node, number: usize) -> String {
    match &node.does {
        Does::Parallel(parallel) => parallel.called(number),
        _ => number.to_string(),
    }
}

/// What a branch gave, with its place.
type Gave = (StepPath, Option<Payload>);

fn output(log: &RunLog, path: StepPath) -> Gave {
    let output = log.read(|history| history.output(&path).cloned());
    (path, output)
}

async fn written(
    compute: &Compute,
    log: &RunLog,
    around: [&'static str; 2],
    parts: Vec<(Option<String>, Option<Gave>)>,
) -> Result<Payload, Failure> {
    let sizes = parts.iter().map(|(_, gave)| gave.as_ref().and_then(|(_, output)| output.as_ref()));
    if sizes.flatten().map(|output| output.bytes.len()).sum::<usize>() <= LARGE {
        return write(around, &parts);
    }
    computed(compute, log, move || write(around, &parts)).await?
}

fn write([open, close]: [&str; 2], parts: &[(Option<String>, Option<Gave>)]) -> Result<Payload, Failure> {
    let too_large = |_| too_large();
    let mut out = Bounded::new(MAX_BUILT);
    out.write_all(open.as_bytes()).map_err(too_large)?;
    for (number, (name, gave)) in parts.iter().enumerate() {
        if number > 0 {
            out.write_all(b",").map_err(too_large)?;
        }
        if let Some(name) = name {
            serde_json::to_writer(&mut out, name).map_err(|e| too_large(e.into()))?;
            out.write_all(b":").map_err(too_large)?;
        }
        let Some((path, output)) = gave else {
            out.write_all(b"null").map_err(too_large)?;
            continue;
        };
        let text = json(path, output.as_ref())?;
        out.write_all(text.text().as_bytes()).map_err(too_large)?;
    }
    out.write_all(close.as_bytes()).map_err(too_large)?;
    Ok(Payload { content_type: Payload::JSON.into(), bytes: out.into_bytes().into() })
}

fn too_large() -> Failure {
    let message =
        format!("what its branches gave has more than {MAX_BUILT} bytes together, the most that are put together");
    Failure::new(Code::BadStep, message)
}

/// What stands at a path, in JSON.
fn json<'a>(path: &StepPath, output: Option<&'a Payload>) -> Result<Json<'a>, Failure> {
    let missing = || Failure::new(Code::Internal, format!("{path} has given nothing yet"));
    let text = Json::of(output.ok_or_else(missing)?, MAX_BUILT);
    let text = text.map_err(|why| Failure::new(Code::BadStep, format!("what {path} gave is {why}")).in_step(path))?;
    text.ok_or_else(too_large)
}

#[cfg(test)]
mod tests {
    use ltmc_model::branch::{self, Branch};

    use super::*;

    #[test]
    fn what_is_written_of_branches_is_read_as_it_was() {
        let text = Payload { content_type: "text/csv".into(), bytes: "a,b".into() };
        let gave = |payload: &Payload| Came::Gave((StepPath::root(), Some(payload.clone())));
        let values = Payload::json(&json!({"n": 1}));
        let failure = Failure::new(Code::AgentError, "no");
        let written = [
            ("legal".to_owned(), gave(&values)),
            ("1".to_owned(), gave(&text)),
            ("cost".to_owned(), Came::Failed(failure)),
            ("style".to_owned(), Came::Nothing),
        ];
        let read = Branch::listed(&list_of(&written).unwrap()).unwrap();
        let failed = branch::Came::Failed { code: "agent-error".into(), message: "no".into() };
        let came = [branch::Came::Output(values), branch::Came::Output(text), failed, branch::Came::Skipped];
        let names = written.iter().map(|(name, _)| name.clone());
        let wanted: Vec<Branch> = names.zip(came).map(|(name, came)| Branch { name, came }).collect();
        assert_eq!(read, wanted);
    }
}
