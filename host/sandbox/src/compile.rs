//! Compilation, apart: a child process of the same binary, under limits of memory and time, so that a component made to
//! exhaust the compiler takes only the child with it.
//!
//! The child gets two paths (component, artifact) and the limits; it writes the artifact, and a JSON answer to standard output. It lives
//! as long as its standard input is held open, so that it ends with its host, however that ends. (A parent's death signal would be sent
//! where the one *thread* ends that started the child, and threads of the host come and go.)

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::CompileLimits;
use crate::engine::code_settings;
use crate::inspect::{self, Found, Refused};

/// Which process compiles components.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// A child process: this program with these arguments before the compiler's own. It must call [`compile_worker`].
    Child {
        /// The program.
        exe: PathBuf,
        /// Such as `compile-worker`.
        args: Vec<OsString>,
    },
    /// This process: for one's own components only (`ltmc run`), where nothing else can be harmed.
    InProcess,
}

/// How the child says that there is no room for the artifact.
const NO_ROOM: i32 = 6;

/// The stack of the thread that watches standard input.
const LIFELINE_STACK: usize = 64 << 10;

/// Whether a file could not be written for lack of room.
pub(crate) fn is_full(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Compiled(Found),
    Refused(Refused),
}

/// How a compilation ended badly.
pub(crate) enum CompileError {
    Refused(Refused),
    /// There is no room for the artifact.
    Full,
    /// The host's own trouble.
    Failed(String),
}

impl Compiler {
    /// Compiles `wasm` into `artifact`, both files.
    pub(crate) async fn compile(
        &self,
        wasm: &Path,
        artifact: &Path,
        limits: &CompileLimits,
    ) -> Result<Found, CompileError> {
        let answer = match self {
            Self::InProcess => {
                let (wasm, artifact) = (wasm.to_owned(), artifact.to_owned());
                // bound: compiling
                tokio::task::spawn_blocking(move || work(&wasm, &artifact))
                    .await
                    .map_err(|e| CompileError::Failed(format!("the compiler panicked: {e}")))?
                    .map_err(|e| if is_full(&e) { CompileError::Full } else { CompileError::Failed(e.to_string()) })?
            }
            Self::Child { exe, args } => in_child(exe, args, wasm, artifact, limits).await?,
        };
        match answer {
            Answer::Compiled(found) => Ok(found),
            Answer::Refused(refused) => Err(CompileError::Refused(refused)),
        }
    }
}

async fn in_child(
    exe: &Path,
    args: &[OsString],
    wasm: &Path,
    artifact: &Path,
    limits: &CompileLimits,
) -> Result<Answer, CompileError> {
    let failed = |what: &str, e: &dyn std::fmt::Display| CompileError::Failed(format!("{what}: {e}"));
    // bound: compiling
    let mut child = Command::new(exe)
        .args(args)
        .args([wasm, artifact])
        .arg(limits.memory.to_string())
        .arg(limits.cpu.as_secs().max(1).to_string())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed("the compiler did not start", &e))?;
    // Held until it has ended: waiting for a child closes what is its own.
    let _lifeline = child.stdin.take();
    let too_costly = |why: &str| {
        CompileError::Refused(Refused::new(
            "too-costly",
            format!("compiling the component {why}; a component this costly to compile is not taken"),
        ))
    };
    let output = match tokio::time::timeout(limits.wall, child.wait_with_output()).await {
        Err(_) => return Err(too_costly(&format!("took longer than {:?}", limits.wall))),
        Ok(ended) => ended.map_err(|e| failed("the compiler's end was not seen", &e))?,
    };
    if output.status.success() {
        return serde_json::from_slice(&output.stdout).map_err(|e| failed("the compiler's answer is no JSON", &e));
    }
    match output.status.code() {
        Some(NO_ROOM) => return Err(CompileError::Full),
        // A panic: of the compiler itself, or because it got no memory for a thread.
        Some(101) => return Err(too_costly("broke the compiler")),
        _ => {}
    }
    use std::os::unix::process::ExitStatusExt as _;
    match output.status.signal() {
        // Out of memory the allocator aborts; out of CPU time the kernel sends XCPU, then KILL.
        Some(signal) if signal == Signal::XCPU.as_raw() || signal == Signal::KILL.as_raw() => {
            Err(too_costly(&format!("took more than {:?} of CPU time, or more memory than there is", limits.cpu)))
        }
        Some(signal) if signal == Signal::XFSZ.as_raw() => Err(too_costly("gave more than 1 GiB of code")),
        Some(signal) if signal == Signal::ABORT.as_raw() || signal == Signal::SEGV.as_raw() => {
            Err(too_costly(&format!("took more than {} bytes of memory", limits.memory)))
        }
        _ => Err(CompileError::Failed(format!("the compiler ended with {}", output.status))),
    }
}

/// The child's side: `COMPONENT ARTIFACT MEMORY-BYTES CPU-SECONDS`, the answer on standard output.
pub fn compile_worker(args: &[OsString]) -> ExitCode {
    let [wasm, artifact, memory, cpu] = args else { return ExitCode::from(2) };
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse::<u64>().ok());
    let (Some(memory), Some(cpu)) = (number(memory), number(cpu)) else { return ExitCode::from(2) };
    let limit = |resource, soft, hard| {
        setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) }).map_err(|_| ExitCode::from(3))
    };
    let limited = limit(Resource::As, memory, memory)
        .and_then(|()| limit(Resource::Cpu, cpu, cpu + 1))
        .and_then(|()| limit(Resource::Core, 0, 0))
        .and_then(|()| limit(Resource::Fsize, 1 << 30, 1 << 30));
    if let Err(code) = limited {
        return code;
    }
    if std::thread::Builder::new().stack_size(LIFELINE_STACK).spawn(end_with_the_host).is_err() {
        return ExitCode::from(3);
    }
    let answer = match work(Path::new(wasm), Path::new(artifact)) {
        Ok(answer) => answer,
        Err(e) if is_full(&e) => return ExitCode::from(NO_ROOM as u8),
        Err(_) => return ExitCode::from(4),
    };
    match serde_json::to_writer(std::io::stdout(), &answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(5),
    }
}

/// Ends this process, whatever it computes, once nobody holds its standard input any more.
fn end_with_the_host() {
    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
}

fn work(wasm: &Path, artifact: &Path) -> std::io::Result<Answer> {
    let bytes = std::fs::read(wasm)?;
    let found = match inspect::look(&bytes) {
        Ok(found) => found,
        Err(refused) => return Ok(Answer::Refused(refused)),
    };
    let engine = wasmtime::Engine::new(&code_settings()).map_err(std::io::Error::other)?;
    match engine.precompile_component(&bytes) {
        Ok(compiled) => {
            std::fs::write(artifact, compiled)?;
            Ok(Answer::Compiled(found))
        }
        Err(e) => {
            let text = format!("{e:#}");
            let text = &text[..text.floor_char_boundary(1_000)];
            Ok(Answer::Refused(Refused::new("malformed", format!("the component is not valid: {text}"))))
        }
    }
}

/// What a compilation may take at most, for those who wait for it.
pub(crate) fn patience(limits: &CompileLimits) -> Duration {
    limits.wall.saturating_mul(4)
}
