//! What is said in a debate: what who speaks is told, and whose turn a chair says it is.
//!
//! Invariant: bounded: the last turns are told, so many and so many bytes; how many were left out is told too.

use std::io::Write as _;

use ltmc_journal::{History, RunLog};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Decided;
use ltmc_model::workflow::{Debate, Node, StepName, Turn};
use ltmc_model::{Payload, StepPath};
use serde_json::Value;

use crate::input::MAX_BUILT;
use crate::picked::{Bounded, Json};

/// What was said in a turn: by whom, and what.
pub(crate) struct Said {
    by: String,
    output: Payload,
    at: StepPath,
}

/// The turns before this one that are told, and how many are not.
pub(crate) fn said(log: &RunLog, debate: &Debate, at: &StepPath, before: u32) -> (Vec<Said>, usize) {
    log.read(|history| told(history, debate, at, before))
}

fn told(history: &History, debate: &Debate, at: &StepPath, before: u32) -> (Vec<Said>, usize) {
    let turns = history.node(at).into_iter().flat_map(|node| node.rounds.iter());
    let all: Vec<(usize, &StepPath)> =
        turns.take(before as usize).enumerate().filter_map(|(n, turn)| Some((n, turn.gave.as_ref()?))).collect();
    let (mut last, mut bytes) = (Vec::new(), 0);
    for (turn, path) in all.iter().rev().take(Debate::TOLD) {
        let output = history.output(path).cloned().unwrap_or_default();
        bytes += output.bytes.len();
        // What was said last is told in any case: where it is too long, the step says so.
        if bytes > Debate::TOLD_BYTES && !last.is_empty() {
            break;
        }
        last.push(Said { by: speaker(debate, &at.child(*turn), path), output, at: (*path).clone() });
    }
    last.reverse();
    let left_out = all.len() - last.len();
    (last, left_out)
}

/// Who spoke in the turn that stands at `turn` and gave what `path` did.
fn speaker(debate: &Debate, turn: &StepPath, path: &StepPath) -> String {
    let number = path.way().nth(turn.way().count());
    let node = number.and_then(|number| debate.turn.below(number));
    match node {
        Some(ltmc_model::workflow::Below::Child(node)) => called(node),
        _ => String::new(),
    }
}

fn called(node: &Node) -> String {
    node.id.as_ref().map(StepName::as_str).unwrap_or_default().to_owned()
}

/// What who speaks is given: `{input, turns: [{agent, output}], among}`, and `left-out` where there were more.
///
/// # Errors
/// `bad-step`, where it is too much or cannot be read.
pub(crate) fn given(
    debate: &Debate,
    input: &Payload,
    (said, left_out): (Vec<Said>, usize),
) -> Result<Payload, Failure> {
    let too_large = |_| {
        let message = format!(
            "what is told in a debate has more than {MAX_BUILT} bytes together, the most that are put together"
        );
        Failure::new(Code::BadStep, message)
    };
    let unread = |what: String, why: String| Failure::new(Code::BadStep, format!("what {what} is {why}"));
    let mut out = Bounded::new(MAX_BUILT);
    let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(too_large);
    let json = |payload: &Payload, most, what: String| -> Result<String, Failure> {
        let text = Json::of(payload, most).map_err(|why| unread(what.clone(), why))?;
        let text = text.ok_or_else(|| {
            Failure::new(Code::BadStep, format!("what {what} has more than {most} bytes, the most that is told"))
        })?;
        Ok(text.text().to_owned())
    };
    write(b"{\"input\":")?;
    write(json(input, MAX_BUILT, "the debate works on".into())?.as_bytes())?;
    write(b",\"turns\":[")?;
    for (number, said) in said.iter().enumerate() {
        let Said { by, output, at } = said;
        if output.bytes.len() > Debate::TOLD_BYTES {
            let most = Debate::TOLD_BYTES;
            let message = format!("what `{by}` said last has more than {most} bytes, the most that is told");
            return Err(Failure::new(Code::BadStep, message).in_step(at));
        }
        let comma = if number > 0 { "," } else { "" };
        write(format!("{comma}{{\"agent\":{},\"output\":", Value::from(by.as_str())).as_bytes())?;
        write(json(output, MAX_BUILT, format!("`{by}` said"))?.as_bytes())?;
        write(b"}")?;
    }
    let among: Vec<String> = debate.among().iter().map(called).collect();
    write(format!("],\"among\":{}", Value::from(among)).as_bytes())?;
    if left_out > 0 {
        write(format!(",\"left-out\":{left_out}").as_bytes())?;
    }
    write(b"}")?;
    Ok(Payload { content_type: Payload::JSON.into(), bytes: out.into_bytes().into() })
}

/// Whose turn a chair says it is: one of those who speak, by name, as a text or under `next`; null is nobody, and the debate's end.
///
/// # Errors
/// `bad-step`, where it is no such thing.
pub(crate) fn next_speaker(turn: &Turn, output: &Payload) -> Result<Decided, Failure> {
    let names: Vec<String> = turn.among.iter().map(called).collect();
    let said = output.to_value().unwrap_or_else(Value::String);
    let name = match &said {
        Value::Object(fields) => fields.get("next").cloned(),
        other => Some(other.clone()),
    };
    let index = match &name {
        Some(Value::Null) => return Ok(Decided::Option(None)),
        Some(Value::String(name)) => names.iter().position(|known| known == name.trim()),
        _ => None,
    };
    let number = index.and_then(|index| u32::try_from(turn.first() + index).ok());
    number.map(|number| Decided::Option(Some(number))).ok_or_else(|| {
        let given: String = said.to_string().chars().take(200).collect();
        let among = names.join("`, `");
        let message = format!(
            "a debate's chair gives `{{\"next\": …}}` with one of `{among}`, or null for its end, and gave {given}"
        );
        Failure::new(Code::BadStep, message)
    })
}

#[cfg(test)]
mod tests {
    use ltmc_model::Timestamp;
    use ltmc_model::journal::{Entry, Event, Next};
    use ltmc_model::run::Usage;
    use ltmc_model::workflow::{Document, Does};
    use serde_json::json;

    use super::*;

    fn debate(chair: &str) -> Box<Debate> {
        let source = format!("name: d\nflow: {{debate: {{among: [pro, con], rounds: 500{chair}}}}}");
        let Does::Debate(debate) = Document::parse(&source, None).unwrap().flow.does else { panic!("a debate") };
        debate
    }

    /// Turns that gave texts of these lengths, one after the other.
    fn history(lengths: &[usize]) -> History {
        let (mut history, root, usage) = (History::new(), StepPath::root(), Usage::default());
        for (turn, length) in (0..).zip(lengths) {
            let step = root.child(turn as usize).child(turn as usize % 2);
            let output = Payload::text("x".repeat(*length));
            let decided = Decided::Turn { turn, gave: Some(step.clone()), next: Next::Again };
            for event in [
                Event::StepStarted {
                    step: step.clone(),
                    attempt: 1,
                    agent: None,
                    version: None,
                    needs: Vec::new(),
                    transaction: true,
                },
                Event::StepCompleted { step, attempt: 1, output, usage },
                Event::NodeDecided { node: root.clone(), decided },
            ] {
                history.advance(history.seq().next(), &Entry { at: Timestamp::from_millis(1), event });
            }
        }
        history
    }

    fn shown(lengths: &[usize], before: u32) -> Result<Value, Failure> {
        let debate = debate("");
        let told = told(&history(lengths), &debate, &StepPath::root(), before);
        given(&debate, &Payload::json(&json!("topic")), told).map(|given| given.to_value().unwrap())
    }

    #[test]
    fn who_speaks_is_told_what_was_said_up_to_there() {
        let wanted = json!({"input": "topic", "turns": [{"agent": "pro", "output": "x"}, {"agent": "con", "output": "xx"}], "among": ["pro", "con"]});
        assert_eq!(shown(&[1, 2, 3], 2).unwrap(), wanted);
        assert_eq!(shown(&[], 0).unwrap()["turns"], json!([]));
    }

    #[test]
    fn of_much_that_was_said_the_last_is_told_and_how_much_is_not() {
        let many = shown(&[1; 150], 150).unwrap();
        assert_eq!((many["turns"].as_array().unwrap().len(), &many["left-out"]), (Debate::TOLD, &json!(50)));
        let large = shown(&[Debate::TOLD_BYTES, 7, 5], 3).unwrap();
        assert_eq!((large["turns"].as_array().unwrap().len(), &large["left-out"]), (2, &json!(1)));
        let last = shown(&[7, Debate::TOLD_BYTES + 1], 2).unwrap_err();
        assert!(last.code == Code::BadStep && last.message.contains("`con` said last"), "{last}");
    }

    #[test]
    fn a_chair_names_one_of_them_or_nobody() {
        let debate = debate(", next: {agent: chair}");
        let Does::Turn(turn) = &debate.turn.does else { panic!("a turn") };
        for (said, wanted) in [
            (Payload::text("con"), Some(2)),
            (Payload::json(&json!("pro")), Some(1)),
            (Payload::json(&json!({"next": "con", "why": "it is"})), Some(2)),
            (Payload::json(&json!({"next": null})), None),
            (Payload::json(&json!(null)), None),
        ] {
            assert_eq!(next_speaker(turn, &said).unwrap(), Decided::Option(wanted));
        }
        for said in [json!({}), json!("chair"), json!(1), json!({"next": ["pro"]})] {
            let failure = next_speaker(turn, &Payload::json(&said)).unwrap_err();
            assert!(failure.code == Code::BadStep && failure.message.contains("one of `pro`, `con`"), "{failure}");
        }
    }
}
