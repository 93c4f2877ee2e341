//! What makes one of much: what branches give together, debates, and conversations that are handed on.

use std::collections::HashSet;

use super::super::tree::{Key, Kind, Tree};
use super::super::{Collect, Debate, Does, HandOff, Node, Pass, Pick, Rule, Turn, Vote};
use super::Reader;
use super::scope::Place as At;
use crate::{AgentName, session};

impl Reader {
    /// What branches give together, which is read after them.
    pub(super) fn collect(&mut self, tree: &Tree, depth: usize) -> Option<Collect> {
        let Kind::Object(fields) = &tree.kind else {
            let words = [("list", 0), ("object", 1), ("merge", 2), ("first", 3)];
            let word = self.word(tree, "`collect` is `{agent: …}`, `{vote: …}`, or a word, which", &words)?;
            return [Collect::List, Collect::Object, Collect::Merge, Collect::First].into_iter().nth(word);
        };
        if fields.iter().any(|(key, _)| key.name == "vote") {
            return self.vote(tree, depth).map(|vote| Collect::Vote(Box::new(vote)));
        }
        self.closing(tree, "`collect`", false, depth).map(|node| Collect::Agent(Box::new(node)))
    }

    fn vote(&mut self, tree: &Tree, depth: usize) -> Option<Vote> {
        let mut fields = self.object(tree, "a vote")?;
        let path = fields.take("vote").and_then(|tree| {
            let path = self.text(tree, "`vote`").map(|text| Pick::pointer(&text).map_err(|why| (tree.place, why)))?;
            path.map_err(|(place, why)| self.fault(place, format!("`vote` says where a branch's vote stands: {why}")))
                .ok()
        });
        let rule = fields.take("rule").and_then(|tree| self.word(tree, "`rule`", &Rule::WORDS)).unwrap_or_default();
        let tie = fields.take("tie").map(|tree| self.closing(tree, "`tie`", true, depth));
        self.refuse_the_rest(fields, "a vote");
        let tie = match tie {
            Some(None) => return None,
            tie => tie.flatten(),
        };
        Some(Vote { path: path?, rule, tie })
    }

    /// The step of an agent that comes behind all of its pattern.
    fn closing(&mut self, tree: &Tree, what: &str, may_be_missing: bool, depth: usize) -> Option<Node> {
        self.within(At::Sequence, Node::CLOSING, may_be_missing, |reader| reader.step_of(tree, what, depth))
    }

    /// An agent's step, where nothing else may stand.
    pub(super) fn step_of(&mut self, tree: &Tree, what: &str, depth: usize) -> Option<Node> {
        let node = self.node(tree, depth + 1)?;
        if !matches!(node.does, Does::Agent(_)) {
            self.fault(tree.place, format!("{what} takes the step of an `agent`"));
            return None;
        }
        Some(node)
    }

    pub(super) fn debate(&mut self, key: &Key, tree: &Tree, depth: usize) -> Option<Does> {
        let mut fields = self.object(tree, "a debate")?;
        self.scope.loops.push(false);
        let turn = self.within(At::Loop, 0, false, |reader| {
            let next = fields.take("next");
            let is_in_turn = next.is_none_or(|tree| matches!(&tree.kind, Kind::Text(text) if text == "round-robin"));
            let chair = next.filter(|_| !is_in_turn).map(|tree| match &tree.kind {
                Kind::Object(_) => {
                    reader.within(At::Sequence, 0, false, |reader| reader.step_of(tree, "`next`", depth))
                }
                _ => {
                    reader.fault(tree.place, "`next` is `round-robin` or the chair: `{agent: …}`");
                    None
                }
            });
            let among = match fields.take("among") {
                Some(tree) => reader.among(tree, depth),
                None => {
                    reader.fault(tree.place, "`among` is missing: those who speak");
                    None
                }
            };
            match chair {
                Some(None) => None,
                chair => Some(Turn { chair: chair.flatten(), among: among?, is_held: false }),
            }
        });
        self.scope.loops.pop();
        let rounds = match fields.take("rounds") {
            Some(tree) => self.count(tree, "`rounds`", 1, Debate::MAX_ROUNDS),
            None => {
                let most = Debate::MAX_ROUNDS;
                self.fault(tree.place, format!("`rounds` is missing: a debate has a bound, from 1 to {most} rounds"));
                None
            }
        };
        let until = fields.take("until").and_then(|tree| {
            self.scope.loops.push(true);
            let until = self.within(At::Loop, 1, false, |reader| reader.condition(tree));
            self.scope.loops.pop();
            until
        });
        let close = fields.take("close").map(|tree| self.closing(tree, "`close`", false, depth));
        self.refuse_the_rest(fields, "a debate");
        let close = match close {
            Some(None) => return None,
            close => close.flatten(),
        };
        let turn = Node::new(Does::Turn(Box::new(turn?)), key.place);
        Some(Does::Debate(Box::new(Debate { turn, rounds: rounds?, until, close })))
    }

    pub(super) fn hand_off(&mut self, key: &Key, tree: &Tree, depth: usize) -> Option<Does> {
        let mut fields = self.object(tree, "a hand-off")?;
        let start = match fields.take("start") {
            Some(tree) => self.parsed::<AgentName>(tree, "`start`").map(|start| (start, tree.place)),
            None => {
                self.fault(tree.place, "`start` is missing: who holds the conversation first");
                None
            }
        };
        self.scope.loops.push(false);
        let among = self.within(At::Loop, 0, false, |reader| match fields.take("among") {
            Some(tree) => reader.holders(tree, depth),
            None => {
                reader.fault(tree.place, "`among` is missing: the agents that may hold the conversation");
                None
            }
        });
        self.scope.loops.pop();
        let pass = fields.take("pass").map_or(Some(Pass::Full), |tree| self.pass(tree));
        let mut count = |name, most, otherwise| match fields.take(name) {
            Some(tree) => self.count(tree, &format!("`{name}`"), 1, most),
            None => Some(otherwise),
        };
        let at_most = count("at-most", HandOff::MAX_AT_MOST, ltmc_rules::hand_off::AT_MOST);
        let per_pair = count("per-pair", HandOff::MAX_AT_MOST, ltmc_rules::hand_off::PER_PAIR);
        let idle = fields.take("idle");
        let idle = idle.and_then(|tree| self.wait(tree, "`idle`", session::MIN_TIME, session::MAX_TIME));
        self.refuse_the_rest(fields, "a hand-off");
        let turn = Node::new(Does::Turn(Box::new(Turn { chair: None, among: among?, is_held: true })), key.place);
        let (start, place) = start?;
        let mut goes = HandOff { turn, start: 0, pass: pass?, at_most: at_most?, per_pair: per_pair?, idle };
        let Some(number) = goes.number(&start) else {
            self.fault(place, format!("`start` is `{start}`, which is none of those under `among`"));
            return None;
        };
        goes.start = number;
        Some(Does::HandOff(Box::new(goes)))
    }

    fn pass(&mut self, tree: &Tree) -> Option<Pass> {
        let Kind::Object(fields) = &tree.kind else {
            let words = [("full", Pass::Full), ("summary", Pass::Summary)];
            let numbered = [("full", 0), ("summary", 1)];
            let what = "`pass` is `{last: N}`, `{fields: […]}`, or a word, which";
            let number = self.word(tree, what, &numbered)?;
            return words.into_iter().nth(number).map(|(_, pass)| pass);
        };
        let is_fields = fields.iter().any(|(key, _)| key.name == "fields");
        let mut fields = self.object(tree, "`pass`")?;
        let last = fields.take("last").map(|tree| self.count(tree, "`last`", 1, HandOff::MAX_LAST));
        let named = fields.take("fields").map(|tree| {
            let items = self.list(tree, "`fields` is a list of names")?;
            if !(1..=HandOff::MAX_FIELDS).contains(&items.len()) {
                let most = HandOff::MAX_FIELDS;
                self.fault(tree.place, format!("`fields` names 1 to {most} fields, this one {}", items.len()));
                return None;
            }
            items.iter().map(|item| self.text(item, "a field's name")).collect::<Option<Vec<String>>>()
        });
        self.refuse_the_rest(fields, "`pass`");
        match (last, named) {
            (Some(_), Some(_)) => {
                self.fault(tree.place, "`pass` is either `last` or `fields`, not both");
                None
            }
            (Some(last), None) => last.map(Pass::Last),
            (None, Some(named)) => named.map(Pass::Fields),
            (None, None) if is_fields => None,
            (None, None) => {
                self.fault(tree.place, "`pass` is `full`, `summary`, `{last: N}` or `{fields: […]}`");
                None
            }
        }
    }

    /// Those who may hold a conversation: each agent once.
    fn holders(&mut self, tree: &Tree, depth: usize) -> Option<Vec<Node>> {
        let holders = self.among(tree, depth)?;
        let mut named = HashSet::new();
        for node in &holders {
            if let Does::Agent(agent) = &node.does
                && !named.insert(&agent.name)
            {
                self.fault(node.place, format!("`{}` stands among them already", agent.name));
            }
        }
        Some(holders)
    }

    /// Those who speak: agents by their names, or steps of such.
    fn among(&mut self, tree: &Tree, depth: usize) -> Option<Vec<Node>> {
        let items = self.list(tree, "`among` is a list of agents")?;
        if !(2..=Debate::MAX_AMONG).contains(&items.len()) {
            let most = Debate::MAX_AMONG;
            self.fault(tree.place, format!("`among` names 2 to {most} agents, this one {}", items.len()));
        }
        let read = items.iter().enumerate().map(|(number, item)| {
            let step = match &item.kind {
                Kind::Text(_) => {
                    let key = Key { place: item.place, name: "agent".into() };
                    &Tree { place: item.place, kind: Kind::Object(vec![(key, item.clone())]) }
                }
                _ => item,
            };
            self.within(At::Choice, number + 1, true, |reader| reader.step_of(step, "`among`", depth))
        });
        let read: Vec<Option<Node>> = read.collect();
        read.into_iter().collect()
    }
}
