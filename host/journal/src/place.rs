//! Where a path leads to in a run's tree of patterns.

use ltmc_model::StepPath;
use ltmc_model::agent::AgentRef;
use ltmc_model::journal::RunStarted;
use ltmc_model::run::Target;
use ltmc_model::workflow::{Below, Document, Does, Loop, Node, Place as Source};

/// What stands at a path, and what it is to the node above it.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// The path.
    pub path: StepPath,
    /// What stands there.
    pub what: What<'a>,
    /// What it is to the node above it.
    pub is: Is,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    /// A node.
    Node(&'a Node),
    /// An agent that judges the output of the node above it.
    Validator(&'a AgentRef),
}

/// What something is to the node above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// Nothing: it is the root.
    Root,
    /// Its child under this number.
    Child(usize),
    /// What is done for this item of a map.
    Item(usize),
    /// This round of a loop, or turn of a debate, from 0 on.
    Round(usize),
    /// What settles a conflict of its branches, from 0 on.
    Settles(usize),
    /// What judges it.
    Validator,
    /// The fallback of this number.
    Fallback(usize),
    /// The handler of errors of this number.
    Handler(usize),
    /// What undoes its work.
    Compensation,
}

/// The root of a run's tree; none: this version does not read the run's document.
pub fn root(started: &RunStarted) -> Option<Node> {
    match (&started.document, &started.target) {
        (Some(json), _) => Document::from_json(json).ok().map(|document| document.flow),
        (None, Target::Agent(agent)) => {
            let id = agent.name.as_str().parse().ok()?;
            Some(Node::step(agent.clone(), id, Source::default()))
        }
        (None, Target::Workflow(_)) => None,
    }
}

/// Everything on the way from the root down to `path`, both included; shorter where the tree has nothing there.
pub fn way<'a>(root: &'a Node, path: &StepPath) -> Vec<Place<'a>> {
    let mut places = vec![Place { path: StepPath::root(), what: What::Node(root), is: Is::Root }];
    let mut node = root;
    for number in path.way() {
        let at = places.last().map_or_else(StepPath::root, |above| above.path.child(number));
        let (what, is) = match node.below(number) {
            None => return places,
            Some(Below::Validator(agent)) => (What::Validator(agent), Is::Validator),
            Some(Below::Child(child)) => (What::Node(child), Is::Child(number)),
            Some(Below::Template(child)) => match &node.does {
                Does::Map(_) => (What::Node(child), Is::Item(number)),
                Does::Settle(_) => (What::Node(child), Is::Settles(number)),
                _ => (What::Node(child), Is::Round(Loop::round(number).unwrap_or(number))),
            },
            Some(Below::Compensation(child)) => (What::Node(child), Is::Compensation),
            Some(Below::Rescue(child)) => match number.checked_sub(Node::HANDLER) {
                Some(handler) => (What::Node(child), Is::Handler(handler)),
                None => (What::Node(child), Is::Fallback(number.saturating_sub(Node::FALLBACK))),
            },
        };
        places.push(Place { path: at, what, is });
        match what {
            What::Node(child) => node = child,
            What::Validator(_) => return places,
        }
    }
    places
}

/// What stands at `path`, if the tree has anything there.
pub fn at<'a>(root: &'a Node, path: &StepPath) -> Option<Place<'a>> {
    way(root, path).pop().filter(|place| place.path == *path)
}

impl Place<'_> {
    /// The node that stands there.
    pub fn node(&self) -> Option<&Node> {
        match self.what {
            What::Node(node) => Some(node),
            What::Validator(_) => None,
        }
    }

    /// The name by which others pick from it.
    pub fn name(&self) -> Option<String> {
        self.node()?.id.as_ref().map(ToString::to_string)
    }

    /// The agent whose step it is.
    pub fn agent(&self) -> Option<&AgentRef> {
        match self.what {
            What::Validator(agent) => Some(agent),
            What::Node(Node { does: Does::Agent(agent), .. }) => Some(agent),
            What::Node(_) => None,
        }
    }

    /// The word for what it does.
    pub fn word(&self) -> &'static str {
        self.node().map_or("validator", Node::word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_through_items_rounds_and_what_is_done_in_place() {
        let flow = "{sequence: [{map: $.input, do: {loop: {agent: a, validate: {agent: v}, fallback: [{agent: b}], on-error: [{do: {agent: c}}]}, \
                    at-most: 3}}]}";
        let root = Document::parse(&format!("name: w\nflow: {flow}"), None).unwrap().flow;
        let is = |path: &str| way(&root, &path.parse().unwrap()).iter().map(|place| place.is).collect::<Vec<_>>();
        let item = [Is::Root, Is::Child(0), Is::Item(7), Is::Round(2)];
        assert_eq!(is("0/0/7/2"), item);
        for (number, last) in [("0", Is::Validator), ("11000", Is::Fallback(0)), ("12000", Is::Handler(0))] {
            let path = format!("0/0/7/2/{number}");
            assert_eq!(is(&path), [&item[..], &[last]].concat());
            let agent = at(&root, &path.parse().unwrap()).unwrap().agent().unwrap().to_string();
            assert_eq!(agent, ["v", "b", "c"][["0", "11000", "12000"].iter().position(|n| *n == number).unwrap()]);
        }
        assert!(at(&root, &"0/0/7/2/5".parse().unwrap()).is_none(), "nothing stands there");
        assert!(at(&root, &"0/1".parse().unwrap()).is_none());
    }
}
