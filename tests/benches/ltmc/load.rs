//! The load: requests made beforehand, over HTTP/1.1 connections that stay open, from a process of its own with one thread:
//! what it costs is no part of what is measured, and the same for host and references. That process is this program again,
//! with `--load`: what to do comes by standard input, and what came of it goes by standard output.
//!
//! Invariants: every answer is looked at, and one that is no 2xx ends the load; the process ends by itself, a minute after
//! its time is up at the latest.

use std::io::{ErrorKind, Read as _, Write as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;

use crate::client::{self, Request};
use crate::rig;

/// How long answers may stay out when the time is up.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer.
const MOST: usize = 64 << 10;

/// How much load: until the time is up or as many requests are made.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Connections; each sends its next request when the answer is there.
    pub(crate) clients: usize,
    pub(crate) window: Duration,
    pub(crate) requests: u64,
}

/// What came of it.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) answered: u64,
    /// From the first request to the last answer.
    seconds: f64,
    /// Processor time of the load itself.
    processor: f64,
}

impl Done {
    /// Answers a second.
    pub(crate) fn rate(self) -> f64 {
        self.answered as f64 / self.seconds
    }

    /// Microseconds of processor time that the load itself took for a request.
    pub(crate) fn cost(self) -> f64 {
        self.processor / self.answered as f64 * 1e6
    }
}

#[derive(Serialize, Deserialize)]
struct Order {
    address: String,
    request: Request,
    load: Load,
}

impl Load {
    /// So many clients, for so long.
    pub(crate) fn lasting(clients: usize, window: Duration) -> Self {
        Self { clients, window, requests: u64::MAX }
    }

    /// Starts the process, and waits until all is answered.
    pub(crate) async fn put_on(self, address: &str, request: &Request) -> Result<Done> {
        let order = Order { address: address.to_owned(), request: request.clone(), load: self };
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.arg("--load").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("starting the load")?;
        let mut stdin = child.stdin.take().context("the load has no input")?;
        stdin.write_all(&serde_json::to_vec(&order)?).await?;
        drop(stdin);
        let output = child.wait_with_output().await?;
        ensure!(output.status.success(), "the load: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("what the load says of itself")
    }

    /// The same, where only answers a second matter.
    pub(crate) async fn rate(self, address: &str, request: &Request) -> Result<f64> {
        Ok(self.put_on(address, request).await?.rate())
    }
}

/// The process itself.
pub(crate) fn run() -> Result<()> {
    let order: Order = serde_json::from_reader(std::io::stdin().lock()).context("what to do")?;
    let done = order.carry_out()?;
    Ok(serde_json::to_writer(std::io::stdout().lock(), &done)?)
}

impl Order {
    fn carry_out(&self) -> Result<Done> {
        let Self { address, load, .. } = self;
        let mut request = self.request.clone();
        let mut poll = Poll::new()?;
        let mut connections = Vec::new();
        for number in 0..load.clients {
            let mut connection = Connection::open(address)?;
            poll.registry().register(&mut connection.stream, Token(number), Interest::READABLE)?;
            connections.push(connection);
        }
        let (mut sent, mut answered) = (0, 0);
        let mut events = Events::with_capacity(load.clients);
        let begun = Instant::now();
        for connection in connections.iter_mut().take(usize::try_from(load.requests).unwrap_or(usize::MAX)) {
            request.count(sent);
            connection.send(&request)?;
            sent += 1;
        }
        while answered < sent {
            let left = (load.window + PATIENCE).saturating_sub(begun.elapsed());
            match poll.poll(&mut events, Some(left)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            ensure!(!events.is_empty(), "answers stay out");
            for event in &events {
                let connection = &mut connections[event.token().0];
                if connection.receive()? {
                    answered += 1;
                    if sent < load.requests && begun.elapsed() < load.window {
                        request.count(sent);
                        connection.send(&request)?;
                        sent += 1;
                    }
                }
            }
        }
        Ok(Done { answered, seconds: begun.elapsed().as_secs_f64(), processor: rig::processor(std::process::id())? })
    }
}

struct Connection {
    stream: TcpStream,
    answer: Box<[u8]>,
    /// How much of it is there.
    filled: usize,
}

impl Connection {
    fn open(address: &str) -> Result<Self> {
        let stream = std::net::TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream: TcpStream::from_std(stream), answer: vec![0; MOST].into(), filled: 0 })
    }

    fn send(&mut self, request: &Request) -> Result<()> {
        let written = self.stream.write(request.bytes())?;
        ensure!(written == request.bytes().len(), "a request did not go out whole");
        Ok(())
    }

    /// Reads what is there; says whether the answer is whole.
    fn receive(&mut self) -> Result<bool> {
        loop {
            match self.stream.read(&mut self.answer[self.filled..]) {
                Ok(0) => bail!("the connection was closed, or the answer is too long"),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            let answer = &self.answer[..self.filled];
            if client::end(answer)?.is_some_and(|end| end <= answer.len()) {
                ensure!(
                    (200..300).contains(&client::status(answer)?),
                    "this was answered:\n{}",
                    String::from_utf8_lossy(answer)
                );
                self.filled = 0;
                return Ok(true);
            }
        }
    }
}
