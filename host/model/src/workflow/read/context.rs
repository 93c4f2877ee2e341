//! What branches have to themselves: `context`, whose `fork` says what that is and `merge` what is taken where they conflict.

use std::time::Duration;

use super::super::tree::{Key, Kind, Tree};
use super::super::{Ask, Context, Does, Node, Place, Settle, StepName};
use super::Reader;
use super::modifiers::SHORTEST;
use super::scope::Place as At;
use crate::fork::{Policies, Policy};
use crate::memory::MAX_KEY;

/// What there will be to fork one day.
const SCOPES_TO_COME: &[&str] = &["graph", "recall", "agent", "global"];

/// Branches as `prefer` may name them, by their numbers; none: they have no names here.
pub(super) type Names = Option<Vec<Option<String>>>;

/// What a document says, before it is known what branches are called.
pub(super) struct Said {
    context: Context,
    /// What each `prefer` names: with the place of its policy.
    preferred: Vec<(usize, Vec<(String, Place)>)>,
}

impl Said {
    /// The number of who settles conflicts.
    fn settled_by(&mut self, node: Node, place: Place) -> u32 {
        let number = self.context.settle.len();
        self.context.settle.push(Settle::node(node, place));
        u32::try_from(number).unwrap_or(u32::MAX)
    }
}

/// The question of a conflict.
fn asked(id: Option<StepName>, timeout: Option<Duration>, asks: Ask, place: Place) -> Node {
    Node { id, timeout, ..Node::new(Does::Ask(Box::new(asks)), place) }
}

impl Reader {
    /// What stands under `context`.
    pub(super) fn context(&mut self, tree: &Tree, depth: usize) -> Option<Said> {
        let mut fields = self.object(tree, "`context`")?;
        let forked = fields.take("fork");
        let merge = fields.take_pair("merge");
        self.refuse_the_rest(fields, "`context`");
        let mut said = Said { context: Context::default(), preferred: Vec::new() };
        match forked {
            Some(tree) => self.forked(tree, &mut said.context),
            None => self.fault(tree.place, "`fork` is missing: what branches have to themselves, such as `[session]`"),
        }
        if let Some((key, tree)) = merge {
            if !said.context.session {
                let message = "`merge` is about memory of the session: `fork` has no `session`";
                self.fault(key.place, message);
            }
            self.policies(tree, &mut said, depth);
        }
        Some(said)
    }

    fn forked(&mut self, tree: &Tree, context: &mut Context) {
        let Some(scopes) = self.list(tree, "`fork` is a list of `session` and `messages`") else { return };
        if scopes.is_empty() {
            self.fault(tree.place, "`fork` is empty: it has `session`, `messages` or both");
        }
        for scope in scopes {
            let text = match &scope.kind {
                Kind::Text(text) => text.as_str(),
                _ => "",
            };
            let is_forked = match text {
                "session" => &mut context.session,
                "messages" => &mut context.messages,
                other if SCOPES_TO_COME.contains(&other) => {
                    let message = format!("`{other}` is not forked by this host: it forks `session` and `messages`");
                    self.fault(scope.place, message);
                    continue;
                }
                _ => {
                    self.fault(scope.place, "what is forked is one of `session`, `messages`");
                    continue;
                }
            };
            if std::mem::replace(is_forked, true) {
                self.fault(scope.place, format!("`{text}` stands in `fork` twice"));
            }
        }
    }

    fn policies(&mut self, tree: &Tree, said: &mut Said, depth: usize) {
        let Kind::Object(policies) = &tree.kind else {
            let message = format!(
                "`merge` is an object: of what keys begin with, or `*`, a policy such as `fail`; this is {}",
                tree.describe()
            );
            self.fault(tree.place, message);
            return;
        };
        self.refuse_duplicates(policies);
        if policies.len() > Policies::MOST {
            let message = format!("`merge` has at most {} policies, this one {}", Policies::MOST, policies.len());
            self.fault(tree.place, message);
            return;
        }
        for (key, tree) in policies {
            if key.name.is_empty() || key.name.len() > MAX_KEY {
                let message = format!("what keys begin with has 1 to {MAX_KEY} bytes; of all others `*` is said");
                self.fault(key.place, message);
                continue;
            }
            let prefix = if key.name == Context::ALL { String::new() } else { key.name.clone() };
            if let Some(policy) = self.policy(tree, said, depth) {
                said.context.merge.0.push((prefix, policy));
            }
        }
    }

    fn policy(&mut self, tree: &Tree, said: &mut Said, depth: usize) -> Option<Policy> {
        let known = "a policy is `fail`, `first`, `last`, `keep-all`, `ask`, `{prefer: [BRANCH]}`, `{agent: NAME}` or `{ask: {of: ROLE}}`";
        let is_of = |fields: &[(Key, Tree)], word: &str| fields.iter().any(|(key, _)| key.name == word);
        match &tree.kind {
            Kind::Text(text) => match text.as_str() {
                "fail" => Some(Policy::Fail),
                "first" => Some(Policy::First),
                "last" => Some(Policy::Last),
                "keep-all" => Some(Policy::KeepAll),
                "ask" => {
                    let node = asked(None, None, Ask::of_conflicts(Settle::ASKED, None), tree.place);
                    Some(Policy::Ask(said.settled_by(node, tree.place)))
                }
                _ => {
                    self.fault(tree.place, known);
                    None
                }
            },
            Kind::Object(fields) if is_of(fields, "agent") => {
                let number = said.context.settle.len();
                let node = self.settling(number, |reader| reader.step_of(tree, "a policy", depth + 1))?;
                Some(Policy::Agent(said.settled_by(node, tree.place)))
            }
            Kind::Object(fields) if is_of(fields, "ask") => {
                let number = said.context.settle.len();
                let node = self.settling(number, |reader| reader.asked_of_conflicts(tree))?;
                Some(Policy::Ask(said.settled_by(node, tree.place)))
            }
            Kind::Object(_) => {
                let mut fields = self.object(tree, "a policy")?;
                let prefer = fields.take("prefer");
                self.refuse_the_rest(fields, "a policy");
                let Some(prefer) = prefer else {
                    self.fault(tree.place, known);
                    return None;
                };
                let branches = self.list(prefer, "`prefer` is a list of branches")?;
                if branches.is_empty() {
                    self.fault(prefer.place, "`prefer` is empty: it names at least one branch");
                }
                let mut named = Vec::with_capacity(branches.len());
                for branch in branches {
                    match &branch.kind {
                        Kind::Text(name) => named.push((name.clone(), branch.place)),
                        _ => self.fault(branch.place, "`prefer` names branches by their names"),
                    }
                }
                said.preferred.push((said.context.merge.0.len(), named));
                Some(Policy::Prefer(Vec::new()))
            }
            _ => {
                self.fault(tree.place, known);
                None
            }
        }
    }

    /// Reads what settles conflicts: it comes behind all branches, beside what settles others, and once for each of them.
    fn settling<T>(&mut self, number: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        self.within(At::Sequence, Node::VALIDATOR, true, |reader| {
            reader.within(At::Parallel, number, true, |reader| reader.within(At::Conflict, 0, true, read))
        })
    }

    /// `{ask: {of: ROLE, remind: …}, id: NAME, timeout: DURATION}`.
    fn asked_of_conflicts(&mut self, tree: &Tree) -> Option<Node> {
        let mut fields = self.object(tree, "a policy `ask`")?;
        let asks = fields.take("ask").and_then(|tree| {
            let mut fields = self.object(tree, "who is asked")?;
            let of = fields.take("of").map(|tree| self.word(tree, "`of` of a conflict", &Settle::ROLES));
            let remind = fields.take("remind").and_then(|tree| self.remind(tree));
            self.refuse_the_rest(fields, "who is asked");
            Some(Ask::of_conflicts(of.flatten().unwrap_or(Settle::ASKED), remind))
        });
        let id = fields.take("id").and_then(|tree| {
            let id = self.parsed::<StepName>(tree, "`id`")?;
            self.name(&id, tree.place);
            Some(id)
        });
        let timeout = fields.take("timeout").and_then(|tree| self.wait(tree, "`timeout`", SHORTEST, Node::MAX_TIMEOUT));
        self.refuse_the_rest(fields, "a policy `ask`");
        Some(asked(id, timeout, asks?, tree.place))
    }

    /// The context, with branches' numbers in place of the names that `prefer` has.
    pub(super) fn resolved(&mut self, said: Said, names: &Names) -> Context {
        let Said { mut context, preferred } = said;
        for (number, named) in preferred {
            let mut numbers = Vec::with_capacity(named.len());
            for (name, place) in named {
                let Some(names) = names else {
                    self.fault(place, "`prefer` names branches, and what is done for items has no names");
                    continue;
                };
                let found = names.iter().position(|known| known.as_ref() == Some(&name));
                match found.and_then(|found| u32::try_from(found).ok()) {
                    Some(number) if numbers.contains(&number) => {
                        self.fault(place, format!("branch `{name}` stands in `prefer` twice"));
                    }
                    Some(number) => numbers.push(number),
                    None => {
                        let known: Vec<String> = names.iter().flatten().map(|name| format!("`{name}`")).collect();
                        let known = match known.is_empty() {
                            true => "none of them has a name: give it an `id`".to_owned(),
                            false => format!("there are {}", known.join(", ")),
                        };
                        let name: String = name.chars().take(80).collect();
                        self.fault(place, format!("`prefer` names a branch `{name}`, and there is none; {known}"));
                    }
                }
            }
            if let Some((_, policy)) = context.merge.0.get_mut(number) {
                *policy = Policy::Prefer(numbers);
            }
        }
        context
    }
}
