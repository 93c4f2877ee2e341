//! Templates, picks and conditions.

use serde_json::Value;

use super::super::tree::{Kind, Tree};
use super::super::{Condition, Pick, Place, Source, Template, Test, With};
use super::{Reader, nearest};
use crate::filter::{Filter, is_attribute};
use crate::message::MAX_ATTRIBUTE;

impl Reader {
    pub(super) fn with(&mut self, tree: &Tree) -> Option<With> {
        match &tree.kind {
            Kind::Text(text) if text.starts_with("$.") => self.pick(text, tree.place).map(With::Pick),
            Kind::Object(_) => match self.template(tree)? {
                Template::Object(fields) => Some(With::Fields(fields)),
                Template::Constant(Value::Object(fields)) => {
                    Some(With::Fields(fields.into_iter().map(|(k, v)| (k, Template::Constant(v))).collect()))
                }
                Template::Pick(pick) => Some(With::Pick(pick)),
                _ => None,
            },
            _ => {
                let message = format!("`with` is an object or a pick such as `$.input`, this is {}", tree.describe());
                self.fault(tree.place, message);
                None
            }
        }
    }

    pub(super) fn template(&mut self, tree: &Tree) -> Option<Template> {
        match &tree.kind {
            Kind::Text(text) => match text.strip_prefix('$') {
                Some(rest) if rest.starts_with('$') => Some(Template::Constant(rest.into())),
                Some(_) => self.pick(text, tree.place).map(Template::Pick),
                None => Some(Template::Constant(text.clone().into())),
            },
            Kind::List(items) => {
                let items: Vec<Template> = items.iter().filter_map(|item| self.template(item)).collect();
                let constants: Option<Vec<Value>> = items.iter().map(constant).collect();
                Some(constants.map_or(Template::Array(items), |values| Template::Constant(Value::Array(values))))
            }
            Kind::Object(fields) => {
                if let Some(pick) = self.pick_or_else(tree) {
                    return pick.map(Template::Pick);
                }
                self.refuse_duplicates(fields);
                let fields: Vec<(String, Template)> =
                    fields.iter().filter_map(|(key, value)| Some((key.name.clone(), self.template(value)?))).collect();
                let constants: Option<serde_json::Map<String, Value>> =
                    fields.iter().map(|(name, value)| Some((name.clone(), constant(value)?))).collect();
                Some(constants.map_or(Template::Object(fields), |values| Template::Constant(Value::Object(values))))
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) => Some(Template::Constant(tree.to_value())),
        }
    }

    /// `{pick: …, else: …}`; none: the object is something else.
    pub(super) fn pick_or_else(&mut self, tree: &Tree) -> Option<Option<Pick>> {
        let Kind::Object(fields) = &tree.kind else { return None };
        let field = |name: &str| fields.iter().find(|(key, _)| key.name == name).map(|(_, value)| value);
        let (pick, or_else) = (field("pick")?, field("else")?);
        let Kind::Text(text) = &pick.kind else { return None };
        if fields.len() != 2 || !text.starts_with("$.") {
            return None;
        }
        Some(self.picked(text, pick.place, Some(or_else.to_value())))
    }

    pub(super) fn pick(&mut self, text: &str, place: Place) -> Option<Pick> {
        self.picked(text, place, None)
    }

    fn picked(&mut self, text: &str, place: Place, or_else: Option<Value>) -> Option<Pick> {
        let read = text.parse::<Pick>().and_then(|mut pick| {
            pick.source = self.resolve(pick.source, &mut pick.path)?;
            Ok(pick)
        });
        match read {
            Ok(mut pick) => {
                if let Source::Step(name) = &pick.source {
                    self.scope.picked(name.clone(), or_else.is_some(), place);
                }
                if pick.source == Source::Last && or_else.is_none() && !self.has_last() {
                    let message = "`$.last` is not there in a loop's first round: write `{pick: $.last, else: …}`";
                    self.fault(place, message);
                }
                if pick.source == Source::Rejected && or_else.is_none() {
                    let message = "`$.rejected` is not there at the first try: write `{pick: $.rejected, else: …}`";
                    self.fault(place, message);
                }
                if pick.source == Source::ScheduledAt && or_else.is_none() {
                    let message = "`$.run.scheduled-at` is not there in a run that somebody starts: write `{pick: \
                                   $.run.scheduled-at, else: …}`";
                    self.fault(place, message);
                }
                if pick.source == Source::Output && or_else.is_none() {
                    let message = "`$.output` is not there where the node acted and then failed: write `{pick: $.output, else: …}`, or \
                                   leave out `with`: what is done works on what the node gave, or else on what that was given";
                    self.fault(place, message);
                }
                pick.or_else = or_else;
                Some(pick)
            }
            Err(why) => {
                self.fault(place, why);
                None
            }
        }
    }

    pub(super) fn condition(&mut self, tree: &Tree) -> Option<Condition> {
        let mut tests = 0;
        let condition = self.part(tree, 1, &mut tests);
        if tests > Condition::MAX_TESTS {
            let message = format!("a condition has at most {} tests, this one has {tests}", Condition::MAX_TESTS);
            self.fault(tree.place, message);
        }
        condition
    }

    fn part(&mut self, tree: &Tree, depth: usize, tests: &mut usize) -> Option<Condition> {
        if depth > Condition::MAX_DEPTH {
            self.fault(tree.place, format!("conditions nest at most {} deep", Condition::MAX_DEPTH));
            return None;
        }
        let what = "a condition such as `{pick: $.input.kind, equals: bug}`";
        let mut fields = self.object(tree, what)?;
        let joined = (fields.take("all"), fields.take("any"), fields.take("not"), fields.take("pick"));
        if joined.3.is_none()
            && let Some(of_attributes) = self.attributes(&mut fields, tests)
        {
            let is_alone = joined.0.is_none() && joined.1.is_none() && joined.2.is_none();
            if !is_alone || of_attributes.len() > 1 {
                self.fault(tree.place, "a filter has one of `exact`, `prefix`, `suffix`, `all`, `any` and `not`");
            }
            self.refuse_the_rest(fields, "a condition");
            return of_attributes.into_iter().next();
        }
        let condition = match joined {
            (Some(parts), None, None, None) => self.parts(parts, "`all`", depth, tests).map(Condition::All),
            (None, Some(parts), None, None) => self.parts(parts, "`any`", depth, tests).map(Condition::Any),
            (None, None, Some(part), None) => {
                self.part(part, depth + 1, tests).map(|part| Condition::Not(Box::new(part)))
            }
            (None, None, None, Some(pick)) => {
                *tests += 1;
                let or_else = fields.take("else").map(Tree::to_value);
                let pick = match &pick.kind {
                    // What is not there is a value like another to a test: nothing has to be said for it.
                    Kind::Text(text) => {
                        let read = self.picked(text, pick.place, Some(or_else.clone().unwrap_or_default()));
                        read.map(|read| Pick { or_else, ..read })
                    }
                    _ => {
                        self.fault(
                            pick.place,
                            format!("`pick` is a pick such as `$.input.kind`, this is {}", pick.describe()),
                        );
                        None
                    }
                };
                let test = self.test(&mut fields, tree);
                pick.zip(test).map(|(pick, test)| Condition::Test { pick, test })
            }
            _ => {
                let mut message = "a condition has one of `pick` (with a test), `all`, `any` and `not`".to_owned();
                let mut words = vec!["pick", "all", "any", "not"];
                if self.scope.is_of_event {
                    message.push_str(", or of `exact`, `prefix` and `suffix`");
                    words.extend(["exact", "prefix", "suffix"]);
                }
                let meant = fields.left.iter().find_map(|(key, _)| nearest(&key.name, words.iter().copied()));
                if let Some(meant) = meant {
                    message.push_str(&format!("; did you mean `{meant}`?"));
                }
                self.fault(tree.place, message);
                return None;
            }
        };
        self.refuse_the_rest(fields, "a condition");
        condition
    }

    /// Tests of an event's attributes: `{exact: {type: report.filed}}`; none: there are no such.
    fn attributes(&mut self, fields: &mut super::Fields<'_>, tests: &mut usize) -> Option<Vec<Condition>> {
        type Of = fn(String) -> Test;
        let words: [(&'static str, Of); 3] =
            [("exact", |text| Test::Equals(text.into())), ("prefix", Test::Prefix), ("suffix", Test::Suffix)];
        let found: Vec<(&str, Of, &Tree)> =
            words.into_iter().filter_map(|(word, of)| Some((word, of, fields.take(word)?))).collect();
        if found.is_empty() {
            return None;
        }
        let read = found.into_iter().map(|(word, of, tree)| {
            if !self.scope.is_of_event {
                let message = format!("`{word}` of attributes is known in `where` only, where an event is looked at");
                self.fault(tree.place, message);
            }
            let Kind::Object(attributes) = &tree.kind else {
                let described = tree.describe();
                let message = format!("`{word}` is an object of an event's attributes, this is {described}");
                self.fault(tree.place, message);
                return Condition::All(Vec::new());
            };
            self.refuse_duplicates(attributes);
            if attributes.is_empty() {
                self.fault(tree.place, format!("`{word}` names no attribute: it has at least one"));
            }
            let mut parts = Vec::with_capacity(attributes.len().min(Condition::MAX_TESTS));
            for (key, value) in attributes {
                *tests += 1;
                if !is_attribute(&key.name) {
                    let (name, most) = (key.name.chars().take(80).collect::<String>(), Filter::MAX_NAME);
                    let message = format!(
                        "`{name}` is no attribute of an event: 1 to {most} of a-z and 0-9; its content is picked, as `$.data.name`"
                    );
                    self.fault(key.place, message);
                    continue;
                }
                match &value.kind {
                    Kind::Text(text) if (1..=MAX_ATTRIBUTE).contains(&text.len()) => {
                        let pick = Pick { source: Source::Event, path: vec![key.name.clone()], or_else: None };
                        parts.push(Condition::Test { pick, test: of(text.clone()) });
                    }
                    _ => {
                        let message = format!("the value of `{}` is a text of 1 to {MAX_ATTRIBUTE} bytes", key.name);
                        self.fault(value.place, message);
                    }
                }
            }
            match parts.len() {
                1 => parts.remove(0),
                _ => Condition::All(parts),
            }
        });
        Some(read.collect())
    }

    /// A condition over an event alone: what `on` and subscriptions have as `where`. A list is of such that all have to hold.
    pub(super) fn filter(&mut self, tree: &Tree) -> Option<Filter> {
        let was = std::mem::replace(&mut self.scope.is_of_event, true);
        let mut tests = 0;
        let condition = match &tree.kind {
            Kind::List(parts) => {
                Some(Condition::All(parts.iter().filter_map(|part| self.part(part, 1, &mut tests)).collect()))
            }
            _ => self.part(tree, 1, &mut tests),
        };
        self.scope.is_of_event = was;
        if tests > Condition::MAX_TESTS {
            let message = format!("a condition has at most {} tests, this one has {tests}", Condition::MAX_TESTS);
            self.fault(tree.place, message);
        }
        let condition = condition?;
        if condition.picks().iter().any(|pick| pick.source != Source::Event) {
            let message = "what starts a run knows of the event alone: `$.data…`, or `$.event…`";
            self.fault(tree.place, message);
            return None;
        }
        Some(Filter::of(tree.to_value(), condition))
    }

    fn parts(&mut self, tree: &Tree, what: &str, depth: usize, tests: &mut usize) -> Option<Vec<Condition>> {
        let parts = self.list(tree, &format!("{what} is a list of conditions"))?;
        if parts.is_empty() {
            self.fault(tree.place, format!("{what} is empty: it has at least one condition"));
        }
        Some(parts.iter().filter_map(|part| self.part(part, depth + 1, tests)).collect())
    }

    fn test(&mut self, fields: &mut super::Fields<'_>, around: &Tree) -> Option<Test> {
        let words = ["equals", "in", "less", "at-least", "prefix", "suffix", "exists", "json-schema"];
        let found: Vec<(&str, &Tree)> = words.iter().filter_map(|word| Some((*word, fields.take(word)?))).collect();
        let [(word, tree)] = found.as_slice() else {
            let message = format!("a condition with `pick` has one test: {}", words.join(", "));
            self.fault(around.place, message);
            return None;
        };
        let test = match (*word, &tree.kind) {
            ("equals", _) => Some(Test::Equals(tree.to_value())),
            ("in", Kind::List(items)) => Some(Test::In(items.iter().map(Tree::to_value).collect())),
            ("less", Kind::Number(number)) => Some(Test::Less(number.clone())),
            ("at-least", Kind::Number(number)) => Some(Test::AtLeast(number.clone())),
            ("prefix", Kind::Text(text)) => Some(Test::Prefix(text.clone())),
            ("suffix", Kind::Text(text)) => Some(Test::Suffix(text.clone())),
            ("exists", Kind::Bool(there)) => Some(Test::Exists(*there)),
            ("json-schema", _) if self.scope.is_of_event => {
                self.fault(tree.place, "`json-schema` is not asked of events: each that comes would be judged");
                return None;
            }
            ("json-schema", Kind::Object(_) | Kind::Bool(_)) => Some(Test::Fits(tree.to_value())),
            _ => None,
        };
        if test.is_none() {
            let wanted = match *word {
                "in" => "a list",
                "less" | "at-least" => "a number",
                "exists" => "true or false",
                "json-schema" => "a JSON Schema: an object",
                _ => "a text",
            };
            self.fault(tree.place, format!("`{word}` is {wanted}, this is {}", tree.describe()));
        }
        test
    }
}

fn constant(template: &Template) -> Option<Value> {
    match template {
        Template::Constant(value) => Some(value.clone()),
        Template::Pick(_) | Template::Object(_) | Template::Array(_) => None,
    }
}
