//! Headers that requests and answers carry besides the usual: each is parsed once, here.
//!
//! Invariant: nothing a client sent comes back or goes into a log unless it was found to be short and plain.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use ltmc_model::{Payload, RunId, SessionId};

use crate::problem::{Problem, Result};

/// The run an answer is about, and that in which a client works.
pub(crate) const LTMC_RUN: HeaderName = HeaderName::from_static("ltmc-run");
/// The number of a turn in its session.
pub(crate) const LTMC_TURN: HeaderName = HeaderName::from_static("ltmc-turn");
/// The session a call or a run works in.
pub(crate) const LTMC_SESSION: HeaderName = HeaderName::from_static("ltmc-session");
/// The same key and request mean the same run.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that the answer is that of an earlier request with the same key.
pub(crate) const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The request's id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// RFC 7240.
pub(crate) const PREFER: HeaderName = HeaderName::from_static("prefer");
/// RFC 7240.
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// From which server-sent event on.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The request's id: the client's where it is 1 to 64 of letters, digits, `-`, `_` and `.`, otherwise a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    match headers.get(REQUEST_ID) {
        Some(given) if is_plain(given.as_bytes(), 64) => given.clone(),
        _ => new_request_id(),
    }
}

/// Unique in this process, and between processes as far as chance goes. It is a name for log lines, and no part of any
/// run: so it needs neither the clock nor the source of randomness behind the ports.
fn new_request_id() -> HeaderValue {
    static PROCESS: LazyLock<u32> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()) as u32);
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = format!("{:08x}-{:x}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed));
    HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("unnamed"))
}

fn is_plain(bytes: &[u8], longest: usize) -> bool {
    (1..=longest).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Whether the head is short enough, and the body comes as it is: in a coding that is not undone here its bytes would be
/// taken for something that they are not.
pub(crate) fn check(request: &Request, longest: usize) -> Result<()> {
    let headers = request.headers();
    let is_other = |name, plain: &str| {
        let mut values = headers.get_all(name).iter();
        // Where it stands more than once, it is a list.
        let one = values.next();
        one.is_some_and(|value| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(plain.as_bytes()))
            || values.next().is_some()
    };
    if is_other(header::TRANSFER_ENCODING, "chunked") {
        let why = "Of transfer codings `chunked` is taken, alone.";
        return Err(Problem::new("unsupported-transfer-coding", why).field("Transfer-Encoding").closing());
    }
    if is_other(header::CONTENT_ENCODING, "identity") {
        let why = "A body is sent as it is: without `Content-Encoding`, or with `identity`.";
        return Err(Problem::new("unsupported-media-type", why).field("Content-Encoding"));
    }
    // HTTP/1.1 has these bounds in its framing.
    if request.version() == Version::HTTP_2 {
        one_host(request)?;
        let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
        let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        if path > longest {
            return Err(uri_too_long());
        }
        if fields.sum::<usize>() + path > longest {
            return Err(too_large());
        }
    }
    Ok(())
}

/// Whether it is clear which host is meant: HTTP/2 says so by `:authority`, by `Host`, or by both alike.
fn one_host(request: &Request) -> Result<()> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let is_clear = match (hosts.next(), hosts.next(), authority) {
        (Some(host), None, Some(authority)) => host.as_bytes().eq_ignore_ascii_case(authority),
        (Some(_), None, None) | (None, None, Some(_)) => true,
        (_, Some(_), _) | (None, None, None) => false,
    };
    match is_clear && request.headers().get_all(header::CONTENT_LENGTH).iter().count() <= 1 {
        true => Ok(()),
        false => Err(Problem::new(
            "bad-request",
            "A request names one host, the same in `:authority` and `Host`, and one length.",
        )),
    }
}

/// The head has more bytes than are taken.
pub(crate) fn too_large() -> Problem {
    Problem::new("head-too-large", "The request's head has more bytes, or more fields, than are taken.")
}

/// The path and the query have more bytes than are taken.
pub(crate) fn uri_too_long() -> Problem {
    Problem::new("uri-too-long", "The request's path and query are too long.")
}

/// The caller's trace context, where it is well formed. As the standard asks, another one is ignored, not refused.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(TRACEPARENT).filter(|value| ltmc_model::run::is_traceparent(value.as_bytes()))
}

/// The idempotency key, where there is one.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = single(headers, &IDEMPOTENCY_KEY)? else { return Ok(None) };
    let bytes = value.as_bytes();
    if !(1..=255).contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_graphic) {
        let rule = "`Idempotency-Key` is 1 to 255 visible ASCII characters, such as a UUID.";
        return Err(Problem::new("bad-header", rule).field("Idempotency-Key"));
    }
    Ok(value.to_str().ok().map(str::to_owned))
}

/// The event to go on after, where one is named; `what` says what its number is.
pub(crate) fn last_event_id(headers: &HeaderMap, what: &str) -> Result<Option<u64>> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    let wrong = || Problem::new("bad-header", format!("`Last-Event-ID` is {what}.")).field("Last-Event-ID");
    number.map(Some).ok_or_else(wrong)
}

/// The run in which the client works, where one is named.
pub(crate) fn run(headers: &HeaderMap) -> Result<Option<RunId>> {
    let Some(value) = single(headers, &LTMC_RUN)? else { return Ok(None) };
    let run = value.to_str().ok().and_then(|text| text.parse().ok());
    let wrong = || Problem::new("bad-header", "`Ltmc-Run` is a run's id: that in which you work.").field("Ltmc-Run");
    run.map(Some).ok_or_else(wrong)
}

/// The session to work in, where one is named.
pub(crate) fn session(headers: &HeaderMap) -> Result<Option<SessionId>> {
    let Some(value) = single(headers, &LTMC_SESSION)? else { return Ok(None) };
    let text = value
        .to_str()
        .map_err(|_| Problem::new("bad-header", "`Ltmc-Session` is plain ASCII.").field("Ltmc-Session"))?;
    text.parse().map(Some).map_err(|e| Problem::new("bad-header", format!("{e}")).field("Ltmc-Session"))
}

/// The content type of a payload; none was said: bytes.
pub(crate) fn content_type(headers: &HeaderMap) -> Result<String> {
    let name = axum::http::header::CONTENT_TYPE;
    let Some(value) = single(headers, &name)? else { return Ok(mime::APPLICATION_OCTET_STREAM.to_string()) };
    let wrong = |why: String| Problem::new("bad-header", why).field("Content-Type");
    let text = value.to_str().map_err(|_| wrong("`Content-Type` is plain ASCII.".into()))?;
    if text.len() > Payload::MAX_CONTENT_TYPE {
        return Err(wrong(format!("`Content-Type` has at most {} bytes.", Payload::MAX_CONTENT_TYPE)));
    }
    if text.parse::<mime::Mime>().is_err() {
        return Err(wrong("`Content-Type` is a media type, such as application/json.".into()));
    }
    Ok(text.to_owned())
}

/// A header that is to stand once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Problem::new("bad-header", format!("`{name}` stands more than once.")).field(name.to_string())),
    }
}

/// What the client would like (RFC 7240). What is not known or not well formed is, as the standard asks, ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Prefer {
    /// Not to wait for the result.
    pub(crate) respond_async: bool,
    /// To wait so long for it.
    pub(crate) wait: Option<Duration>,
}

impl Prefer {
    /// The longest wait: whoever wants more asks again.
    pub(crate) const MAX_WAIT: Duration = Duration::from_secs(60);

    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        for value in headers.get_all(PREFER) {
            for preference in value.to_str().unwrap_or_default().split(',') {
                let (name, value) = match preference.split(';').next().unwrap_or_default().split_once('=') {
                    Some((name, value)) => (name.trim(), value.trim().trim_matches('"')),
                    None => (preference.split(';').next().unwrap_or_default().trim(), ""),
                };
                // the first of several counts
                if name.eq_ignore_ascii_case("respond-async") {
                    prefer.respond_async = true;
                } else if name.eq_ignore_ascii_case("wait") && prefer.wait.is_none() {
                    prefer.wait = value.parse().ok().map(|seconds| Duration::from_secs(seconds).min(Self::MAX_WAIT));
                }
            }
        }
        prefer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, values: &[&str]) -> HeaderMap {
        let name = HeaderName::from_static(name);
        values.iter().map(|value| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap())).collect()
    }

    #[test]
    fn a_request_id_is_taken_up_where_it_is_short_and_plain() {
        assert_eq!(request_id(&with("x-request-id", &["abc-1.2_3"])), "abc-1.2_3");
        for odd in ["", "a b", "<script>", "ä", "a\tb", &"a".repeat(65)] {
            assert_ne!(request_id(&with("x-request-id", &[odd])), odd);
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }

    #[test]
    fn a_trace_context_is_taken_up_where_it_is_well_formed() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(&with("traceparent", &[good])).unwrap(), good);
        for bad in [
            "",
            "00",
            &good[..54],
            &good.to_uppercase(),
            &good.replace("00-0", "ff-0"),
            &format!("{good}0"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert_eq!(traceparent(&with("traceparent", &[bad])), None, "{bad}");
        }
    }

    #[test]
    fn an_idempotency_key_is_visible_ascii_and_stands_once() {
        assert_eq!(idempotency_key(&HeaderMap::new()).unwrap(), None);
        assert_eq!(idempotency_key(&with("idempotency-key", &["k-1"])).unwrap().as_deref(), Some("k-1"));
        for bad in ["", "a b", "ä", &"k".repeat(256)] {
            assert!(idempotency_key(&with("idempotency-key", &[bad])).is_err(), "{bad}");
        }
        assert!(idempotency_key(&with("idempotency-key", &["a", "b"])).is_err());
    }

    #[test]
    fn a_session_is_an_id() {
        assert_eq!(session(&with("ltmc-session", &["s:1"])).unwrap().unwrap().as_str(), "s:1");
        assert!(session(&with("ltmc-session", &["s/1"])).is_err());
        assert!(session(&with("ltmc-session", &["ä"])).is_err());
    }

    #[test]
    fn the_run_in_which_a_client_works_is_an_id_that_stands_once() {
        let id = "019d6a3e-0000-7000-8000-000000000001";
        assert_eq!(run(&HeaderMap::new()).unwrap(), None);
        assert_eq!(run(&with("ltmc-run", &[id])).unwrap().unwrap().to_string(), id);
        for bad in [&["x"][..], &[""], &[id, id], &["\u{e4}"]] {
            assert!(run(&with("ltmc-run", bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_content_type_is_a_media_type() {
        assert_eq!(content_type(&HeaderMap::new()).unwrap(), "application/octet-stream");
        assert_eq!(
            content_type(&with("content-type", &["text/x-diff; charset=utf-8"])).unwrap(),
            "text/x-diff; charset=utf-8"
        );
        for bad in ["", "text", "ä/b", &format!("a/{}", "b".repeat(300))] {
            assert!(content_type(&with("content-type", &[bad])).is_err(), "{bad}");
        }
    }

    #[test]
    fn preferences_are_read_as_rfc_7240_writes_them() {
        let prefer = |values: &[&str]| Prefer::of(&with("prefer", values));
        let wait = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(prefer(&[]), Prefer::default());
        assert_eq!(prefer(&["respond-async"]), Prefer { respond_async: true, wait: None });
        assert_eq!(prefer(&["Respond-Async, wait=10"]), Prefer { respond_async: true, wait: wait(10) });
        assert_eq!(prefer(&["return=minimal", "wait = \"30\"; x=1"]), Prefer { respond_async: false, wait: wait(30) });
        assert_eq!(prefer(&["wait=5, wait=9"]).wait, wait(5));
        assert_eq!(prefer(&["wait=86400"]).wait, Some(Prefer::MAX_WAIT));
        for odd in ["wait", "wait=", "wait=-1", "wait=x", "wait=99999999999999999999999", ",;=,", "\u{e4}"] {
            assert_eq!(prefer(&[odd]), Prefer::default(), "{odd}");
        }
    }
}
