//! What branches gave, as one value.
//!
//! Invariant: nothing is written beyond [`MAX_BUILT`]: what would be more is a failure of the node.

use std::io::Write as _;

use ltmc_journal::RunLog;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::{Payload, StepPath};
use ltmc_tenancy::Compute;
use ltmc_tenancy::compute::LARGE;

use crate::input::{MAX_BUILT, computed};
use crate::picked::{Bounded, Json};

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
    let too_large = |_| {
        let message =
            format!("what its branches gave has more than {MAX_BUILT} bytes together, the most that are put together");
        Failure::new(Code::BadStep, message)
    };
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
        let missing = || Failure::new(Code::Internal, format!("{path} has given nothing yet"));
        let text = Json::of(output.as_ref().ok_or_else(missing)?, MAX_BUILT);
        let text =
            text.map_err(|why| Failure::new(Code::BadStep, format!("what {path} gave is {why}")).in_step(path))?;
        let text = text.ok_or_else(|| too_large(std::io::ErrorKind::FileTooLarge.into()))?;
        out.write_all(text.text().as_bytes()).map_err(too_large)?;
    }
    out.write_all(close.as_bytes()).map_err(too_large)?;
    Ok(Payload { content_type: Payload::JSON.into(), bytes: out.into_bytes().into() })
}
