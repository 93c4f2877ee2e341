//! How fast a subscription starts runs, and which events start one together.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::tree::{Kind, Tree};
use super::super::{Pick, Source};
use super::{Fields, Reader};
use crate::gather::{Batch, Gather, Join, LEAST_WAIT, MAX_BATCH, MAX_PARTS, MOST_WAIT, Rate};

/// The longest name of a part of a join.
const MAX_NAME: usize = 64;

impl Reader {
    /// How often a subscription starts runs at most; none where it says nothing, or something wrong.
    pub(super) fn rate(&mut self, fields: &mut Fields<'_>) -> Option<Rate> {
        let tree = fields.take("rate")?;
        let mut parts = self.object(tree, "`rate`")?;
        let starts = self.counted(tree, &mut parts, ("starts", "`starts` of `rate`"), (1, Rate::MAX_STARTS));
        let per = self.lasting(tree, &mut parts, ("per", "`per` of `rate`"), Rate::MAX_PER);
        self.refuse_the_rest(parts, "`rate`");
        Some(Rate { starts: starts?, per: per? })
    }

    /// `debounce`, `batch` or `join`.
    pub(super) fn gather(&mut self, fields: &mut Fields<'_>) -> Option<Gather> {
        let found = [fields.take("debounce"), fields.take("batch"), fields.take("join")];
        let mut there = found.iter().flatten();
        there.next();
        if let Some(second) = there.next() {
            self.fault(second.place, "a subscription has one of `debounce`, `batch` and `join`");
            return None;
        }
        match found {
            [Some(tree), ..] => {
                let quiet = self.wait(tree, "`debounce`", LEAST_WAIT, Rate::MAX_PER)?;
                Some(Gather::Debounce(millis(quiet)))
            }
            [_, Some(tree), _] => {
                let mut parts = self.object(tree, "`batch`")?;
                let events = self.counted(tree, &mut parts, ("events", "`events` of `batch`"), (2, MAX_BATCH));
                let within = self.lasting(tree, &mut parts, ("within", "`within` of `batch`"), MOST_WAIT);
                self.refuse_the_rest(parts, "`batch`");
                Some(Gather::Batch(Batch { events: events?, within: within? }))
            }
            [_, _, Some(tree)] => self.join(tree),
            _ => None,
        }
    }

    fn join(&mut self, tree: &Tree) -> Option<Gather> {
        let mut parts = self.object(tree, "`join`")?;
        let of = self.joined(tree, &mut parts);
        let most = of.as_ref().map_or(1, |of| u32::try_from(of.len()).unwrap_or(u32::MAX));
        let need = match parts.take("need") {
            None => Some(most),
            Some(tree) if matches!(&tree.kind, Kind::Text(text) if text == "all") => Some(most),
            Some(tree) => self.count(tree, "`need` of `join`, where it is not `all`,", 1, most),
        };
        let by = match parts.take("by") {
            Some(tree) => self.by(tree),
            None => {
                self.fault(tree.place, "`by` of `join` is missing: where an event says with which others it belongs");
                None
            }
        };
        let within = self.lasting(tree, &mut parts, ("within", "`within` of `join`"), MOST_WAIT);
        self.refuse_the_rest(parts, "`join`");
        Some(Gather::Join(Join { of: of?, need: need?, by: by?, within: within? }))
    }

    /// Which events are joined.
    fn joined(&mut self, around: &Tree, parts: &mut Fields<'_>) -> Option<BTreeMap<String, crate::filter::Filter>> {
        let what = "`of` of `join` is an object: which events, each kind under a name of its own";
        let Some(tree) = parts.take("of") else {
            self.fault(around.place, format!("`of` of `join` is missing: {what}"));
            return None;
        };
        let Kind::Object(kinds) = &tree.kind else {
            self.fault(tree.place, what);
            return None;
        };
        if !(2..=MAX_PARTS).contains(&kinds.len()) {
            self.fault(tree.place, format!("`join` is of 2 to {MAX_PARTS} kinds of events, not of {}", kinds.len()));
            return None;
        }
        self.refuse_duplicates(kinds);
        let mut of = BTreeMap::new();
        for (key, kind) in kinds {
            if !ltmc_rules::is_printable(&key.name, MAX_NAME) {
                self.fault(key.place, format!("a name of what is joined has 1 to {MAX_NAME} bytes"));
            }
            if let Some(filter) = self.filter(kind) {
                of.insert(key.name.clone(), filter);
            }
        }
        (of.len() == kinds.len()).then_some(of)
    }

    /// Where an event says with which others it belongs.
    fn by(&mut self, tree: &Tree) -> Option<Vec<String>> {
        let text = self.text(tree, "`by` of `join`")?;
        let was = std::mem::replace(&mut self.scope.is_of_event, true);
        let pick = self.pick(&text, tree.place);
        self.scope.is_of_event = was;
        match pick {
            Some(Pick { source: Source::Event, path, .. }) if !path.is_empty() => Some(path),
            Some(_) => {
                self.fault(tree.place, "`by` of `join` is of the event: `$.data…`, or `$.event.subject`");
                None
            }
            None => None,
        }
    }

    fn counted(
        &mut self,
        around: &Tree,
        fields: &mut Fields<'_>,
        (name, what): (&'static str, &str),
        (least, most): (u32, u32),
    ) -> Option<u32> {
        match fields.take(name) {
            Some(tree) => self.count(tree, what, least, most),
            None => {
                self.fault(around.place, format!("{what} is missing: a whole number from {least} to {most}"));
                None
            }
        }
    }

    fn lasting(
        &mut self,
        around: &Tree,
        fields: &mut Fields<'_>,
        (name, what): (&'static str, &str),
        most: Duration,
    ) -> Option<u64> {
        match fields.take(name) {
            Some(tree) => self.wait(tree, what, LEAST_WAIT, most).map(millis),
            None => {
                self.fault(around.place, format!("{what} is missing: a duration such as `10s`"));
                None
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
