//! Streams that read and write a file of a guest, each on a thread that may wait.
//!
//! Invariants: at most one read or write of a stream is under way; what one holds in memory is at most [`PIECE`] bytes.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use wasmtime_wasi::filesystem::{Descriptor, File};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};

use super::room::Held;
use super::{Dropped, lock};
use crate::slot::Slot;
use crate::threads::{Threads, Whose};

/// The most that is read or written at once, in bytes.
const PIECE: usize = 64 << 10;
/// What is read ahead for a guest that waits before it reads.
const AHEAD: usize = 4 << 10;

/// A file, and whose threads work on it.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) file: File,
    pub(super) held: Arc<Held>,
    pub(super) slot: Arc<Slot>,
    pub(super) threads: Arc<Threads>,
    pub(super) whose: Arc<Whose>,
    pub(super) dropped: Dropped,
}

impl Source {
    /// Its stream is gone.
    fn drop_file(&self) {
        lock(&self.dropped).push((Descriptor::File(self.file.clone()), self.held.clone()));
    }

    /// Only what is still granted is read or written.
    async fn stands(&self) -> io::Result<()> {
        if self.held.stands().await { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    async fn read(self, at: u64, size: usize) -> io::Result<Bytes> {
        self.stands().await?;
        let file = self.file.file.clone();
        let work = move || {
            let mut bytes = BytesMut::zeroed(size.min(PIECE));
            let read = again(|| file.read_at(&mut bytes, at))?;
            bytes.truncate(read);
            Ok(bytes.freeze())
        };
        self.threads.run(&self.whose, "read", work).await.map_err(super::refused)?
    }

    /// Writes all of it, at this place or at the end; how much that was.
    async fn write(self, at: Option<u64>, bytes: Bytes) -> io::Result<u64> {
        self.stands().await?;
        let file = self.file.file.clone();
        let work = move || {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let done = (bytes.len() - rest.len()) as u64;
                let written = again(|| match at {
                    Some(at) => file.write_at(rest, at + done),
                    None => append(&file, rest),
                })?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                rest = &rest[written..];
            }
            Ok(bytes.len() as u64)
        };
        self.threads.run(&self.whose, "write", work).await.map_err(super::refused)?
    }
}

fn again(mut work: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match work() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Writes at the end, wherever that is by then.
#[cfg(target_os = "linux")]
fn append(file: &std::fs::File, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::pwritev2(file, &[io::IoSlice::new(bytes)], 0, rustix::io::ReadWriteFlags::APPEND)?)
}

#[cfg(not(target_os = "linux"))]
fn append(file: &std::fs::File, bytes: &[u8]) -> io::Result<usize> {
    let at = file.metadata()?.len();
    file.write_at(bytes, at)
}

/// Reads a file from a place on.
pub(super) struct Input {
    source: Source,
    at: u64,
    state: Reading,
}

enum Reading {
    Idle,
    UnderWay(AbortOnDropJoinHandle<io::Result<Bytes>>),
    Read(Bytes),
    Failed(io::Error),
    Closed,
}

impl Reading {
    fn of(read: io::Result<Bytes>) -> Self {
        match read {
            Ok(bytes) if bytes.is_empty() => Self::Closed,
            Ok(bytes) => Self::Read(bytes),
            Err(error) => Self::Failed(error),
        }
    }
}

impl Input {
    pub(super) fn new(source: Source, at: u64) -> Self {
        Self { source, at, state: Reading::Idle }
    }

    fn begin(&mut self, size: usize) {
        self.state = Reading::UnderWay(spawn(self.source.clone().read(self.at, size)));
    }

    async fn end(&mut self) {
        if let Reading::UnderWay(work) = &mut self.state {
            self.state = Reading::of(work.await);
        }
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match &mut self.state {
            Reading::Idle => {
                if size > 0 {
                    self.begin(size);
                }
                Ok(Bytes::new())
            }
            Reading::UnderWay(_) => Ok(Bytes::new()),
            Reading::Read(bytes) => {
                let piece = bytes.split_to(bytes.len().min(size));
                self.at += piece.len() as u64;
                if bytes.is_empty() {
                    self.state = Reading::Idle;
                }
                Ok(piece)
            }
            Reading::Failed(_) => match std::mem::replace(&mut self.state, Reading::Closed) {
                Reading::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                _ => Err(StreamError::Closed),
            },
            Reading::Closed => Err(StreamError::Closed),
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        let slot = self.source.slot.clone();
        let wait = async {
            self.end().await;
            if matches!(self.state, Reading::Idle) && size > 0 {
                self.state = Reading::of(self.source.clone().read(self.at, size).await);
            }
        };
        slot.wait_if_long(wait).await;
        self.read(size)
    }

    async fn cancel(&mut self) {
        // A guest that drops a stream waits for the read under way, so that it cannot leave any number of them behind.
        self.end().await;
        self.state = Reading::Closed;
    }
}

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        if matches!(self.state, Reading::Idle) {
            self.begin(AHEAD);
        }
        self.end().await;
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.source.drop_file();
    }
}

/// Writes a file from a place on, or at its end.
pub(super) struct Output {
    source: Source,
    /// None: the end.
    at: Option<u64>,
    state: Writing,
}

enum Writing {
    Idle,
    UnderWay(AbortOnDropJoinHandle<io::Result<u64>>),
    Failed(io::Error),
    Closed,
}

impl Output {
    pub(super) fn new(source: Source, at: Option<u64>) -> Self {
        Self { source, at, state: Writing::Idle }
    }

    async fn end(&mut self) {
        if let Writing::UnderWay(work) = &mut self.state {
            let written = work.await;
            self.wrote(written);
        }
    }

    fn wrote(&mut self, written: io::Result<u64>) {
        self.state = match written {
            Ok(written) => {
                self.at = self.at.map(|at| at + written);
                Writing::Idle
            }
            Err(error) => Writing::Failed(error),
        };
    }

    /// Why nothing can be written, if so; that is said once.
    fn fault(&mut self) -> Result<(), StreamError> {
        match &self.state {
            Writing::Idle | Writing::UnderWay(_) => Ok(()),
            Writing::Closed => Err(StreamError::Closed),
            Writing::Failed(_) => match std::mem::replace(&mut self.state, Writing::Closed) {
                Writing::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                _ => Err(StreamError::Closed),
            },
        }
    }
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        match self.state {
            Writing::Idle => {
                self.state = Writing::UnderWay(spawn(self.source.clone().write(self.at, bytes)));
                Ok(())
            }
            Writing::Closed => Err(StreamError::Closed),
            _ => Err(StreamError::trap("it wrote to a file without asking first how much may be written")),
        }
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        self.fault()
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        self.fault()?;
        Ok(if matches!(self.state, Writing::UnderWay(_)) { 0 } else { PIECE })
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        let slot = self.source.slot.clone();
        let wait = async {
            self.end().await;
            self.fault()?;
            let written = self.source.clone().write(self.at, bytes).await;
            self.wrote(written);
            self.fault()
        };
        slot.wait_if_long(wait).await
    }

    async fn cancel(&mut self) {
        self.end().await;
        self.state = Writing::Closed;
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        self.end().await;
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.source.drop_file();
    }
}
