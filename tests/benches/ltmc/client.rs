//! A client as cheap as can be, for it shares the cores with what it measures: whole requests made beforehand, and of an
//! answer no more is read than where it ends and what its status is. Many at once are `load`.

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What is sent again and again.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    text: String,
    /// Where its number stands; none: it has none.
    number: Option<usize>,
}

impl Request {
    /// Stands where the number of a request is to be.
    pub(crate) const NUMBER: &str = "0000000000";

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
        Self { text: head + body, number: None }
    }

    /// The same, each time with a number of its own in place of [`Self::NUMBER`].
    pub(crate) fn numbered(self) -> Result<Self> {
        let at = self.text.rfind(Self::NUMBER).context("a request has no place for a number")?;
        Ok(Self { number: Some(at), ..self })
    }

    /// Gives it its number.
    pub(crate) fn count(&mut self, number: u64) {
        if let Some(at) = self.number {
            self.text.replace_range(at..at + Self::NUMBER.len(), &format!("{number:010}"));
        }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self { text: format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"), number: None }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
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
        self.stream.write_all(request.bytes()).await?;
        self.answer.clear();
        let mut end = None;
        while end.is_none_or(|end| self.answer.len() < end) {
            ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "the connection was closed");
            ensure!(self.answer.len() < 1 << 20, "the answer is too long");
            if end.is_none() {
                end = self::end(&self.answer)?;
            }
        }
        status(&self.answer)
    }

    /// The last answer, whole.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.answer).into_owned()
    }
}

pub(crate) fn status(answer: &[u8]) -> Result<u16> {
    let status = answer.get(9..12).and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    status.context("the answer has no status")
}

/// Where an answer ends, once its head is there.
pub(crate) fn end(answer: &[u8]) -> Result<Option<usize>> {
    let Some(blank) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let length = answer[..blank].split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        name.eq_ignore_ascii_case(b"content-length:")
            .then(|| str::from_utf8(value).ok()?.trim().parse::<usize>().ok())?
    });
    Ok(Some(blank + 4 + length.context("the answer does not say its length")?))
}
