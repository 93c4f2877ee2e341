//! Logs by tracing, on standard error: text for people, JSON for programs.
//!
//! Invariants: a line carries the fields of every span it stands in (tenant, run, step); a key never gets out, whoever
//! wrote it into a message: what looks like one is cut on its way to the stream. An event is one line, whatever others'
//! words are in it: no line is forged, and a terminal obeys none.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Format, Log};
use crate::ui::{but_colours, plain_json};

/// Sends everything that is logged from here on to standard error.
///
/// # Errors
/// Where the level does not parse, or something logs already.
pub(crate) fn start(log: &Log) -> anyhow::Result<()> {
    let filter = filter(&log.level)?;
    let registry = tracing_subscriber::registry();
    match log.format {
        Format::Text => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_ansi(io::stderr().is_terminal())
                    .with_target(false)
                    .with_writer(Redacted(io::stderr))
                    .with_filter(filter),
            )
            .try_init()?,
        Format::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .fmt_fields(JsonFields::new())
                    .event_format(Lines)
                    .with_writer(Redacted(io::stderr))
                    .with_filter(filter),
            )
            .try_init()?,
    }
    Ok(())
}

/// What is logged. A driver that tells of every connection it makes is heard from warnings on, unless it is named.
fn filter(level: &str) -> anyhow::Result<Targets> {
    const TALKATIVE: &str = "neo4rs";
    let filter: Targets = level.parse()?;
    let least = filter.default_level().map(|level| level.min(LevelFilter::WARN));
    Ok(match least {
        Some(least) if !level.contains(TALKATIVE) => filter.with_target(TALKATIVE, least),
        _ => filter,
    })
}

/// One JSON object a line: `time`, `level`, `target`, `message`, and the fields of the event and of its spans beside them.
struct Lines;

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, JsonFields> for Lines {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut line = serde_json::Map::new();
        line.insert("time".into(), time.into());
        line.insert("level".into(), event.metadata().level().as_str().to_ascii_lowercase().into());
        line.insert("target".into(), event.metadata().target().into());
        // from the outermost span to the innermost, then the event: the nearer one wins
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>() {
                add(&mut line, &fields.fields);
            }
        }
        let mut fields = String::new();
        JsonFields::new().format_fields(Writer::new(&mut fields), event)?;
        add(&mut line, &fields);
        let text = plain_json(&serde_json::to_string(&line).map_err(|_| fmt::Error)?);
        writeln!(out, "{text}")
    }
}

fn add(line: &mut serde_json::Map<String, serde_json::Value>, fields: &str) {
    if let Ok(fields) = serde_json::from_str::<serde_json::Map<_, _>>(fields) {
        line.extend(fields);
    }
}

/// A stream that no key gets into.
struct Redacted<M>(M);

impl<'a, W: Write + 'a, M: Fn() -> W + 'a> MakeWriter<'a> for Redacted<M> {
    type Writer = RedactedWriter<W>;

    fn make_writer(&'a self) -> Self::Writer {
        RedactedWriter((self.0)())
    }
}

/// Takes whole lines, as the layers of tracing write them.
struct RedactedWriter<W>(W);

impl<W: Write> Write for RedactedWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let redacted = redact(line);
        let whole = redacted.as_deref().unwrap_or(line);
        let (words, end) = whole.strip_suffix(b"\n").map_or((whole, &b""[..]), |words| (words, b"\n"));
        if !is_plain(words) {
            let text = String::from_utf8_lossy(words).replace('\n', "\\n");
            self.0.write_all(but_colours(&text).as_bytes())?;
        } else {
            self.0.write_all(words)?;
        }
        self.0.write_all(end)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether there is nothing in it but ASCII that a terminal shows, and tabs.
fn is_plain(words: &[u8]) -> bool {
    words.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\t')
}

/// `ltmc_<id>_<secret>` becomes `ltmc_<id>_…`; none: there was no key in it.
fn redact(line: &[u8]) -> Option<Vec<u8>> {
    const MARK: &[u8] = b"ltmc_";
    const ID: usize = 12;
    let mut clean = None::<Vec<u8>>;
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = find(&line[at..], MARK) {
        let id = at + found + MARK.len();
        let is_key =
            line.get(id..id + ID).is_some_and(|b| b.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))
                && line.get(id + ID) == Some(&b'_');
        at = id;
        if is_key {
            let secret = id + ID + 1;
            let out = clean.get_or_insert_with(Vec::new);
            out.extend_from_slice(&line[copied..secret]);
            out.extend_from_slice("…".as_bytes());
            let length =
                line[secret..].iter().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_')).count();
            at = secret + length;
            copied = at;
        }
    }
    if let Some(out) = &mut clean {
        out.extend_from_slice(&line[copied..]);
    }
    clean
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_carries_what_its_spans_say_and_no_key() {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(Lines)
            .with_writer(Redacted(move || writer.clone()));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let run = tracing::info_span!("run", tenant = "acme", run = "r1");
            let _run = run.enter();
            let step = tracing::info_span!("step", step = "0/1");
            let _step = step.enter();
            tracing::warn!(attempt = 2, odd = "a\u{9b}b\u{202e}c\u{7f}", "sent ltmc_abcdefghijkl_S3cr3t-x and went on");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["tenant"], "acme");
        assert_eq!(line["run"], "r1");
        assert_eq!(line["step"], "0/1");
        assert_eq!(line["attempt"], 2);
        assert_eq!(line["level"], "warn");
        assert_eq!(line["odd"], "a\u{9b}b\u{202e}c\u{7f}", "it is JSON, and the same value: {text:?}");
        assert!(text.trim_end().chars().all(|c| (' '..='~').contains(&c) || c == '…'), "{text:?}");
        assert_eq!(line["message"], "sent ltmc_abcdefghijkl_… and went on");
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(true).with_writer(Redacted(move || writer.clone()));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let forged =
                "late\r\n2026-01-01T00:00:00Z ERROR the record is lost \u{1b}]0;owned\u{7}\u{9b}2J ltmc_abcdefghijkl_x";
            tracing::warn!(why = forged, message = %forged);
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.ends_with('\n') && text.contains("WARN") && !text.contains("ijkl_x"), "{text}");
        let colours = text.replace("\u{1b}[", "");
        assert!(!colours.trim_end().chars().any(char::is_control), "{colours:?}");
    }

    #[test]
    fn only_keys_are_cut() {
        assert_eq!(redact(b"ltmc_sandbox=debug, ltmc_, ltmc_abcdefghijkl"), None);
        let twice = redact(b"ltmc_abcdefghijkl_x ltmc_abcdefghijkl_y").unwrap();
        assert_eq!(String::from_utf8(twice).unwrap(), "ltmc_abcdefghijkl_… ltmc_abcdefghijkl_…");
    }
}
