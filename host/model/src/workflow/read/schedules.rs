//! When a workflow is started by itself.

use super::super::Schedule;
use super::super::tree::Tree;
use super::Reader;
use crate::schedule::{Cron, MAX_OF_A_DOCUMENT, Overlap, Timing, Zone};

/// What else is to start a workflow one day.
const RESERVED: [&str; 2] = ["topic", "memory"];

impl Reader {
    pub(super) fn schedules(&mut self, tree: &Tree) -> Vec<Schedule> {
        let what =
            "`on` is a list of what starts the workflow, such as `- {schedule: \"0 6 * * 1-5\", zone: Europe/Berlin}`";
        let items = self.list(tree, what).unwrap_or_default();
        if items.len() > MAX_OF_A_DOCUMENT {
            let message = format!("a document has at most {MAX_OF_A_DOCUMENT} schedules, this one has {}", items.len());
            self.fault(tree.place, message);
        }
        let mut schedules: Vec<Schedule> = Vec::new();
        for item in items.iter().take(MAX_OF_A_DOCUMENT) {
            let Some(schedule) = self.schedule(item) else { continue };
            match schedules.iter().find(|other| **other == schedule) {
                Some(other) => {
                    self.fault(
                        item.place,
                        format!("this schedule stands here a second time, first at {}", other.place),
                    );
                }
                None => schedules.push(schedule),
            }
        }
        schedules
    }

    fn schedule(&mut self, tree: &Tree) -> Option<Schedule> {
        let mut fields = self.object(tree, "an entry of `on`")?;
        for word in RESERVED {
            if let Some((key, _)) = fields.take_unadvertised(word) {
                self.fault(key.place, format!("`{word}` is reserved: this host does not know it yet"));
                return None;
            }
        }
        let cron = match fields.take("schedule") {
            Some(tree) => self.parsed::<Cron>(tree, "`schedule`"),
            None => {
                self.fault(tree.place, "`schedule` is missing: a cron expression such as `0 6 * * 1-5`");
                None
            }
        };
        let zone = match fields.take("zone") {
            Some(tree) => self.parsed::<Zone>(tree, "`zone`"),
            None => "UTC".parse().ok(),
        };
        let overlap = fields.take("overlap");
        let overlap = overlap.map_or(Some(Overlap::default()), |tree| self.word(tree, "`overlap`", &Overlap::WORDS));
        let (least, most) = (Timing::LEAST_CATCH_UP, Timing::MOST_CATCH_UP);
        let catch_up = fields.take("catch-up");
        let catch_up = catch_up.map_or(Some(Timing::CATCH_UP), |tree| self.wait(tree, "`catch-up`", least, most));
        let input = fields.take("input").map(Tree::to_value);
        self.refuse_the_rest(fields, "a schedule");
        Some(Schedule { timing: Timing::new(cron?, zone?, overlap?, catch_up?), input, place: tree.place })
    }
}
