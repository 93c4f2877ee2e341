//! `ltmc serve`: the host, from its first log line to its orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ltmc_orchestration::{Recovered, Runs};
use ltmc_ports::Record;
use ltmc_tenancy::{Authority, Pins};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::credentials::UrlFile;
use crate::exit::Problem;
use crate::metrics::Metrics;
use crate::wire::Host;
use crate::{anchors, logs, set_aside, ui};

/// How long a host that stops waits for what clients asked for. All but a repair is done in much less.
const LAST_CHANGES: Duration = Duration::from_secs(2);
/// How long after `shutdown_deadline` the process has come to its end, whatever keeps it.
const LAST_PART: Duration = Duration::from_secs(5);

/// How often components that nobody has are looked for, and how many reads there were is written.
const TIDY: Duration = Duration::from_secs(600);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address and port to listen on [default: 127.0.0.1:7420]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Show what is in force and where each value came from, and do nothing else
    #[arg(long)]
    print_config: bool,
    /// Stop as soon as standard input is closed: for whoever starts a host and may be killed
    #[arg(long)]
    lifeline: bool,
}

pub(crate) async fn run(args: Args, context: Context) -> anyhow::Result<()> {
    if args.print_config {
        match context.json {
            true => ui::json(&context.loaded.to_json()),
            false => ui::raw(context.loaded.print().as_bytes()),
        }
        return Ok(());
    }
    let begun = Instant::now();
    let config = context.loaded.config.clone();
    logs::start(&config.log)?;
    let metrics = Metrics::start()?;
    tokio::spawn(metrics.clone().upkeep());
    // Before anything is opened: a signal during a long start ends it as well.
    let shutdown = CancellationToken::new();
    let deadline = config.shutdown_deadline.0 + LAST_PART;
    signals(shutdown.clone(), deadline)?;
    if args.lifeline {
        let shutdown = shutdown.clone();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            shutdown.cancel();
            end_after(deadline);
        });
    }
    let listener = match listen(config.listen).await {
        Ok(listener) => listener,
        // Whoever has the port has the record, too: that is what is wrong.
        Err(error) => return Err(crate::record::is_free(&config).err().unwrap_or(error)),
    };
    let host = Host::open(&config, Some(metrics)).await?;
    let address = listener.local_addr().context("the listener has no address")?;
    host.anchors.say(&anchors::look_back(&config, &host.record).await?);
    let anchoring = anchors::start(&config, &host.record)?;
    let url = url_of(address);
    let url_file = UrlFile::write(&config.data, &url)?;
    if host.first_start {
        let path = config.data.join(crate::credentials::FILE);
        tracing::info!(path = %path.display(), "first start: keys of the operator and of the tenant `default` are in this file");
    }
    tracing::info!(url, data = %config.data.display(), ready_after_ms = begun.elapsed().as_millis() as u64, "ready");
    let beside = beside(&host);
    let limits = host.app.limits.clone();
    let serving = ltmc_api::serve(listener, ltmc_api::router(host.app), shutdown.clone(), limits);
    let stopping = async {
        shutdown.cancelled().await;
        tracing::info!("stopping: no new work is taken");
        host.runs.stop(config.shutdown_deadline.0).await;
    };
    let (served, ()) = tokio::join!(serving, stopping);
    beside.iter().for_each(JoinHandle::abort);
    drop(url_file);
    host.tasks.stop(LAST_CHANGES).await;
    if tokio::time::timeout(LAST_CHANGES, host.authority.tell_reads(true)).await.is_err() {
        tracing::warn!("how many reads there were could not all be written in time");
    }
    host.shared.stop().await;
    anchoring.stop().await;
    host.record.close().await;
    drop(host.sandbox);
    tracing::info!("stopped");
    served.context("the listener failed")
}

/// What goes on beside what clients ask for.
fn beside(host: &Host) -> Vec<JoinHandle<()>> {
    let (runs, schedules, triggers) = (host.runs.clone(), host.schedules.clone(), host.triggers.clone());
    let (sessions, lapses, deletions) = (host.sessions.clone(), host.lapses.clone(), host.deletions.clone());
    vec![
        tokio::spawn(recover(host.runs.clone(), host.record.clone())),
        tokio::spawn(async move { runs.wake().await }),
        tokio::spawn(async move { schedules.tick().await }),
        tokio::spawn(async move { triggers.listen().await }),
        tokio::spawn(async move { sessions.attend().await }),
        tokio::spawn(async move { lapses.attend().await }),
        tokio::spawn(tidy(host.pins.clone(), host.authority.clone())),
        tokio::spawn(async move { deletions.run().await }),
    ]
}

/// Takes up runs of before; then counts those that wait for people.
async fn recover(runs: Runs, record: Arc<dyn Record>) {
    loop {
        match runs.recover().await {
            Ok(recovered) if recovered != Recovered::default() => {
                tracing::info!(
                    resumed = recovered.resumed,
                    left = recovered.left,
                    suspects = recovered.suspects,
                    quarantined = recovered.quarantined,
                    "runs of before were taken up again"
                );
                break;
            }
            Ok(_) => break,
            Err(error) => tracing::error!(%error, "runs of before could not be looked up; trying again"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    set_aside::count(record).await;
}

/// Removes components that nobody has, and writes how many reads there were.
async fn tidy(pins: Arc<Pins>, authority: Arc<Authority>) {
    loop {
        authority.tell_reads(false).await;
        if let Err(error) = pins.sweep_all().await {
            tracing::warn!(%error, "components that nobody has could not all be removed; trying again later");
        }
        tokio::time::sleep(TIDY).await;
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        Problem::failed(format!("cannot listen on {address}: {e}"))
            .help("another program has the port: choose another with --listen, port 0 for a free one")
            .into()
    })
}

/// Asks for an orderly end at the first SIGTERM or SIGINT; the second one ends the process at once, and so does the deadline after
/// the first. On a thread with a runtime of its own: whatever keeps the host's threads does not keep this one.
fn signals(shutdown: CancellationToken, deadline: Duration) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _within = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let watch = async move {
        let mut once = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        once().await;
        shutdown.cancel();
        if tokio::time::timeout(deadline, once()).await.is_ok() {
            tracing::warn!(
                "told to stop a second time: ending at once; the record is whole, and runs go on at the next start"
            );
            end();
        }
        end_after(Duration::ZERO);
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(watch))?;
    Ok(())
}

/// Ends the process after a while, whatever it does: where it comes to its end of itself, this thread goes with it.
fn end_after(deadline: Duration) {
    std::thread::sleep(deadline);
    // On a thread of its own, for it may be the log that hangs.
    let said = std::thread::Builder::new().spawn(|| {
        tracing::warn!(
            "something keeps the host from stopping, such as a disk that hangs, or a thread that computes: `shutdown_deadline` is \
             over, and the process ends here; the record is whole, and runs go on at the next start"
        );
    });
    drop(said);
    std::thread::sleep(Duration::from_millis(100));
    end();
}

#[expect(clippy::disallowed_methods, reason = "what should have ended by itself has not")]
fn end() -> ! {
    std::process::exit(1)
}

/// Under which URL commands on the same machine reach a listener.
fn url_of(address: SocketAddr) -> String {
    match address {
        any if any.ip().is_unspecified() => format!("http://127.0.0.1:{}", any.port()),
        one => format!("http://{one}"),
    }
}
