//! What makes one of much: what branches give together, and debates.

use super::super::tree::{Key, Kind, Tree};
use super::super::{Collect, Debate, Does, Node, Pick, Rule, Turn, Vote};
use super::Reader;
use super::scope::Place as At;

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
                chair => Some(Turn { chair: chair.flatten(), among: among? }),
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
