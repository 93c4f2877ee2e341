//! What a run waits for besides its own steps, and what it tells others.

use std::time::Duration;

use serde_json::Value;

use super::super::tree::{Kind, Tree};
use super::super::{Ask, Does, Emit, Listen, Moment, Remind, Since, Template, Wait};
use super::{Fields, Reader};
use crate::Payload;
use crate::caller::Role;
use crate::message::{self, Topic};
use crate::question::Question;

impl Reader {
    pub(super) fn waits(&mut self, tree: &Tree) -> Option<Does> {
        let wait = match &tree.kind {
            Kind::Object(_) => {
                let mut fields = self.object(tree, "`wait`")?;
                let wait = match (fields.take("until"), fields.take("topic")) {
                    (Some(until), None) => self.moment(until).map(Wait::Until),
                    (None, Some(topic)) => self.listen(topic, &mut fields).map(|listen| Wait::Event(Box::new(listen))),
                    _ => {
                        self.fault(tree.place, "`wait` is a duration such as `30m`, `{until: …}` or `{topic: …}`");
                        None
                    }
                };
                self.refuse_the_rest(fields, "what `wait` waits for");
                wait
            }
            _ => self.wait(tree, "`wait`", Duration::ZERO, Wait::LONGEST).map(Wait::For),
        };
        wait.map(Does::Wait)
    }

    pub(super) fn ask(&mut self, tree: &Tree) -> Option<Does> {
        let mut fields = self.object(tree, "`ask`")?;
        let title = match fields.take("title") {
            Some(tree) => self.title(tree),
            None => {
                self.fault(tree.place, "`title` is missing: what is asked, in a line");
                None
            }
        };
        let of = match fields.take("of") {
            Some(tree) => self.word(tree, "`of`", &Ask::ROLES),
            None => {
                self.fault(tree.place, "`of` is missing: the smallest role that may answer, such as `admin`");
                None
            }
        };
        let show = fields.take("show").and_then(|tree| self.template(tree));
        let schema = fields.take("schema").and_then(|tree| {
            if matches!(tree.kind, Kind::Object(_) | Kind::Bool(_)) {
                return Some((tree.to_value(), tree.place));
            }
            self.fault(tree.place, format!("`schema` is a JSON Schema: an object, this is {}", tree.describe()));
            None
        });
        let remind = fields.take("remind").and_then(|tree| self.remind(tree));
        self.refuse_the_rest(fields, "what is asked");
        Some(Does::Ask(Box::new(Ask { title: title?, of: of.unwrap_or(Role::Admin), show, schema, remind })))
    }

    pub(super) fn remind(&mut self, tree: &Tree) -> Option<Remind> {
        let mut fields = self.object(tree, "`remind`")?;
        let every = match fields.take("every") {
            Some(tree) => self.wait(tree, "`every`", Remind::SHORTEST, Remind::LONGEST),
            None => {
                self.fault(tree.place, "`every` is missing: how often people are reminded, such as `4h`");
                None
            }
        };
        let topic = self.topic(&mut fields, tree, "`remind`");
        self.refuse_the_rest(fields, "how people are reminded");
        Some(Remind { every: every?, topic: topic? })
    }

    pub(super) fn emit(&mut self, tree: &Tree) -> Option<Does> {
        let mut fields = self.object(tree, "`emit`")?;
        let topic = self.topic(&mut fields, tree, "`emit`");
        let kind = match fields.take("type") {
            Some(tree) => self.kind(tree),
            None => {
                self.fault(tree.place, "`type` is missing: what happened, such as `review.done`");
                None
            }
        };
        let subject = fields.take("subject").and_then(|tree| self.subject(tree));
        let data = fields.take("data").and_then(|tree| self.template(tree));
        self.refuse_the_rest(fields, "an event");
        Some(Does::Emit(Box::new(Emit { topic: topic?, kind: kind?, subject, data })))
    }

    fn topic(&mut self, fields: &mut Fields<'_>, around: &Tree, what: &str) -> Option<Topic> {
        match fields.take("topic") {
            Some(tree) => self.parsed(tree, "`topic`"),
            None => {
                self.fault(around.place, format!("`topic` of {what} is missing: a topic's name"));
                None
            }
        }
    }

    fn subject(&mut self, tree: &Tree) -> Option<Template> {
        let subject = self.template(tree)?;
        if let Template::Pick(_) = &subject {
            return Some(subject);
        }
        let wrong = match &subject {
            Template::Constant(Value::String(text)) => message::check("any", Some(text), &Payload::default()).err(),
            _ => Some(format!("it is a text, or a pick of one, this is {}", tree.describe())),
        };
        match wrong {
            None => Some(subject),
            Some(why) => {
                self.fault(tree.place, format!("`subject`: {why}"));
                None
            }
        }
    }

    pub(super) fn kind(&mut self, tree: &Tree) -> Option<String> {
        let kind: String = self.parsed(tree, "`type`")?;
        match message::check(&kind, None, &Payload::default()) {
            Ok(()) => Some(kind),
            Err(why) => {
                self.fault(tree.place, format!("`type`: {why}"));
                None
            }
        }
    }

    fn title(&mut self, tree: &Tree) -> Option<String> {
        let text = match &tree.kind {
            Kind::Text(text) => Some(text.clone()),
            _ => None,
        };
        let fits =
            |text: &String| (1..=Question::MAX_TITLE).contains(&text.len()) && !text.chars().any(|c| c.is_control());
        let title = text.filter(fits);
        if title.is_none() {
            let most = Question::MAX_TITLE;
            self.fault(tree.place, format!("`title` is a line of text, of at most {most} bytes"));
        }
        title
    }

    fn listen(&mut self, topic: &Tree, fields: &mut Fields<'_>) -> Option<Listen> {
        let topic = self.parsed(topic, "`topic`");
        let (mut subject, mut kind) = (None, None);
        if let Some(tree) = fields.take("match")
            && let Some(mut fields) = self.object(tree, "`match`")
        {
            subject = fields.take("subject").and_then(|tree| self.subject(tree));
            kind = fields.take("type").and_then(|tree| self.kind(tree));
            self.refuse_the_rest(fields, "`match`");
        }
        self.scope.is_of_event = true;
        let filter = fields.take("where").map(|tree| self.condition(tree));
        self.scope.is_of_event = false;
        let since =
            fields.take("since").map(|tree| self.word(tree, "`since`", &[("now", Since::Now), ("run", Since::Run)]));
        // One whose condition could not be read is left out.
        Some(Listen {
            topic: topic?,
            subject,
            kind,
            filter: filter.flatten(),
            since: since.flatten().unwrap_or(Since::Now),
        })
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
