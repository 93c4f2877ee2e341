//! `ltmc run`: one call of a component without a host, the author's inner loop. It is the real host all the same, in a
//! directory that is gone afterwards: what works here works there. No database that is configured is told of it.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;
use ltmc_model::agent::{AgentRef, Carry};
use ltmc_model::caller::{Caller, Role};
use ltmc_model::effect::Refusal;
use ltmc_model::failure::Failure;
use ltmc_model::journal::Event;
use ltmc_model::run::Usage;
use ltmc_model::{Capability, Digest, Payload, RunId, SessionId};
use ltmc_orchestration::CallRequest;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::input::Input;
use super::{Context, build};
use crate::config::RecordKind;
use crate::exit::{Exit, Problem};
use crate::ui;
use crate::wire::Host;

/// Entries of the journal that are looked at for what the author should know.
const ENTRIES: u32 = 20_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The component, or an agent's crate, which is built first
    #[arg(value_name = "F.wasm|DIR")]
    what: PathBuf,
    #[command(flatten)]
    input: Input,
    /// A capability to grant it; can be given several times
    #[arg(long, value_name = "CAP")]
    grant: Vec<Capability>,
    /// The session to work in [default: one of its own]
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
}

/// How the directories of such hosts are called.
const PREFIX: &str = "ltmc-run-";
/// How many entries of the directory for temporary files are looked at, and how many of the abandoned are removed.
const LOOKED_AT: usize = 10_000;
const REMOVED: usize = 100;
/// After how long one that has no record is abandoned.
const WITHOUT_RECORD: Duration = Duration::from_secs(60 * 60);

fn interrupted() -> anyhow::Error {
    Problem::new(Exit::Failed, "cancelled", "interrupted: nothing of the call is kept [cancelled]").into()
}

/// Removes what hosts left behind that were killed: directories of theirs that nobody has any more. So many at once: the next call goes on.
fn remove_abandoned(temporary: &Path, kind: RecordKind) {
    let Ok(entries) = std::fs::read_dir(temporary) else { return };
    let abandoned = entries.flatten().take(LOOKED_AT).filter(|entry| is_abandoned(entry, kind)).take(REMOVED);
    for entry in abandoned {
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

fn is_abandoned(entry: &DirEntry, kind: RecordKind) -> bool {
    let is_one = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
    // A link is none, and one of somebody else's cannot be locked by us.
    if !is_one || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
        return false;
    }
    // One that was killed before it had made its record has nothing that could be locked.
    let is_old = || {
        let changed = entry.metadata().and_then(|found| found.modified());
        changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|ago| ago > WITHOUT_RECORD))
    };
    let record = crate::record::at(kind, &entry.path());
    match record.exists() {
        true => record.is_abandoned(),
        false => is_old(),
    }
}

pub(crate) async fn run(args: Args, context: Context) -> anyhow::Result<()> {
    let path = build::component(&args.what)?;
    let bytes = std::fs::read(&path).map_err(|e| Problem::usage(format!("{} cannot be read: {e}", path.display())))?;
    let name = build::name_of(&path, &bytes)?;
    let input = args.input.read()?;
    remove_abandoned(&std::env::temp_dir(), context.loaded.config.record.kind);
    let dir = tempfile::Builder::new().prefix(PREFIX).tempdir().context("making a directory for a moment")?;
    let mut config = context.loaded.config.clone();
    config.data = dir.path().to_owned();
    // What it has is gone afterwards: nobody else is told of it.
    config.graph.url.clear();
    config.redis.url.0.clear();
    config.sandbox.slots = config.sandbox.slots.min(4);
    config.limits.disk_reserve = ByteSize::b(0);
    config.sandbox.waiting = config.sandbox.waiting.min(64);
    // From here on there is something to be cleaned up.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let host = Host::open(&config, None).await?;
    let caller = Caller { tenant: "default".parse()?, key: "localauthor0".parse()?, role: Role::Admin, cause: None };
    let refused = |error: ltmc_tenancy::Error| Problem::failed(error.to_string());
    host.app.agents.push(&caller, name.clone(), bytes.into(), None).await.map_err(refused)?;
    host.app
        .agents
        .set_grants(&caller, &AgentRef { name: name.clone(), digest: None }, args.grant, Carry::Never)
        .await
        .map_err(refused)?;
    let request = CallRequest {
        agent: name.as_str().parse()?,
        input,
        session: args.session,
        idempotency: None,
        request_digest: Digest([0; 32]),
        traceparent: None,
        cancel_on_disconnect: true,
    };
    let progress = ui::Progress::start(format!("{name} works"));
    let called = async {
        let started = host.runs.call(&caller, request).await.map_err(refused)?;
        let result = host.runs.wait(&caller, &started, None).await.map_err(refused)?;
        Ok::<_, anyhow::Error>((started, result))
    };
    let ended = tokio::select! {
        ended = called => ended,
        _ = interrupt.recv() => Err(interrupted()),
        _ = terminate.recv() => Err(interrupted()),
    };
    let (started, result) = match ended {
        Ok(ended) => ended,
        Err(error) => {
            // Nothing of it is to stay behind.
            drop(progress);
            host.shared.stop().await;
            host.record.close().await;
            return Err(error);
        }
    };
    drop(progress);
    let usage = noted(&host, &caller, started.run).await?;
    host.shared.stop().await;
    host.record.close().await;
    let result = result.context("a call that is waited for has an end")?;
    told(result, usage, context.json)
}

/// Says what a run logged and what was denied to it; what it used.
async fn noted(host: &Host, caller: &Caller, run: RunId) -> anyhow::Result<Option<Usage>> {
    let mut usage = None;
    for placed in host.record.entries(&caller.tenant, run, ltmc_model::Seq(0), ENTRIES).await? {
        match placed.entry.event {
            Event::Log { line, .. } => ui::note(format!("{:<5} {}", line.level.as_str(), ui::clean(&line.message))),
            Event::Effect(effect) => {
                if let Err(Refusal::Denied(missing)) = &effect.reply {
                    ui::note(format!("denied {}: it takes --grant '{missing}'", effect.call));
                }
            }
            Event::StepCompleted { usage: used, .. } | Event::StepFailed { usage: used, .. } => usage = Some(used),
            _ => {}
        }
    }
    Ok(usage)
}

/// Says how a run ended.
fn told(result: Result<Payload, Failure>, usage: Option<Usage>, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let (output, error) = match &result {
            Ok(output) => (Some(output), None),
            Err(failure) => (None, Some(failure)),
        };
        ui::json(&json!({"output": output, "error": error, "usage": usage}));
    }
    match result {
        Ok(output) if !as_json => ui::content(&output.bytes),
        Ok(_) => {}
        Err(failure) => {
            let code = failure.code.as_str();
            let own = failure.agent_code.map(|own| format!(" ({own})")).unwrap_or_default();
            return Err(
                Problem::new(Exit::Failed, code, format!("{}{own} [{code}]", ui::clean(&failure.message))).into()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_killed_before_it_had_a_record_is_removed_too_and_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let make = |name: &str, hours: u64| {
            let path = temporary.path().join(name);
            std::fs::create_dir(&path).unwrap();
            let dir = std::fs::File::open(&path).unwrap();
            let changed = dir.metadata().unwrap().modified().unwrap() - Duration::from_secs(hours * 60 * 60);
            dir.set_modified(changed).unwrap();
        };
        for number in 0..=REMOVED {
            make(&format!("{PREFIX}old-{number}"), 2);
        }
        make(&format!("{PREFIX}new"), 0);
        make("somebody-else-s", 2);
        std::os::unix::fs::symlink(
            temporary.path().join("somebody-else-s"),
            temporary.path().join(format!("{PREFIX}link")),
        )
        .unwrap();
        let left = || std::fs::read_dir(temporary.path()).unwrap().count();
        remove_abandoned(temporary.path(), RecordKind::Sqlite);
        assert_eq!(left(), 4, "so many at once");
        remove_abandoned(temporary.path(), RecordKind::Sqlite);
        assert_eq!(left(), 3, "the new one, another's, and the link");
    }
}
