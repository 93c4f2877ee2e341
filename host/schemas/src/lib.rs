//! JSON Schema: whether one can be judged by, and what is wrong with a value.
//!
//! Invariants: both take place in a child process under limits of CPU time and memory, for a small schema can keep a judge busy for
//! ever, or have it recurse without end: that ends the child, and nothing else. Patterns are matched without backtracking. Nothing is
//! fetched. A child serves one request after the other, and keeps nothing of one for the next. Whoever asks has a turn of its tenant's first, and
//! there is no way past it: so there are no more children than turns, and no tenant has all of them.
//!
//! - [`worker`]: the child's side

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::{Payload, TenantId};
use ltmc_policy::Turns;
use ltmc_ports::runner::Violation;
use ltmc_ports::schema::{self, Unusable};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

mod judge;
pub mod worker;

use judge::{Answer, CPU, Kind, MEMORY};

/// How many values are judged at once, each in a process of its own; of one tenant one.
const JUDGED_AT_ONCE: usize = 3;
/// In how many processes beside those schemas are looked at by themselves; of one tenant's one.
const CHECKED_AT_ONCE: usize = 3;
/// How many of a tenant's may wait for either: no more than it has runs alive.
const WAITING: usize = 20_000;
/// Children that are kept for the next request.
const IDLE: usize = 2;
/// How long one is waited for. It has [`CPU`] of CPU time, which may take longer on a busy machine.
const WALL: Duration = Duration::from_secs(30);
/// The longest answer.
const MAX_ANSWER: u32 = 1 << 20;

/// Judges values by JSON schemas: in processes of its own, or in this one.
pub struct Schemas {
    by: By,
    /// Whose turn it is to have a value judged.
    judged: Arc<Turns>,
    /// Whose turn it is to have schemas looked at.
    checked: Arc<Turns>,
    idle: Mutex<Vec<Worker>>,
}

enum By {
    /// A child process: this program with these arguments. It must call [`worker::run`].
    Child { exe: PathBuf, args: Vec<OsString> },
    /// This process.
    InProcess,
}

struct Worker {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Schemas {
    /// In children: `exe` with `args`.
    pub fn in_children(exe: PathBuf, args: Vec<OsString>) -> Self {
        Self::by(By::Child { exe, args })
    }

    /// In this process, without limits: for tests, and where nobody but who wrote the schema waits for it.
    pub fn in_process() -> Self {
        Self::by(By::InProcess)
    }

    fn by(by: By) -> Self {
        Self {
            by,
            // bound: schemas
            judged: Turns::new(JUDGED_AT_ONCE, WAITING),
            // bound: schemas
            checked: Turns::new(CHECKED_AT_ONCE, WAITING),
            idle: Mutex::default(),
        }
    }

    async fn ask(&self, tenant: &TenantId, kind: Kind, parts: &[&[u8]]) -> Result<Answer, Failure> {
        let turns = match kind {
            Kind::Check => &self.checked,
            Kind::Judge => &self.judged,
        };
        // Until the child is idle again, or has been killed.
        let _turn = turns.take(tenant).await.ok_or_else(|| {
            let message = "too much of what this tenant asked for waits to be judged by JSON Schema";
            Failure::new(Code::Unavailable, message).retryable()
        })?;
        let (exe, args) = match &self.by {
            By::InProcess => return Ok(judge::answer(kind, parts)),
            By::Child { exe, args } => (exe, args),
        };
        let failed =
            |why: String| Failure::new(Code::Unavailable, format!("no judge of JSON Schema: {why}")).retryable();
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle().pop();
        let mut worker = match kept {
            Some(worker) => worker,
            None => Worker::start(exe, args).map_err(|e| failed(e.to_string()))?,
        };
        // One that is dropped half-way, or has not answered well, is killed.
        match tokio::time::timeout(WALL, worker.ask(kind, parts)).await {
            Ok(Ok(answer)) => {
                let mut idle = idle();
                if idle.len() < IDLE {
                    idle.push(worker);
                }
                serde_json::from_slice(&answer).map_err(|e| failed(format!("its answer is none: {e}")))
            }
            Ok(Err(error)) => match tokio::time::timeout(WALL, worker.child.wait()).await {
                Ok(Ok(status)) => {
                    Err(ended(status).unwrap_or_else(|| failed(format!("{error}; it ended with {status}"))))
                }
                Ok(Err(_)) | Err(_) => Err(failed(error.to_string())),
            },
            Err(_) => Err(Failure::new(Code::LimitWall, format!("judging by JSON Schema took longer than {WALL:?}"))),
        }
    }
}

/// What a child died of, where that is its request.
fn ended(status: ExitStatus) -> Option<Failure> {
    use rustix::process::Signal;
    use std::os::unix::process::ExitStatusExt as _;
    let signal = status.signal()?;
    let of = |signals: &[Signal]| signals.iter().any(|one| one.as_raw() == signal);
    if of(&[Signal::XCPU]) {
        let seconds = CPU.as_secs();
        let message =
            format!("judging by its JSON Schema takes more than {seconds} s of CPU time: make the schema simpler");
        return Some(Failure::new(Code::LimitCpu, message));
    }
    let message = format!(
        "judging by its JSON Schema takes more than {} MiB of memory, or nests too deep: make the schema simpler",
        MEMORY >> 20
    );
    of(&[Signal::ABORT, Signal::SEGV, Signal::BUS]).then(|| Failure::new(Code::LimitMemory, message))
}

impl Worker {
    fn start(exe: &std::path::Path, args: &[OsString]) -> std::io::Result<Self> {
        // bound: schemas
        let mut child = Command::new(exe)
            .args(args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(to), Some(from)) => Ok(Self { child, to, from }),
            _ => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    async fn ask(&mut self, kind: Kind, parts: &[&[u8]]) -> std::io::Result<Vec<u8>> {
        let too_much = |_| std::io::Error::from(ErrorKind::FileTooLarge);
        let mut head = vec![kind as u8];
        head.extend(u32::try_from(parts.len()).map_err(too_much)?.to_le_bytes());
        self.to.write_all(&head).await?;
        for part in parts {
            self.to.write_all(&u32::try_from(part.len()).map_err(too_much)?.to_le_bytes()).await?;
            self.to.write_all(part).await?;
        }
        self.to.flush().await?;
        let length = self.from.read_u32_le().await?;
        if length > MAX_ANSWER {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let mut answer = vec![0; length as usize];
        self.from.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

#[async_trait]
impl schema::Schemas for Schemas {
    async fn check(&self, tenant: &TenantId, schemas: &[String]) -> Result<Option<Unusable>, Failure> {
        let parts: Vec<&[u8]> = schemas.iter().map(String::as_bytes).collect();
        match self.ask(tenant, Kind::Check, &parts).await {
            Ok(Answer::Unusable(found)) => Ok(found.map(|(number, why)| Unusable { number: Some(number), why })),
            Ok(Answer::Violations(_)) => Err(Failure::new(Code::Internal, "a judge answered something else")),
            // Which of them it was is not known: the child is gone.
            Err(failure) if matches!(failure.code, Code::LimitCpu | Code::LimitMemory | Code::LimitWall) => {
                Ok(Some(Unusable { number: None, why: failure.message }))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn judge(&self, tenant: &TenantId, schema: &str, output: &Payload) -> Result<Vec<Violation>, Failure> {
        let wrong = |message: String| Ok(vec![Violation { at: String::new(), message }]);
        let quoted;
        let value: &[u8] = if output.is_json() {
            &output.bytes
        } else {
            match std::str::from_utf8(&output.bytes) {
                Ok(text) => {
                    quoted = serde_json::Value::from(text).to_string();
                    quoted.as_bytes()
                }
                Err(e) => {
                    let of = &output.content_type;
                    return wrong(format!("neither JSON (its type is `{of}`) nor text in UTF-8: {e}"));
                }
            }
        };
        match self.ask(tenant, Kind::Judge, &[schema.as_bytes(), value]).await? {
            Answer::Violations(found) => Ok(found.into_iter().map(|(at, message)| Violation { at, message }).collect()),
            Answer::Unusable(_) => Err(Failure::new(Code::Internal, "a judge answered something else")),
        }
    }
}

impl std::fmt::Debug for Schemas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schemas").finish_non_exhaustive()
    }
}
