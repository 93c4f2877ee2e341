//! `ltmc doctor`: what is wrong with this installation, and how to put it right.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use console::style;
use ltmc_guest_build::Toolchain;
use serde_json::json;

use super::Context;
use crate::config::Config;
use crate::databases::Databases;
use crate::exit::{Exit, Problem};
use crate::{credentials, ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// One thing that was looked at.
struct Finding {
    what: &'static str,
    how: Result<String, (String, String)>,
}

pub(crate) async fn run(_args: Args, context: Context) -> anyhow::Result<()> {
    let config = &context.loaded.config;
    let record = record(config).await;
    let running = record.how.as_ref().is_ok_and(|found| found.starts_with("in use"));
    let findings = [
        Finding { what: "configuration", how: Ok("reads; `ltmc serve --print-config` shows it".into()) },
        directory(&config.data),
        record,
        credentials(&config.data),
        host(config, &context, running).await,
        space(&config.data),
        files(config),
        anchors(config).await,
        toolchain(),
    ];
    let findings: Vec<Finding> = findings.into_iter().chain(databases(config).await).collect();
    let wrong = findings.iter().filter(|finding| finding.how.is_err()).count();
    for Finding { what, how } in &findings {
        if context.json {
            ui::json(&match how {
                Ok(found) => json!({"what": what, "ok": true, "found": found}),
                Err((found, help)) => json!({"what": what, "ok": false, "found": found, "help": help}),
            });
            continue;
        }
        match how {
            Ok(found) => ui::line(format!("{} {what:<14} {found}", style("✓").green())),
            Err((found, help)) => {
                ui::line(format!("{} {what:<14} {found}", style("✗").red()));
                ui::line(format!("  {:<14} {help}", ""));
            }
        }
    }
    match wrong {
        0 => Ok(()),
        n => {
            Err(Problem::new(Exit::Failed, "unwell", format!("{n} of {} things are wrong [unwell]", findings.len()))
                .into())
        }
    }
}

fn bad(found: impl Into<String>, help: impl Into<String>) -> Result<String, (String, String)> {
    Err((found.into(), help.into()))
}

fn directory(data: &Path) -> Finding {
    let shown = data.display();
    let how = match std::fs::metadata(data) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Ok(format!("{shown} is not there yet; `ltmc serve` makes it"))
        }
        Err(e) => bad(format!("{shown}: {e}"), "use the user who owns it, or name another with --data"),
        Ok(found) if !found.is_dir() => bad(format!("{shown} is a file"), "name a directory with --data"),
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            bad(format!("{shown} can be entered by others"), format!("chmod 700 {shown}"))
        }
        Ok(_) => Ok(format!("{shown}, for its owner only")),
    };
    Finding { what: "data", how }
}

async fn record(config: &Config) -> Finding {
    let what = "record";
    if !crate::record::of(config).exists() {
        return Finding { what, how: Ok("none yet".into()) };
    }
    let how = crate::record::look(config).await.map(Into::into).or_else(|(wrong, help)| bad(wrong, help));
    Finding { what, how }
}

fn credentials(data: &Path) -> Finding {
    let path = data.join(credentials::FILE);
    let how = match (std::fs::metadata(&path), credentials::Credentials::read(data)) {
        (Err(e), _) if e.kind() == std::io::ErrorKind::NotFound => {
            Ok("none yet; the first start of a host writes them".into())
        }
        (Err(e), _) => bad(format!("{}: {e}", path.display()), "use the user who started the host"),
        (Ok(_), Err(e)) => bad(format!("{e:#}"), "mend the file, or make a new key with `ltmc key create`"),
        (Ok(found), _) if found.permissions().mode() & 0o077 != 0 => bad(
            format!("{} can be read by others", path.display()),
            format!("chmod 600 {}, and revoke its keys", path.display()),
        ),
        (Ok(_), Ok(found)) => {
            Ok(format!("keys of {}", found.iter().flat_map(|c| c.names()).collect::<Vec<_>>().join(", ")))
        }
    };
    Finding { what: "credentials", how }
}

async fn host(config: &Config, context: &Context, running: bool) -> Finding {
    let how = match context.wanted.url() {
        Some(url) => answers(&url).await,
        None if running => bad("a host has the data directory, and says nowhere where it listens", "look at its log"),
        None => match TcpListener::bind(config.listen) {
            Ok(_) => Ok(format!("none is running; {} is free", config.listen)),
            Err(e) => bad(
                format!("none is running on {}, and on {} none can listen: {e}", config.data.display(), config.listen),
                "choose another port with --listen",
            ),
        },
    };
    Finding { what: "host", how }
}

async fn answers(url: &str) -> Result<String, (String, String)> {
    let ready = async {
        let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(3)).no_proxy().build().ok()?;
        client.get(format!("{url}/readyz")).send().await.ok()
    };
    match ready.await {
        Some(answer) if answer.status().is_success() => Ok(format!("{url} is ready")),
        Some(answer) => bad(format!("{url} answers {}", answer.status()), "its log says why"),
        None => bad(format!("{url} does not answer"), "look at the host's log; --url and LTMC_URL say where it is"),
    }
}

/// The databases that are configured: whether they can be reached and used.
async fn databases(config: &Config) -> Vec<Finding> {
    let databases = match Databases::open(config) {
        Ok(databases) => databases,
        Err(error) => {
            return vec![Finding { what: "databases", how: bad(format!("{error:#}"), "see docs/run-a-host.md") }];
        }
    };
    let mut findings = Vec::new();
    for database in databases.all() {
        let how = match database.check().await {
            Ok(()) => Ok("answers, and can be used".to_owned()),
            Err(error) => bad(error.reason(), "what it is to be told waits in the record until it answers"),
        };
        findings.push(Finding { what: database.name(), how });
    }
    findings
}

fn space(data: &Path) -> Finding {
    const LOW: u64 = 1 << 30;
    let existing = data.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let how = match rustix::fs::statvfs(existing) {
        Err(e) => bad(format!("{}: {e}", existing.display()), "name a directory on a disk that can be asked"),
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let shown = bytesize::ByteSize(free);
            if free < LOW {
                bad(format!("{shown} free"), "make room: the record grows with every run")
            } else {
                Ok(format!("{shown} free"))
            }
        }
    };
    Finding { what: "disk", how }
}

fn files(config: &Config) -> Finding {
    let wanted = config.limits.connections as u64 + 256;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let how = if limit < wanted {
        bad(
            format!("{limit} open files are allowed, {} connections take {wanted}", config.limits.connections),
            format!("ulimit -n {wanted}, or a lower limits.connections"),
        )
    } else {
        Ok(format!("{limit} open files are allowed"))
    };
    Finding { what: "open files", how }
}

/// Whether the heads of the chains are kept elsewhere, and the record has those that were.
async fn anchors(config: &Config) -> Finding {
    let what = "anchors";
    let (file, url) = (&config.audit.anchor_file, &config.audit.anchor_url);
    if file.is_empty() {
        let how = match url.is_empty() && !config.audit.anchor_log {
            true => "the chains' heads are kept nowhere: a record that is put back to an earlier state does not show"
                .to_owned(),
            false => "the chains' heads are told to the webhook or the log".to_owned(),
        };
        return Finding { what, how: Ok(how) };
    }
    let help = "let the host's user append to it, or set audit.anchor_file to another";
    let how = match std::fs::metadata(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => match Path::new(file).parent() {
            Some(parent) if parent.as_os_str().is_empty() || parent.is_dir() => {
                Ok(format!("{file} is not there yet; `ltmc serve` makes it"))
            }
            _ => bad(format!("{file}: there is no such directory"), "make it, or set audit.anchor_file to another"),
        },
        Err(e) => bad(format!("{file}: {e}"), help),
        Ok(found) if !found.is_file() => bad(format!("{file} is no regular file"), "set audit.anchor_file to another"),
        Ok(_) => match std::fs::OpenOptions::new().append(true).open(file) {
            Err(e) => bad(format!("{file}: {e}"), help),
            Ok(_) => match crate::anchors::compare(config).await {
                Err(e) => bad(format!("{e:#}"), "see that it can be read, and the record too"),
                Ok(lacking) => match lacking.and_then(|lacking| lacking.in_words()) {
                    None => {
                        Ok(format!("the chains' heads are appended to {file}, and the record has those it ends with"))
                    }
                    Some(words) => bad(
                        format!("{file}: {words}"),
                        "after a restore that you mean, move the file aside and keep it; otherwise keep the files as they are",
                    ),
                },
            },
        },
    };
    Finding { what, how }
}

fn toolchain() -> Finding {
    let how = match Toolchain::find() {
        Some(found) => Ok(format!("guests are compiled by {}", found.describe())),
        None if std::process::Command::new("cargo").arg("--version").output().is_err() => {
            Ok("no Rust here: guests are compiled elsewhere, and a host needs none".into())
        }
        None => bad(
            "guests cannot be compiled here (a host needs none)",
            "rustup target add wasm32-wasip2; `ltmc build` tries the rest",
        ),
    };
    Finding { what: "toolchain", how }
}
