//! What a node does: a word, and the fields that belong to it.

use super::super::schema::patterns::PATTERNS;
use super::super::tree::{Key, Kind, Tree};
use super::super::{
    Ask, Choice, Collect, Does, Handler, Loop, MAX_DEPTH, MAX_STEPS, MapItems, Need, Needed, Node, OnFailure, OnLoss,
    Parallel, Place, Planning, StepName, SubWorkflow, Tolerate,
};
use super::scope::{Level, Place as At};
use super::{Fields, Reader, nearest};
use crate::WorkflowName;
use crate::agent::AgentRef;
use crate::child::OnParentEnd;

/// Words of patterns; a node has one of them. What else is a field of another is looked for where there is none.
fn patterns() -> impl Iterator<Item = &'static str> {
    PATTERNS.iter().filter_map(|form| Some(form.pattern?.0)).filter(|word| *word != "need")
}

/// Words that a node will mean one day.
const PATTERNS_TO_COME: &[&str] = &["on"];

impl Reader {
    /// A node, where it stands in its pattern being known to the scope.
    pub(super) fn node(&mut self, tree: &Tree, depth: usize) -> Option<Node> {
        if depth > MAX_DEPTH {
            self.fault(tree.place, format!("patterns nest at most {MAX_DEPTH} deep"));
            return None;
        }
        self.nodes += 1;
        let mut fields = self.object(tree, "a node of the flow")?;
        let mut words: Vec<(&Key, &Tree)> = patterns().filter_map(|word| fields.take_pair(word)).collect();
        if words.is_empty() {
            // Beside another word it is a field of that.
            words.extend(fields.take_pair("need"));
        }
        let mut reserved = false;
        for word in PATTERNS_TO_COME {
            if let Some((key, _)) = fields.take_unadvertised(word) {
                self.fault(key.place, format!("`{word}` is reserved for a pattern that this host does not know yet"));
                reserved = true;
            }
        }
        match words.as_slice() {
            [(key, pattern)] => {
                let place = if ["agent", "workflow"].contains(&key.name.as_str()) { pattern.place } else { key.place };
                self.known_node(key, pattern, fields, place, depth)
            }
            [(first, _), (second, _), ..] => {
                let (first, second) = (&first.name, &second.name);
                self.fault(words[1].0.place, format!("a node is either `{first}` or `{second}`, not both"));
                None
            }
            [] => {
                if !reserved {
                    let hint = fields.left.iter().find_map(|(key, _)| nearest(&key.name, patterns()));
                    let hint = hint.map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
                    let message = format!("a node of the flow has `agent`, `sequence` or another pattern{hint}");
                    self.fault(tree.place, message);
                }
                None
            }
        }
    }

    fn known_node(
        &mut self,
        key: &Key,
        pattern: &Tree,
        mut fields: Fields<'_>,
        place: Place,
        depth: usize,
    ) -> Option<Node> {
        let is_step = matches!(key.name.as_str(), "agent" | "need");
        self.steps += usize::from(is_step);
        let modifiers = self.modifiers(&mut fields, is_step);
        if let (true, Some(place)) = (key.name == "map", modifiers.with_at) {
            self.fault(place, "a `map` works on its items: what else they need is the `with` of what is under `do`");
        }
        let handled = modifiers.is_handled();
        let conditional = modifiers.when.is_some();
        self.scope.conditional(conditional);
        self.scope.enter(Level { at: At::Body, number: 0, may_be_missing: handled });
        let does = match key.name.as_str() {
            "agent" => self.agent(pattern, "`agent`").map(Does::Agent),
            "need" => self.needed(pattern, &mut fields),
            "plan" => self.plan(pattern, depth),
            "sequence" => self.sequence(key, pattern, depth),
            "parallel" => self.parallel(key, pattern, &mut fields, depth),
            "choice" => self.choice(key, pattern, depth),
            "map" => self.map(key, pattern, &mut fields, depth),
            "debate" => self.debate(key, pattern, depth),
            "hand-off" => self.hand_off(key, pattern, depth),
            "wait" => self.waits(pattern),
            "ask" => self.ask(pattern),
            "emit" => self.emit(pattern),
            "workflow" => self.workflow(pattern, &mut fields),
            "loop" => self.again(key, pattern, &mut fields, depth),
            word => {
                self.fault(key.place, format!("`{word}` is a pattern that cannot be read here"));
                None
            }
        };
        self.scope.leave();
        let what = match key.name.as_str() {
            "agent" => "a step".to_owned(),
            "need" => "a step with `need`".to_owned(),
            word => format!("`{word}`"),
        };
        self.refuse_the_rest(fields, &what);
        let id = match (modifiers.id.clone(), &does) {
            (Some(id), _) => Some(id),
            (None, Some(Does::Agent(agent))) => agent.name.as_str().parse::<StepName>().ok().map(|id| (id, place)),
            (None, _) => None,
        };
        if let Some((id, place)) = &id {
            self.name(id, *place);
        }
        let rescues = self.rescues(&modifiers, depth);
        let does = does?;
        if matches!(does, Does::Agent(_)) && id.is_none() {
            return None;
        }
        Some(modifiers.into_node(does, id.map(|(id, _)| id), rescues, place))
    }

    fn plan(&mut self, tree: &Tree, depth: usize) -> Option<Does> {
        let mut fields = self.object(tree, "`plan`")?;
        let may = match fields.take("may") {
            Some(tree) => self.agents_of(tree, "`may`", Planning::MAX_MAY),
            None => {
                self.fault(tree.place, "`may` is missing: the agents that may stand in a plan");
                None
            }
        };
        let most = u32::try_from(MAX_DEPTH).unwrap_or(u32::MAX);
        let deep = fields.take("depth").map_or(Some(Planning::DEPTH), |tree| self.count(tree, "`depth`", 1, most));
        let most = u32::try_from(MAX_STEPS).unwrap_or(u32::MAX);
        let at_most =
            fields.take("at-most").map_or(Some(Planning::AT_MOST), |tree| self.count(tree, "`at-most`", 1, most));
        let approve = fields.take("approve").and_then(|tree| match &tree.kind {
            Kind::Bool(true) => Some(Planning::APPROVES),
            Kind::Bool(false) => None,
            _ => self.word(tree, "`approve` is true, false or a role, which", &Ask::ROLES),
        });
        // What is left is the planner's step.
        let left = fields.left.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let step = Tree { kind: Kind::Object(left), place: tree.place };
        let planner = self.within(At::Sequence, 0, false, |reader| reader.node(&step, depth + 1))?;
        if !matches!(planner.does, Does::Agent(_)) {
            self.fault(tree.place, "a plan is written by an `agent`");
            return None;
        }
        Some(Does::Plan(Box::new(Planning { planner, may: may?, depth: deep?, at_most: at_most?, approve })))
    }

    fn needed(&mut self, tree: &Tree, fields: &mut Fields<'_>) -> Option<Does> {
        let text = match &tree.kind {
            Kind::Text(text) if !text.trim().is_empty() && text.len() <= Needed::MAX_TEXT => Some(text.clone()),
            _ => {
                let most = Needed::MAX_TEXT;
                self.fault(tree.place, format!("`need` says in 1 to {most} bytes of text what is to be done"));
                None
            }
        };
        let among = fields.take("among");
        let among = among.map_or(Some(Vec::new()), |tree| self.agents_of(tree, "`among`", Needed::MAX_AMONG));
        let at_least = fields.take("at-least").map_or(Some(Needed::AT_LEAST), |tree| {
            let number = match &tree.kind {
                Kind::Number(number) => number.as_f64().filter(|number| (0.0..=1.0).contains(number)),
                _ => None,
            };
            if number.is_none() {
                self.fault(tree.place, "`at-least` is a number from 0 to 1: how well an agent has to fit");
            }
            number
        });
        Some(Does::Need(Box::new(Needed { text: text?, among: among?, at_least: at_least? })))
    }

    /// A list of agents.
    fn agents_of(&mut self, tree: &Tree, what: &str, most: usize) -> Option<Vec<(AgentRef, Place)>> {
        let items = self.list(tree, &format!("{what} is a list of agents"))?;
        if items.is_empty() || items.len() > most {
            self.fault(tree.place, format!("{what} names 1 to {most} agents, this one {}", items.len()));
        }
        Some(items.iter().filter_map(|item| Some((self.agent(item, what)?, item.place))).collect())
    }

    fn sequence(&mut self, key: &Key, tree: &Tree, depth: usize) -> Option<Does> {
        let children = self.list(tree, "`sequence` is a list of nodes")?;
        if children.is_empty() {
            self.fault(key.place, "`sequence` is empty: it has at least one node");
        }
        let nodes = children.iter().enumerate().filter_map(|(number, child)| {
            self.within(At::Sequence, number, false, |reader| reader.node(child, depth + 1))
        });
        Some(Does::Sequence(nodes.collect()))
    }

    fn parallel(&mut self, key: &Key, tree: &Tree, fields: &mut Fields<'_>, depth: usize) -> Option<Does> {
        let branches: Vec<(Option<StepName>, &Tree)> = match &tree.kind {
            Kind::List(branches) => branches.iter().map(|branch| (None, branch)).collect(),
            Kind::Object(branches) => {
                self.refuse_duplicates(branches);
                let named = branches.iter().map(|(key, branch)| {
                    let name = key.name.parse::<StepName>();
                    let name = name.map_err(|error| self.fault(key.place, format!("a branch's name: {error}"))).ok();
                    (name, branch)
                });
                named.collect()
            }
            _ => {
                let message = format!("`parallel` is a list or an object of nodes, this is {}", tree.describe());
                self.fault(tree.place, message);
                return None;
            }
        };
        if branches.is_empty() {
            self.fault(key.place, "`parallel` is empty: it has at least one branch");
        }
        let is_named = matches!(tree.kind, Kind::Object(_));
        let (count, most) = (branches.len(), u32::try_from(branches.len()).unwrap_or(u32::MAX).max(1));
        let need = fields.take("need").map_or(Some(Need::All), |tree| self.need(tree, count));
        let need = need.unwrap_or(Need::All);
        let stop = [("stop", OnFailure::Stop), ("continue", OnFailure::Continue)];
        let on_failure = fields.take("on-failure").and_then(|tree| self.word(tree, "`on-failure`", &stop));
        let loss = [("cancel", OnLoss::Cancel), ("finish", OnLoss::Finish)];
        let on_loss = fields.take("on-loss").and_then(|tree| self.word(tree, "`on-loss`", &loss));
        let at_once = fields.take("at-once").and_then(|tree| self.count(tree, "`at-once`", 1, MapItems::MAX_AT_ONCE));
        let collect = fields.take("collect");
        let context = fields.take("context").and_then(|tree| self.context(tree, depth));
        let may_be_missing = need != Need::All && need != Need::Count(most);
        let nodes = branches.iter().enumerate().filter_map(|(number, (name, branch))| {
            let node = self.within(At::Parallel, number, may_be_missing, |reader| reader.node(branch, depth + 1))?;
            Some((name.clone(), node))
        });
        let branches: Vec<(Option<StepName>, Node)> = nodes.collect();
        let context = context.map(|said| {
            let called =
                |(name, node): &(Option<StepName>, Node)| name.as_ref().or(node.id.as_ref()).map(ToString::to_string);
            self.resolved(said, &Some(branches.iter().map(called).collect()))
        });
        let of_kind = if is_named { Collect::Object } else { Collect::List };
        let collect = collect.and_then(|tree| self.collect(tree, depth)).unwrap_or(of_kind);
        if collect == Collect::Object && !is_named {
            for node in branches.iter().map(|(_, node)| node).filter(|node| node.id.is_none()) {
                self.fault(node.place, "`collect: object` needs a name for every branch: give this one an `id`");
            }
        }
        let (on_failure, on_loss) = (on_failure.unwrap_or(OnFailure::Stop), on_loss.unwrap_or(OnLoss::Cancel));
        Some(Does::Parallel(Parallel { branches, need, on_failure, on_loss, at_once, collect, context }))
    }

    fn need(&mut self, tree: &Tree, branches: usize) -> Option<Need> {
        match &tree.kind {
            Kind::Text(_) => self.word(tree, "`need`", &[("all", Need::All), ("any", Need::Any)]),
            Kind::Object(_) => self.share(tree, "`need`").map(Need::Share),
            _ => {
                let most = u32::try_from(branches).unwrap_or(u32::MAX).max(1);
                let what = "`need` is `all`, `any`, `{share: 0.66}` or a number of branches, which";
                self.count(tree, what, 1, most).map(Need::Count)
            }
        }
    }

    fn share(&mut self, tree: &Tree, what: &str) -> Option<f64> {
        let mut fields = self.object(tree, what)?;
        let found = fields.take("share");
        self.refuse_the_rest(fields, what);
        let share = match found.map(|tree| &tree.kind) {
            Some(Kind::Number(n)) => n.as_f64().filter(|share| *share > 0.0 && *share <= 1.0),
            _ => None,
        };
        if share.is_none() {
            let place = found.map_or(tree.place, |tree| tree.place);
            self.fault(place, format!("`share` of {what} is a number above 0, and at most 1"));
        }
        share
    }

    fn choice(&mut self, key: &Key, tree: &Tree, depth: usize) -> Option<Does> {
        let parts = self.list(tree, "`choice` is a list of `{when, do}`, and at its end `{else}`")?;
        if parts.is_empty() {
            self.fault(key.place, "`choice` is empty: it has at least one option");
        }
        let (mut options, mut otherwise) = (Vec::new(), None);
        for (number, part) in parts.iter().enumerate() {
            let Some(mut fields) = self.object(part, "an option of `choice`") else { continue };
            if let Some((key, node)) = fields.take_pair("else") {
                if number + 1 < parts.len() {
                    self.fault(
                        key.place,
                        "`else` is the last of a choice: what comes after it would never be looked at",
                    );
                }
                otherwise = self.within(At::Choice, number, true, |reader| reader.node(node, depth + 1)).map(Box::new);
                self.refuse_the_rest(fields, "`else`");
                continue;
            }
            let when = match fields.take("when") {
                Some(tree) => self.condition(tree),
                None => {
                    self.fault(
                        part.place,
                        "an option of `choice` has `when` and `do`, and the last may be `{else: …}`",
                    );
                    None
                }
            };
            let node = self.body(&mut fields, part, At::Choice, number, depth);
            self.refuse_the_rest(fields, "an option of `choice`");
            options.extend(node.filter(|_| when.is_some()).map(|node| Handler { when, node }));
        }
        Some(Does::Choice(Choice { options, otherwise }))
    }

    /// The node under `do`.
    pub(super) fn body(
        &mut self,
        fields: &mut Fields<'_>,
        around: &Tree,
        at: At,
        number: usize,
        depth: usize,
    ) -> Option<Node> {
        match fields.take("do") {
            Some(tree) => self.within(at, number, true, |reader| reader.node(tree, depth + 1)),
            None => {
                self.fault(around.place, "`do` is missing: the node that is done");
                None
            }
        }
    }

    fn map(&mut self, key: &Key, tree: &Tree, fields: &mut Fields<'_>, depth: usize) -> Option<Does> {
        let over = match &tree.kind {
            Kind::Text(text) if text.starts_with('$') => self.pick(text, tree.place),
            Kind::Object(_) => self.pick_or_else(tree).flatten(),
            _ => None,
        };
        if over.is_none() && !matches!(&tree.kind, Kind::Text(text) if text.starts_with('$')) {
            let message = format!("`map` is a pick of a list such as `$.input.files`, this is {}", tree.describe());
            self.fault(tree.place, message);
        }
        let name = fields.take("as").and_then(|tree| self.parsed::<StepName>(tree, "`as`"));
        let at_once = fields.take("at-once").and_then(|tree| self.count(tree, "`at-once`", 1, MapItems::MAX_AT_ONCE));
        let tolerate = fields.take("tolerate").and_then(|tree| self.tolerate(tree));
        let context = fields.take("context").and_then(|tree| self.context(tree, depth));
        self.scope.maps.push(name.clone());
        let body = match fields.take("do") {
            Some(tree) => self.within(At::Map, 0, false, |reader| reader.node(tree, depth + 1)),
            None => {
                self.fault(key.place, "`do` is missing: the node that is done for every item");
                None
            }
        };
        self.scope.maps.pop();
        let context = context.map(|said| self.resolved(said, &None));
        let collect = fields.take("collect").and_then(|tree| {
            let collect = self.collect(tree, depth);
            if collect == Some(Collect::Object) {
                self.fault(tree.place, "`collect: object` needs a name for every branch, and items have none");
            }
            collect
        });
        let collect = collect.unwrap_or(Collect::List);
        let (at_once, tolerate) = (at_once.unwrap_or(MapItems::AT_ONCE), tolerate.unwrap_or(Tolerate::Count(0)));
        Some(Does::Map(Box::new(MapItems { over: over?, name, body: body?, at_once, tolerate, context, collect })))
    }

    fn tolerate(&mut self, tree: &Tree) -> Option<Tolerate> {
        match &tree.kind {
            Kind::Object(_) => self.share(tree, "`tolerate`").map(Tolerate::Share),
            _ => {
                let most = u32::try_from(MapItems::MAX_ITEMS).unwrap_or(u32::MAX);
                let what = "`tolerate` is `{share: 0.05}` or how many items may fail, which";
                self.count(tree, what, 0, most).map(Tolerate::Count)
            }
        }
    }

    fn again(&mut self, key: &Key, tree: &Tree, fields: &mut Fields<'_>, depth: usize) -> Option<Does> {
        let at_most = match fields.take("at-most") {
            Some(tree) => self.count(tree, "`at-most`", 1, Loop::MAX_ROUNDS),
            None => {
                let message =
                    format!("`at-most` is missing: a loop has a bound, from 1 to {} rounds", Loop::MAX_ROUNDS);
                self.fault(key.place, message);
                None
            }
        };
        let stall = fields.take("stall").and_then(|tree| {
            let stall = self.count(tree, "`stall`", 2, Loop::MAX_ROUNDS)?;
            if let Some(most) = at_most.filter(|most| stall > *most && !self.is_pinned) {
                let message =
                    format!("`stall` is {stall}, and the loop makes at most {most} rounds: it never comes to that");
                self.fault(tree.place, message);
            }
            Some(stall)
        });
        self.scope.loops.push(false);
        let body = self.within(At::Loop, 0, false, |reader| reader.node(tree, depth + 1));
        self.scope.loops.pop();
        let until = fields.take("until").and_then(|tree| {
            self.scope.loops.push(true);
            let until = self.within(At::Loop, 1, false, |reader| reader.condition(tree));
            self.scope.loops.pop();
            until
        });
        Some(Does::Loop(Box::new(Loop { body: body?, until, at_most: at_most?, stall })))
    }

    fn workflow(&mut self, tree: &Tree, fields: &mut Fields<'_>) -> Option<Does> {
        let words = [("cancel", OnParentEnd::Cancel), ("abandon", OnParentEnd::Abandon)];
        let on_parent_end = fields.take("on-parent-end").and_then(|tree| self.word(tree, "`on-parent-end`", &words));
        let workflow = self.parsed::<WorkflowName>(tree, "`workflow`")?;
        Some(Does::Workflow(SubWorkflow { workflow, on_parent_end: on_parent_end.unwrap_or_default() }))
    }

    /// Reads what stands at a place of a pattern.
    pub(super) fn within<T>(
        &mut self,
        at: At,
        number: usize,
        may_be_missing: bool,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.scope.enter(Level { at, number, may_be_missing });
        let read = read(self);
        self.scope.leave();
        read
    }
}
