//! A client as cheap as can be, for it shares the cores with what it measures: whole requests made beforehand, over
//! HTTP/1.1 connections that stay open. The same one for measured and reference.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What is sent again and again.
#[derive(Clone)]
pub(crate) struct Request(Arc<[u8]>);

impl Request {
    pub(crate) fn post(path: &str, key: &str, headers: &str, body: &str) -> Self {
        Self::with_body("POST", path, key, headers, body)
    }

    pub(crate) fn put(path: &str, key: &str, body: &str) -> Self {
        Self::with_body("PUT", path, key, "", body)
    }

    fn with_body(method: &str, path: &str, key: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        Self(format!("{head}{body}").into_bytes().into())
    }

    pub(crate) fn get(path: &str) -> Self {
        Self(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").into_bytes().into())
    }
}

pub(crate) struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(16 << 10) })
    }

    /// Sends a request, reads the answer whole, and gives its status.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<u16> {
        self.stream.write_all(&request.0).await?;
        self.answer.clear();
        let mut end = None;
        while end.is_none_or(|end| self.answer.len() < end) {
            ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "the connection was closed");
            ensure!(self.answer.len() < 1 << 20, "the answer is too long");
            if end.is_none() {
                end = head(&self.answer)?;
            }
        }
        let status = self.answer.get(9..12).and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
        status.context("the answer has no status")
    }

    /// The last answer, whole.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.answer).into_owned()
    }
}

/// Where an answer ends, once its head is there.
fn head(answer: &[u8]) -> Result<Option<usize>> {
    let Some(blank) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let length = answer[..blank].split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        name.eq_ignore_ascii_case(b"content-length:")
            .then(|| str::from_utf8(value).ok()?.trim().parse::<usize>().ok())?
    });
    Ok(Some(blank + 4 + length.context("the answer does not say its length")?))
}

/// How much load: until the time is up or as many requests are made.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) window: Duration,
    pub(crate) requests: u64,
}

impl Load {
    /// So many clients, for so long.
    pub(crate) fn lasting(clients: usize, window: Duration) -> Self {
        Self { clients, window, requests: u64::MAX }
    }

    /// Answers a second. Each client sends its next request when the answer is there; one that is not 200 is an error.
    pub(crate) async fn rate(self, address: &str, request: &Request) -> Result<f64> {
        let mut connections = Vec::new();
        for _ in 0..self.clients {
            connections.push(Connection::open(address).await?);
        }
        let (taken, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for mut connection in connections {
            let (request, taken, answered) = (request.clone(), taken.clone(), answered.clone());
            clients.spawn(async move {
                while begun.elapsed() < self.window && taken.fetch_add(1, Ordering::Relaxed) < self.requests {
                    match connection.send(&request).await? {
                        200 => answered.fetch_add(1, Ordering::Relaxed),
                        status => bail!("status {status}:\n{}", connection.text()),
                    };
                }
                Ok(())
            });
        }
        let all = async {
            while let Some(client) = clients.join_next().await {
                client??;
            }
            Ok::<(), anyhow::Error>(())
        };
        let patience = self.window + Duration::from_secs(60);
        tokio::time::timeout(patience, all).await.context("answers stay out")??;
        Ok(answered.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
    }
}
