//! Where a request of HTTP/1.1 begins and ends, looked at before the HTTP library reads it: what could be read in two ways is
//! refused, for a proxy before this host may have read the other one.
//!
//! Refused are a line that ends with a line feed alone, other than one `Host`, `Content-Length` that stands twice or beside
//! `Transfer-Encoding`, a length with anything around it or beyond all bounds, and a request line or a head that is too long. Whatever
//! else is wrong the library refuses.
//!
//! Invariants: every byte is looked at once, and no more of a head is kept than one line. To refuse something else: a line in
//! [`Head::field`] or [`Head::end`].

use crate::headers;
use crate::problem::Problem;

/// The longest body, or chunk of one, that can be said: the library has an answer of its own for longer ones, and with a chunk's last
/// line it is a number still.
const LONGEST_BODY: u64 = u64::MAX - 4;
/// The longest line before a chunk, or after the last one, that is looked at.
const LONGEST_CHUNK_LINE: usize = 1 << 10;

/// How far a connection's bytes have come.
#[derive(Debug)]
pub(crate) struct Framing {
    longest_head: usize,
    at: At,
    /// Of the line that has begun, what has come.
    line: Vec<u8>,
    is_first: bool,
}

#[derive(Debug)]
enum At {
    Head(Head),
    Body(u64),
    /// The line that says how long the next chunk is.
    ChunkLength,
    /// So much of a chunk, and of the end of its last line.
    Chunk(u64),
    Trailers,
    /// It is not HTTP/1, or has been refused: nothing is looked at any more.
    Elsewhere,
}

/// What has come of a head.
#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    /// None: the request line has not come.
    is_http11: Option<bool>,
    hosts: usize,
    is_chunked: bool,
    length: Option<u64>,
}

/// What is wrong with the bytes that came, and from where on.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) at: usize,
    pub(crate) problem: Problem,
}

impl Framing {
    pub(crate) fn new(longest_head: usize) -> Self {
        Self { longest_head, at: At::Head(Head::default()), line: Vec::new(), is_first: true }
    }

    /// Whether whole requests have come, and nothing more.
    pub(crate) fn is_between_requests(&self) -> bool {
        matches!(&self.at, At::Head(head) if head.bytes == 0)
    }

    /// Looks at the next bytes.
    ///
    /// # Errors
    /// Where they are to be refused: then what comes afterwards is not looked at.
    pub(crate) fn look(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        let mut at = 0;
        while at < bytes.len() {
            match self.step(&bytes[at..]) {
                Ok(seen) => at += seen,
                Err(problem) => {
                    (self.at, self.line) = (At::Elsewhere, Vec::new());
                    return Err(Wrong { at, problem });
                }
            }
        }
        Ok(())
    }

    /// Looks at some of the bytes there are; how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Problem> {
        let longest = match &mut self.at {
            At::Elsewhere => return Ok(bytes.len()),
            At::Body(left) | At::Chunk(left) => {
                let seen = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= seen as u64;
                if *left == 0 {
                    let is_chunk = matches!(self.at, At::Chunk(_));
                    self.at = if is_chunk { At::ChunkLength } else { At::Head(Head::default()) };
                }
                return Ok(seen);
            }
            At::Head(head) => self.longest_head.saturating_sub(head.bytes),
            At::ChunkLength | At::Trailers => LONGEST_CHUNK_LINE.saturating_sub(self.line.len()),
        };
        let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let seen = end.unwrap_or(bytes.len());
        if seen > longest {
            return Err(self.too_long());
        }
        if let At::Head(head) = &mut self.at {
            head.bytes += seen;
        }
        self.line.extend_from_slice(&bytes[..seen]);
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            let Some(text) = line.strip_suffix(b"\r\n") else {
                return Err(bad("A line of the head ends with a line feed alone; it ends with CR and LF."));
            };
            self.line_came(text)?;
            (self.line, self.is_first) = (line, false);
            self.line.clear();
        }
        Ok(seen)
    }

    fn too_long(&self) -> Problem {
        match &self.at {
            At::Head(Head { is_http11: None, .. }) => headers::uri_too_long(),
            At::Head(_) => headers::too_large(),
            _ => bad("A line between the chunks of the body is too long."),
        }
    }

    fn line_came(&mut self, line: &[u8]) -> Result<(), Problem> {
        match &mut self.at {
            At::Head(head) if head.is_http11.is_none() => {
                if self.is_first && line == b"PRI * HTTP/2.0" {
                    self.at = At::Elsewhere;
                } else if line.is_empty() {
                    // What some clients send after a body.
                    head.bytes = 0;
                } else {
                    head.is_http11 = Some(line.ends_with(b" HTTP/1.1"));
                }
            }
            At::Head(head) if line.is_empty() => self.at = head.end()?,
            At::Head(head) => head.field(line)?,
            At::ChunkLength => {
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let length = std::str::from_utf8(&line[..digits]).ok();
                let length = length.and_then(|digits| u64::from_str_radix(digits, 16).ok());
                // Nothing stands behind it, or what somebody else may know and we do not.
                let is_alone = matches!(line.get(digits), None | Some(b';'));
                let length = length.filter(|length| is_alone && *length <= LONGEST_BODY);
                self.at = match length.ok_or_else(|| bad("A chunk of the body does not say how long it is."))? {
                    0 => At::Trailers,
                    // Its last line ends behind it.
                    length => At::Chunk(length + 2),
                };
            }
            At::Trailers if line.is_empty() => self.at = At::Head(Head::default()),
            At::Trailers | At::Body(_) | At::Chunk(_) | At::Elsewhere => {}
        }
        Ok(())
    }
}

impl Head {
    fn field(&mut self, line: &[u8]) -> Result<(), Problem> {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default().trim_ascii());
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
            if self.hosts > 1 {
                return Err(bad("`Host` stands more than once.").field("Host"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(bad("`Content-Length` stands more than once.").field("Content-Length"));
            }
            let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let wrong = || bad("`Content-Length` is a number of bytes.").field("Content-Length");
            let length = digits.and_then(|digits| digits.parse().ok()).filter(|length| *length <= LONGEST_BODY);
            self.length = Some(length.ok_or_else(wrong)?);
        }
        if self.is_chunked && self.length.is_some() {
            let why = "`Content-Length` and `Transfer-Encoding` say each how long the body is: send one of them.";
            return Err(bad(why).field("Content-Length"));
        }
        Ok(())
    }

    /// What comes after it.
    fn end(&self) -> Result<At, Problem> {
        if self.is_http11 == Some(true) && self.hosts == 0 {
            return Err(bad("`Host` is missing: it has to stand in every request of HTTP/1.1.").field("Host"));
        }
        Ok(match self.length.unwrap_or_default() {
            _ if self.is_chunked => At::ChunkLength,
            0 => At::Head(Self::default()),
            length => At::Body(length),
        })
    }
}

fn bad(why: &'static str) -> Problem {
    Problem::new("bad-request", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = 1_000;

    /// How many bytes are let through, and whether requests are whole then; the same however the bytes come.
    fn looked(bytes: &[u8]) -> Result<bool, usize> {
        let at_once = {
            let mut framing = Framing::new(LONGEST);
            framing.look(bytes).map(|()| framing.is_between_requests()).map_err(|wrong| wrong.at)
        };
        let (mut framing, mut refused) = (Framing::new(LONGEST), false);
        for byte in bytes {
            refused |= framing.look(std::slice::from_ref(byte)).is_err();
        }
        assert_eq!(refused, at_once.is_err(), "{}", String::from_utf8_lossy(bytes));
        assert!(refused || at_once == Ok(framing.is_between_requests()));
        at_once
    }

    #[test]
    fn what_can_be_read_in_one_way_passes() {
        for (sent, is_whole) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
            ("\r\nGET / HTTP/1.1\r\nhOST: x\r\n\r\n\r\n", true),
            ("GET / HTTP/1.0\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: x\r\n", false),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n\n\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n\n\n", false),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                 a;x=y\r\n\n\n23456789\r\n1\r\n\n\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
                true,
            ),
            ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", false),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\0\n", false),
        ] {
            assert_eq!(looked(sent.as_bytes()), Ok(is_whole), "{sent:?}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused_wherever_it_comes() {
        let long = "x".repeat(LONGEST);
        for wrong in [
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: x\r\nhost: y\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551614\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\t;a=b\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n 3\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "PRI * HTTP/2.0\n\r\n",
            &format!("GET /{long} HTTP/1.1\r\n"),
            &format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n"),
        ] {
            assert!(looked(wrong.as_bytes()).is_err(), "{wrong:?}");
            let before = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
            let after = looked(format!("{before}{wrong}").as_bytes());
            assert!(after.is_err_and(|at| at >= before.len()), "{wrong:?} after another");
        }
    }

    #[test]
    fn a_request_line_that_is_too_long_is_told_from_a_head_that_is() {
        let code = |sent: String| {
            let wrong = Framing::new(LONGEST).look(sent.as_bytes()).unwrap_err();
            wrong.problem.status().as_u16()
        };
        assert_eq!(code(format!("GET /{} HTTP/1.1\r\n", "x".repeat(LONGEST))), 414);
        assert_eq!(code(format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(LONGEST))), 431);
    }
}
