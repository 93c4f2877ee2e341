//! What conditions of a declaration look at: `$.state…`, the data before the event, and `$.event…`, what came with it.

use serde_json::Value;

/// Where a value is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// What is looked into.
    pub source: Source,
    /// Names of fields and numbers of items, from the outside in.
    pub path: Vec<String>,
}

/// What is picked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The state's data.
    State,
    /// What came with the event: its patch.
    Event,
}

impl Pick {
    /// The longest text of one, in bytes.
    pub const MAX_LEN: usize = 1_024;

    /// Reads `$.state.a.b` or, as a JSON Pointer, `$.state/a/b`.
    ///
    /// # Errors
    /// What would be right.
    pub fn read(text: &str) -> Result<Self, String> {
        let sources = [("$.state", Source::State), ("$.event", Source::Event)];
        let found = sources.into_iter().find_map(|(start, source)| Some((source, text.strip_prefix(start)?)));
        let path = found.filter(|_| text.len() <= Self::MAX_LEN).and_then(|(source, rest)| Some((source, path(rest)?)));
        path.map(|(source, path)| Self { source, path }).ok_or_else(|| {
            let given: String = text.chars().take(80).collect();
            format!(
                "`{given}` is no pick of a state: one is `$.state.total`, the data before the event, or `$.event.total`, what came with \
                 it; or with a JSON Pointer, `$.state/total`"
            )
        })
    }

    /// What stands there.
    pub fn find<'a>(&self, state: &'a Value, event: &'a Value) -> Option<&'a Value> {
        let whole = if self.source == Source::State { state } else { event };
        crate::at(whole, &self.path)
    }
}

fn path(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    if let Some(pointer) = text.strip_prefix('/') {
        return Some(pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect());
    }
    let parts: Vec<String> = text.strip_prefix('.')?.split('.').map(str::to_owned).collect();
    parts.iter().all(|part| !part.is_empty() && !part.contains(['/', '~'])).then_some(parts)
}
