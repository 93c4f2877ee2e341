//! A plan: what a run does, made ready once and shared by all runs of the same document.

use std::collections::BTreeMap;
use std::sync::Arc;

use ltmc_journal::RunLog;
use ltmc_journal::forked::Fork;
use ltmc_model::StepPath;
use ltmc_model::agent::AgentRef;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::fork::{Branch, Level};
use ltmc_model::journal::{RunStarted, Semantics};
use ltmc_model::run::Target;
use ltmc_model::workflow::{Below, Collect, Document, Does, HandOff, Loop, Node, Parallel, Place, StepName};

use crate::patterns::{self, Pattern};

/// So many names are told to who names a step that there is not.
const TOLD: usize = 20;

pub(crate) struct Plan {
    pub(crate) flow: Box<dyn Pattern>,
    root: Node,
    names: BTreeMap<StepName, Way>,
    /// Whether several of its steps may be at work at once.
    pub(crate) is_side_by_side: bool,
}

/// The way down to a node. None: whichever item or round it is picked from.
type Way = Vec<Option<usize>>;

/// What stands at a path, and what is known there besides what every step knows.
pub(crate) struct Found<'a> {
    pub(crate) work: Work<'a>,
    pub(crate) scope: Scope,
}

/// What is done at a path.
#[derive(Clone, Copy)]
pub(crate) enum Work<'a> {
    /// A node's own work.
    Node(&'a Node),
    /// Judging the output of a node, by an agent.
    Validator(&'a AgentRef),
}

/// Where a path leads through.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// The node's own path, where it is a node's.
    pub(crate) at: Option<StepPath>,
    /// Which child of which.
    pub(crate) way: Vec<usize>,
    /// The maps around it, from the outside in: what they call their items, where they stand, and which item it is.
    pub(crate) maps: Vec<(Option<StepName>, StepPath, usize)>,
    /// The innermost loop around it, and the round.
    pub(crate) round: Option<(StepPath, usize)>,
    /// What its innermost loop gave last, where that is not in the history yet.
    pub(crate) last: Option<StepPath>,
    /// The innermost node that failed, where it is done in its place.
    pub(crate) failed: Option<StepPath>,
    /// The node whose work is undone there.
    pub(crate) undone: Option<StepPath>,
}

impl Plan {
    /// Whether all that a run did, which works apart until it is done, is true: nothing is left to be done but to say so.
    pub(crate) fn has_come_true(&self, log: &RunLog) -> bool {
        let Does::Parallel(Parallel { context: Some(_), collect: Collect::First, .. }) = &self.root.does else {
            return false;
        };
        log.read(|history| history.forked().of(&StepPath::root()).is_some_and(Fork::is_merged))
    }

    /// How its conversation is handed on, where that is what it is.
    pub(crate) fn conversation(&self) -> Option<&HandOff> {
        match &self.root.does {
            Does::HandOff(goes) => Some(goes),
            _ => None,
        }
    }

    pub(crate) fn of(document: &Document) -> Self {
        Self::of_node(document.flow.clone())
    }

    /// The plan of a lone call.
    pub(crate) fn call(agent: &AgentRef) -> Result<Self, Failure> {
        let id = agent.name.as_str().parse();
        let id = id.map_err(|_| Failure::new(Code::Internal, "an agent's name is a step's name"))?;
        Ok(Self::of_node(Node::step(agent.clone(), id, Place::default())))
    }

    /// The plan of a run as its journal pins it.
    pub(crate) fn pinned(started: &RunStarted) -> Result<Self, Failure> {
        if started.semantics > Semantics::CURRENT {
            let Semantics(version) = started.semantics;
            let message = format!(
                "the run began with version {version} of what workflows mean, which this version of the host does not know: a newer one began \
                 it, and can resume it"
            );
            return Err(Failure::new(Code::BadStep, message));
        }
        match (&started.document, &started.target) {
            (Some(json), _) => {
                let document = Document::from_json(json).map_err(|faults| {
                    Failure::new(Code::BadStep, format!("this version does not read the run's document: {faults}"))
                })?;
                Ok(Self::of(&document))
            }
            (None, Target::Agent(agent)) => Self::call(agent),
            (None, Target::Workflow(_)) => Err(Failure::new(Code::Internal, "the journal lacks the run's document")),
        }
    }

    fn of_node(root: Node) -> Self {
        let (mut names, mut is_side_by_side) = (BTreeMap::new(), false);
        collect(&root, &mut Vec::new(), &mut names, &mut is_side_by_side);
        Self { flow: patterns::flow(&root), root, names, is_side_by_side }
    }

    /// What stands at `path`.
    pub(crate) fn find(&self, path: &StepPath) -> Result<Found<'_>, Failure> {
        let missing = || Failure::new(Code::Internal, format!("the plan has nothing at {path}"));
        let (mut node, mut at, mut scope) = (&self.root, StepPath::root(), Scope::default());
        let mut way = path.way();
        while let Some(number) = way.next() {
            scope.way.push(number);
            match node.below(number).ok_or_else(missing)? {
                Below::Validator(agent) => {
                    return if way.next().is_none() {
                        Ok(Found { work: Work::Validator(agent), scope })
                    } else {
                        Err(missing())
                    };
                }
                Below::Child(child) => node = child,
                Below::Template(child) => {
                    match &node.does {
                        Does::Map(map) => scope.maps.push((map.name.clone(), at.clone(), number)),
                        Does::Settle(_) => {}
                        _ => scope.round = Some((at.clone(), Loop::round(number).unwrap_or(number))),
                    }
                    node = child;
                }
                Below::Rescue(child) => {
                    scope.failed = Some(at.clone());
                    node = child;
                }
                Below::Compensation(child) => {
                    (scope.failed, scope.undone) = (None, Some(at.clone()));
                    node = child;
                }
            }
            at = at.child(number);
        }
        Ok(Found { work: Work::Node(node), scope })
    }

    /// The branches with a context of their own in which `path` stands, from the outside in.
    pub(crate) fn levels(&self, path: &StepPath) -> Vec<Level> {
        let (mut node, mut at, mut levels) = (&self.root, StepPath::root(), Vec::new());
        for number in path.way() {
            let child = match node.below(number) {
                Some(Below::Child(child) | Below::Template(child)) => {
                    // What makes one of all branches comes behind them, and is none.
                    let context = node.context().filter(|_| number != Node::CLOSING);
                    if let (Some(context), Ok(branch)) = (context, u32::try_from(number)) {
                        let of = Branch { fork: at.clone(), number: branch };
                        let settles = Node::is_settling(number);
                        let (session, messages) = (context.session && !settles, context.messages && !settles);
                        levels.push(Level { of, session, messages, settles });
                    }
                    child
                }
                Some(Below::Rescue(child) | Below::Compensation(child)) => child,
                Some(Below::Validator(_)) | None => break,
            };
            (node, at) = (child, at.child(number));
        }
        levels
    }

    /// The node at `path`.
    pub(crate) fn node(&self, path: &StepPath) -> Result<(&Node, Scope), Failure> {
        let Found { work, scope } = self.find(path)?;
        match work {
            Work::Node(node) => Ok((node, Scope { at: Some(path.clone()), ..scope })),
            Work::Validator(_) => Err(Failure::new(Code::Internal, format!("{path} is a validator's place"))),
        }
    }

    /// The fork, the number of who settles its conflicts, and which conflict, where that is what stands there.
    pub(crate) fn settles(path: &StepPath) -> Option<(StepPath, u32, u32)> {
        let above = path.parent()?;
        let by = above.way().last().filter(|number| Node::is_settling(*number))? - Node::SETTLING;
        let number = path.way().last()?;
        Some((above.parent()?, u32::try_from(by).ok()?, u32::try_from(number).ok()?))
    }

    /// Whether the step there makes one of what branches gave.
    pub(crate) fn collects(&self, path: &StepPath) -> bool {
        let is_closing = path.way().last() == Some(Node::CLOSING);
        let above = path.parent().filter(|_| is_closing).and_then(|above| Some(self.node(&above).ok()?.0));
        above.is_some_and(|above| matches!(above.does, Does::Parallel(_) | Does::Map(_)))
    }

    /// Where the node of this name stands, with none for whichever item or round; none: nothing is called so.
    pub(crate) fn named(&self, name: &StepName) -> Option<&[Option<usize>]> {
        self.names.get(name).map(Vec::as_slice)
    }

    /// The names there are.
    pub(crate) fn names(&self) -> impl Iterator<Item = &StepName> {
        self.names.keys()
    }

    /// The path of what somebody calls so.
    pub(crate) fn meant(&self, name: &str) -> Result<StepPath, String> {
        if let Ok(path) = name.parse::<StepPath>() {
            return Ok(path);
        }
        let way = name.parse::<StepName>().ok().and_then(|name| self.named(&name));
        let Some(way) = way else {
            let names: Vec<String> = self.names().take(TOLD).map(|name| format!("`{name}`")).collect();
            return Err(format!(
                "there is no step `{name}` in this run; there are {}, and a step's path will do",
                names.join(", ")
            ));
        };
        let numbers: Vec<String> = way.iter().map(|number| number.map_or("N".into(), |n| n.to_string())).collect();
        let path = ["0".to_owned()].into_iter().chain(numbers).collect::<Vec<_>>().join("/");
        path.parse().map_err(|_| {
            format!("`{name}` is done for more than one item or round: say by its path which is meant, such as {path} with a number for each N")
        })
    }

    /// The root of its tree.
    pub(crate) fn root(&self) -> &Node {
        &self.root
    }

    /// Where the node of this name stands that is meant from somewhere: in the same items and rounds.
    pub(crate) fn path(&self, name: &StepName, from: &Scope) -> Result<StepPath, Failure> {
        let missing = || Failure::new(Code::Internal, format!("the plan has no step `{name}` there"));
        let way = self.names.get(name).ok_or_else(missing)?;
        way.iter().enumerate().try_fold(StepPath::root(), |path, (depth, number)| {
            let number = number.or_else(|| from.way.get(depth).copied());
            Ok(path.child(number.ok_or_else(missing)?))
        })
    }
}

fn collect(node: &Node, way: &mut Way, names: &mut BTreeMap<StepName, Way>, is_side_by_side: &mut bool) {
    *is_side_by_side |= matches!(node.does, Does::Parallel(_) | Does::Map(_));
    if let Some(id) = &node.id {
        names.insert(id.clone(), way.clone());
    }
    let numbered = node.children().into_iter().enumerate();
    let numbered = numbered.chain(node.behind()).chain(node.compensation());
    let below = numbered.map(|(number, node)| (Some(number), node)).chain(node.template().map(|node| (None, node)));
    for (number, node) in below {
        way.push(number);
        collect(node, way, names, is_side_by_side);
        way.pop();
    }
}

pub(crate) type Shared = Arc<Plan>;

#[cfg(test)]
mod tests {
    use ltmc_ports::testing::sample;

    use super::*;

    #[test]
    fn a_run_of_a_newer_meaning_of_documents_is_left_to_a_host_that_knows_it() {
        let begun = |semantics| RunStarted { semantics, ..sample::started(&sample::tenant("acme")) };
        let newer = Semantics(Semantics::CURRENT.0 + 1);
        let failure = Plan::pinned(&begun(newer)).err().unwrap();
        assert!(failure.code == Code::BadStep && failure.message.contains("can resume it"), "{failure}");
        assert!(Plan::pinned(&begun(Semantics::FIRST)).is_ok(), "one that began before goes on as it began");
        // What was written before there were versions is of the first; what is of a later one says so.
        let written = |semantics| serde_json::to_value(begun(semantics)).unwrap();
        assert_eq!(written(Semantics::FIRST).get("semantics"), None);
        let read: RunStarted = serde_json::from_value(written(newer)).unwrap();
        assert_eq!(read.semantics, newer);
        let read: RunStarted = serde_json::from_value(written(Semantics::FIRST)).unwrap();
        assert_eq!(read.semantics, Semantics::FIRST);
    }
}
