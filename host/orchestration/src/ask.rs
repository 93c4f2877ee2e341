//! What a run asks people: the question that a node puts to them, or whether what was planned may be done.

use std::fmt::Write as _;
use std::sync::Arc;

use ltmc_journal::RunLog;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::question::{Question, Token};
use ltmc_model::workflow::Does;
use ltmc_model::{Payload, StepPath};
use ltmc_tenancy::Compute;

use crate::engine::derived;
use crate::plan::Plan;
use crate::{conflict, input};

/// A node's question, and what it is answered by.
pub(crate) async fn question(
    compute: &Compute,
    plan: &Arc<Plan>,
    log: &RunLog,
    at: &StepPath,
) -> Result<(Token, Question), Failure> {
    let (node, _) = plan.node(at)?;
    let nothing = || Failure::new(Code::Internal, format!("the plan has nothing to be asked at {at}"));
    let conflict = Plan::settles(at);
    let (title, of, show, schema) = match &node.does {
        Does::Ask(ask) if let Some((fork, by, number)) = &conflict => {
            let conflict::Asks { title, show, schema } = conflict::asks(compute, plan, log, fork, *by, *number).await?;
            (title, ask.of, Some(show), Some(schema.to_string()))
        }
        Does::Ask(ask) => {
            let show = match &ask.show {
                Some(show) => Some(input::filled(compute, plan, log, at, show).await?),
                None => None,
            };
            (ask.title.clone(), ask.of, show, ask.schema.as_ref().map(|(schema, _)| schema.to_string()))
        }
        Does::Plan(planning) => {
            let planned = log.read(|history| history.node(at).and_then(|node| node.planned.clone()));
            let show = planned.map(|document| Payload {
                content_type: Payload::JSON.into(),
                bytes: document.as_bytes().to_vec().into(),
            });
            let by = &planning.planner.id;
            let by = by.as_ref().map_or_else(String::new, |by| format!(" that `{by}` gave"));
            let title = format!("May the plan{by} be carried out?");
            (title, planning.approve.ok_or_else(nothing)?, show, Some(r#"{"type":"boolean"}"#.to_owned()))
        }
        _ => return Err(nothing()),
    };
    let bytes = show.as_ref().map_or(0, |show| show.bytes.len());
    if bytes > Question::MAX_SHOWN {
        let most = Question::MAX_SHOWN;
        let message =
            format!("what a question shows has at most {most} bytes, this has {bytes}: pick what matters of it");
        return Err(Failure::new(Code::BadStep, message));
    }
    let (seq, until) = log.read(|history| (history.seq(), history.node(at).and_then(|node| node.until)));
    let question = Question { title, of, show, schema, until };
    Ok((token(&log.started().seed, at, seq.0)?, question))
}

/// What nobody guesses who does not know the run's seed, which nobody is shown. It is the same where the host died before the
/// question was asked, and another one where it is asked anew.
fn token(seed: &[u8; 32], at: &StepPath, seq: u64) -> Result<Token, Failure> {
    let secret = derived(seed, &format!("question {seq}"), at, 0);
    let text = secret[..16].iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    text.parse().map_err(|e| Failure::new(Code::Internal, format!("{e}")))
}
