//! When a workflow is started by itself.

use super::super::tree::{Kind, Tree};
use super::super::{Heard, Schedule};
use super::{Fields, Reader};
use crate::message::Topic;
use crate::run::Target;
use crate::schedule::{Cron, MAX_OF_A_DOCUMENT, Overlap, Timing, Zone};
use crate::trigger::{Feed, MAX_AT_ONCE, OnPoison, Trigger, Watched};
use crate::{Timestamp, WorkflowName};

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
                let start = name.cloned().map(Target::Workflow);
                let Some(trigger) = self.heard(item, start) else { continue };
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

    pub(super) fn heard(&mut self, tree: &Tree, start: Option<Target>) -> Option<Trigger> {
        let mut fields = self.object(tree, "an entry of `on`")?;
        let feed = self.feed(tree, &mut fields);
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
        let faults = self.faults.len();
        let (rate, gather) = (self.rate(&mut fields), self.gather(&mut fields));
        let is_wrong = self.faults.len() > faults;
        self.refuse_the_rest(fields, "a subscription");
        if is_wrong || is_filtered && filter.is_none() {
            return None;
        }
        Some(Trigger { feed: feed?, filter, start: start?, at_once: at_once?, on_poison: on_poison?, rate, gather })
    }

    /// What is looked through.
    fn feed(&mut self, tree: &Tree, fields: &mut Fields<'_>) -> Option<Feed> {
        let (topic, memory) = (fields.take("topic"), fields.take("memory"));
        let Some(memory) = memory else {
            if topic.is_none() {
                self.fault(tree.place, "`topic` is missing, or `memory`: what the subscription is to");
            }
            return topic.and_then(|tree| self.parsed::<Topic>(tree, "`topic`")).map(Feed::Topic);
        };
        if topic.is_some() {
            self.fault(memory.place, "a subscription is to a `topic` or to `memory`, not to both");
            return None;
        }
        let (scope, owner) = (fields.take("scope"), fields.take("owner"));
        let place = |field: &str| match field {
            "scope" => scope.map_or(memory.place, |tree| tree.place),
            "owner" => owner.or(scope).map_or(memory.place, |tree| tree.place),
            _ => memory.place,
        };
        let prefix = self.text(memory, "`memory`")?;
        let scope_name = scope.map(|tree| self.text(tree, "`scope`").ok_or(())).transpose().ok()?;
        let owner_name = owner.map(|tree| self.text(tree, "`owner`").ok_or(())).transpose().ok()?;
        match Watched::of(scope_name.as_deref(), owner_name.as_deref(), &prefix) {
            Ok(watched) => Some(Feed::Memory(watched)),
            Err((field, why)) => {
                let place = if field == "owner" && owner.is_none() { tree.place } else { place(field) };
                self.fault(place, why);
                None
            }
        }
    }

    fn schedule(&mut self, tree: &Tree) -> Option<Schedule> {
        let mut fields = self.object(tree, "an entry of `on`")?;
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
    matches!(&tree.kind, Kind::Object(fields) if fields.iter().any(|(key, _)| key.name == "topic" || key.name == "memory"))
}
