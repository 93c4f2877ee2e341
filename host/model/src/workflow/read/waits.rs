//! What a run waits for besides its own steps.

use std::time::Duration;

use super::super::tree::{Kind, Tree};
use super::super::{Does, Moment, Wait};
use super::Reader;

impl Reader {
    pub(super) fn waits(&mut self, tree: &Tree) -> Option<Does> {
        let wait = match &tree.kind {
            Kind::Object(_) => {
                let mut fields = self.object(tree, "`wait`")?;
                let until = fields.take("until");
                self.refuse_the_rest(fields, "`wait`");
                match until {
                    Some(until) => self.moment(until).map(Wait::Until),
                    None => {
                        self.fault(tree.place, "`wait` is a duration such as `30m`, or `{until: …}`");
                        None
                    }
                }
            }
            _ => self.wait(tree, "`wait`", Duration::ZERO, Wait::LONGEST).map(Wait::For),
        };
        wait.map(Does::Wait)
    }

    fn moment(&mut self, tree: &Tree) -> Option<Moment> {
        match &tree.kind {
            Kind::Text(text) if text.starts_with('$') => self.pick(text, tree.place).map(Moment::Picked),
            Kind::Object(_) => {
                let picked = self.pick_or_else(tree);
                if picked.is_none() {
                    self.fault(
                        tree.place,
                        "`until` is a time, or a pick of one: `$.input.at`, or `{pick: …, else: …}`",
                    );
                }
                picked.flatten().map(Moment::Picked)
            }
            _ => self.parsed(tree, "`until`").map(Moment::At),
        }
    }
}
