//! What belongs to one instance: its gate, its streams, clocks, randomness and limits.
//!
//! Invariant: nothing here is shared with another instance, and nothing comes from the machine: time is the gate's,
//! randomness is drawn from the attempt's seed, there are no files but in directories that are granted (see
//! [`crate::files`]), no environment and no network.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use ltmc_model::failure::Failure;
use ltmc_ports::runner::{Gate, Job};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use tokio::io::AsyncWrite;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::files::{Files, View};
use crate::host::Polls;
use crate::limits::{Breach, Limiter, MAX_HANDLES, MAX_RANDOM, MAX_STDERR};
use crate::meter::Meter;
use crate::slot::Slot;

/// A store's data.
pub(crate) struct Guest {
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) table: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) meter: Arc<Meter>,
    pub(crate) slot: Arc<Slot>,
    /// Why the gate ended the attempt, if it did.
    pub(crate) stopped: Option<Failure>,
    wasi: WasiCtx,
    files: Files,
}

impl Guest {
    /// A guest for a job; `stdin` and `stdout` are a command's payload and result.
    pub(crate) fn new(
        job: &Job,
        gate: Arc<dyn Gate>,
        slot: &Arc<Slot>,
        stdin: Bytes,
        stdout: &Output,
        stderr: &Output,
        files: Files,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        let random = |stream: u64| {
            let mut random = ChaCha12Rng::from_seed(job.seed);
            random.set_stream(stream);
            random
        };
        let mut seed = [0; 16];
        seed.copy_from_slice(&job.seed[..16]);
        let start = gate.now().millis();
        let wasi = WasiCtxBuilder::new()
            .stdin(MemoryInputPipe::new(stdin))
            .stdout(stdout.clone())
            .stderr(stderr.clone())
            .secure_random(random(1))
            .insecure_random(random(2))
            .insecure_random_seed(u128::from_le_bytes(seed))
            .max_random_size(MAX_RANDOM)
            .wall_clock(Clock { gate: gate.clone(), start })
            .monotonic_clock(Clock { gate: gate.clone(), start })
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let meter = slot.meter().clone();
        let limiter = Limiter::new(job.limits.memory, meter.clone(), slot.memory());
        Self { gate, table, limiter, meter, slot: slot.clone(), stopped: None, wasi, files }
    }

    /// Its files.
    pub(crate) fn files(&mut self) -> View<'_> {
        View { files: &mut self.files, table: &mut self.table }
    }

    /// What it can wait for.
    pub(crate) fn polls(&mut self) -> Polls<'_> {
        Polls { table: &mut self.table, slot: self.slot.clone() }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.files.leave(std::mem::take(&mut self.table));
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The run's clock: it ticks in milliseconds, which is as much as the journal remembers, and too coarse to spy by.
struct Clock {
    gate: Arc<dyn Gate>,
    start: u64,
}

const TICK_NANOS: u64 = 1_000_000;

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(TICK_NANOS)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.gate.now().millis())
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        TICK_NANOS
    }

    fn now(&self) -> u64 {
        self.gate.now().millis().saturating_sub(self.start).saturating_mul(TICK_NANOS)
    }
}

/// A stream a guest writes to, bounded: standard output breaks the guest where it is full, standard error forgets.
#[derive(Clone)]
pub(crate) struct Output(Arc<Mutex<Inner>>);

struct Inner {
    kept: Kept,
    limit: usize,
}

enum Kept {
    /// All of it; more is a breach.
    All(BytesMut),
    /// The end of it, for the error; and the lines go to the log until they are too many.
    Tail { tail: VecDeque<u8>, logged: usize, line: Vec<u8>, gate: Arc<dyn Gate> },
}

const TAIL: usize = 4 << 10;

impl Output {
    /// Keeps all, at most `limit` bytes.
    pub(crate) fn all(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self(Arc::new(Mutex::new(Inner { kept: Kept::All(BytesMut::new()), limit })))
    }

    /// Passes lines to the gate, and keeps the end.
    pub(crate) fn log(gate: Arc<dyn Gate>) -> Self {
        let kept = Kept::Tail { tail: VecDeque::new(), logged: 0, line: Vec::new(), gate };
        Self(Arc::new(Mutex::new(Inner { kept, limit: MAX_STDERR })))
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Breach> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = inner.limit;
        match &mut inner.kept {
            Kept::All(all) => {
                if bytes.len() > limit - all.len() {
                    return Err(Breach::Output { limit });
                }
                all.extend_from_slice(bytes);
            }
            Kept::Tail { tail, logged, line, gate } => {
                let kept = &bytes[bytes.len().saturating_sub(TAIL)..];
                tail.drain(..(tail.len() + kept.len()).saturating_sub(TAIL));
                tail.extend(kept);
                for &byte in &bytes[..bytes.len().min(limit - *logged)] {
                    *logged += 1;
                    if byte != b'\n' {
                        line.push(byte);
                    }
                    if byte == b'\n' || line.len() >= TAIL || *logged == limit {
                        gate.stderr(&String::from_utf8_lossy(line));
                        line.clear();
                    }
                }
            }
        }
        Ok(())
    }

    /// A line of the host's own to the guest's author.
    pub(crate) fn say(&self, line: &str) {
        // Standard error forgets where it is full: it does not fail.
        drop(Self::write(self, format!("{line}\n").as_bytes()));
    }

    /// What was kept; the last line goes to the log.
    pub(crate) fn finish(&self) -> Bytes {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut inner.kept {
            Kept::All(all) => all.split().freeze(),
            Kept::Tail { tail, line, gate, .. } => {
                if !line.is_empty() {
                    gate.stderr(&String::from_utf8_lossy(line));
                    line.clear();
                }
                tail.iter().copied().collect()
            }
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        Self::write(self, &bytes).map_err(|breach| StreamError::Trap(breach.into()))
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(64 << 10)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Self::write(&self, bytes).map(|()| bytes.len()).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
