//! When a workflow is started by itself.

use super::super::tree::{Kind, Tree};
use super::super::{Heard, Schedule};
use super::Reader;
use crate::message::Topic;
use crate::run::Target;
use crate::schedule::{Cron, MAX_OF_A_DOCUMENT, Overlap, Timing, Zone};
use crate::trigger::{MAX_AT_ONCE, OnPoison, Trigger};
use crate::{Timestamp, WorkflowName};

/// What else is to start a workflow one day.
const RESERVED: [&str; 1] = ["memory"];

impl Reader {
    /// What starts the workflow of this name by itself.
    pub(super) fn starts(&mut self, tree: &Tree, name: Option<&WorkflowName>) -> (Vec<Schedule>, Vec<Heard>) {
        let what = "`on` is a list of what starts the workflow, such as `- {schedule: \"0 6 * * 1-5\", zone: Europe/Berlin}` or `- {topic: orders}`";
        let items = self.list(tree, what).unwrap_or_default();
        if items.len() > MAX_OF_A_DOCUMENT {
            let message = format!(
                "a document has at most {MAX_OF_A_DOCUMENT} schedules and subscriptions, this one has {}",
                items.len()
            );
            self.fault(tree.place, message);
        }
        let (mut schedules, mut triggers): (Vec<Schedule>, Vec<Heard>) = (Vec::new(), Vec::new());
        let twice = |what: &str, first| format!("this {what} stands here a second time, first at {first}");
        for item in items.iter().take(MAX_OF_A_DOCUMENT) {
            if is_of_events(item) {
                let Some(trigger) = self.heard(item, name) else { continue };
                match triggers.iter().find(|other| other.trigger == trigger) {
                    Some(other) => self.fault(item.place, twice("subscription", other.place)),
                    None => triggers.push(Heard { trigger, place: item.place }),
                }
                continue;
            }
            let Some(schedule) = self.schedule(item) else { continue };
            match schedules.iter().find(|other| **other == schedule) {
                Some(other) => self.fault(item.place, twice("schedule", other.place)),
                None => schedules.push(schedule),
            }
        }
        (schedules, triggers)
    }

    fn heard(&mut self, tree: &Tree, name: Option<&WorkflowName>) -> Option<Trigger> {
        let mut fields = self.object(tree, "an entry of `on`")?;
        let topic = fields.take("topic").and_then(|tree| self.parsed::<Topic>(tree, "`topic`"));
        let (is_filtered, filter) = match fields.take("where") {
            Some(tree) => (true, self.filter(tree)),
            None => (false, None),
        };
        let at_once = match fields.take("at-once") {
            Some(tree) => self.count(tree, "`at-once`", 1, MAX_AT_ONCE),
            None => Some(Trigger::AT_ONCE),
        };
        let on_poison = match fields.take("on-poison") {
            Some(tree) => self.word(tree, "`on-poison`", &OnPoison::WORDS),
            None => Some(OnPoison::default()),
        };
        self.refuse_the_rest(fields, "a subscription");
        if is_filtered && filter.is_none() {
            return None;
        }
        let start = Target::Workflow(name?.clone());
        Some(Trigger { topic: topic?, filter, start, at_once: at_once?, on_poison: on_poison? })
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
        let until = fields.take("until").map(|tree| self.parsed::<Timestamp>(tree, "`until`"));
        let input = fields.take("input").map(Tree::to_value);
        self.refuse_the_rest(fields, "a schedule");
        let until = match until {
            Some(None) => return None,
            until => until.flatten(),
        };
        Some(Schedule {
            timing: Timing::new(cron?, zone?, overlap?, catch_up?).ending(until),
            input,
            place: tree.place,
        })
    }
}

/// Whether an entry says which events start the workflow.
fn is_of_events(tree: &Tree) -> bool {
    matches!(&tree.kind, Kind::Object(fields) if fields.iter().any(|(key, _)| key.name == "topic"))
}
