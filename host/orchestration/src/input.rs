//! A step's input: what the one before gave, with the constants and picks of its `with`.

use ltmc_journal::RunLog;
use ltmc_model::Payload;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::workflow::{Pick, Source, Template, With};
use serde_json::{Map, Value};

use crate::patterns::Input;
use crate::plan::Plan;

/// The largest input that is built, in bytes: the same as a client may send.
const MAX_BUILT: usize = 8 << 20;

pub(crate) fn build(plan: &Plan, log: &RunLog, input: &Input, with: Option<&With>) -> Result<Payload, Failure> {
    let before = || match input {
        Input::Run => Ok(log.started().input.clone()),
        Input::Output(step) => output(log, step),
    };
    let wrong = |message: String| Failure::new(Code::BadStep, message);
    let built = match with {
        None => return before(),
        Some(With::Pick(pick)) if pick.path.is_empty() => return payload(plan, log, pick),
        Some(With::Pick(pick)) => picked(plan, log, pick)?,
        Some(With::Fields(fields)) => {
            // Fields go over those of an object; anything else is left behind.
            let mut object = match before()?.to_value() {
                Ok(Value::Object(object)) => object,
                Ok(_) | Err(_) => Map::new(),
            };
            for (name, template) in fields {
                object.insert(name.clone(), filled(plan, log, template)?);
            }
            Value::Object(object)
        }
    };
    let payload = Payload::json(&built);
    if payload.bytes.len() > MAX_BUILT {
        let message = format!("its input would have {} bytes; at most {MAX_BUILT} are built", payload.bytes.len());
        return Err(wrong(message));
    }
    Ok(payload)
}

fn filled(plan: &Plan, log: &RunLog, template: &Template) -> Result<Value, Failure> {
    match template {
        Template::Constant(value) => Ok(value.clone()),
        Template::Pick(pick) => picked(plan, log, pick),
        Template::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| Ok((name.clone(), filled(plan, log, value)?)));
            fields.collect::<Result<_, Failure>>().map(Value::Object)
        }
        Template::Array(items) => {
            items.iter().map(|item| filled(plan, log, item)).collect::<Result<_, _>>().map(Value::Array)
        }
    }
}

fn picked(plan: &Plan, log: &RunLog, pick: &Pick) -> Result<Value, Failure> {
    let wrong = |message: String| Failure::new(Code::BadStep, message);
    let value =
        payload(plan, log, pick)?.to_value().map_err(|why| wrong(format!("`{pick}` picks from what is {why}")))?;
    pick.find(&value).cloned().map_err(wrong)
}

/// What a pick picks from, whole.
fn payload(plan: &Plan, log: &RunLog, pick: &Pick) -> Result<Payload, Failure> {
    match &pick.source {
        Source::Input => Ok(log.started().input.clone()),
        Source::Step(name) => {
            let path = plan.path(name);
            let path = path.ok_or_else(|| Failure::new(Code::Internal, format!("the plan has no step `{name}`")))?;
            output(log, path)
        }
    }
}

fn output(log: &RunLog, step: &ltmc_model::StepPath) -> Result<Payload, Failure> {
    let output = log.read(|history| history.output(step).cloned());
    output.ok_or_else(|| Failure::new(Code::Internal, format!("step {step} has given nothing yet")))
}
