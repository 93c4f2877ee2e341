//! A plan: what a run does, made ready once and shared by all runs of the same document.

use std::collections::BTreeMap;
use std::sync::Arc;

use ltmc_model::StepPath;
use ltmc_model::agent::AgentRef;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::RunStarted;
use ltmc_model::run::Target;
use ltmc_model::workflow::{AgentStep, Document, Node, Place, Retry, StepName, Validate};

use crate::patterns::{self, Pattern};

pub(crate) struct Plan {
    pub(crate) flow: Box<dyn Pattern>,
    root: Branch,
    names: BTreeMap<StepName, StepPath>,
}

/// A node of the document, to be found by the way to it. A pattern whose children are made as it goes, from one template,
/// is a branch that has the template for every number.
enum Branch {
    Step(Box<Step>),
    Children(Vec<Branch>),
}

/// A step, with what judges its output.
pub(crate) struct Step {
    pub(crate) step: AgentStep,
    /// The schema that its output is judged by, in JSON.
    pub(crate) schema: Option<String>,
}

/// What is done at a path.
pub(crate) enum Work<'a> {
    /// A step's own work.
    Step(&'a Step),
    /// Judging the output of a step, by an agent.
    Validator(&'a AgentRef),
}

impl Plan {
    pub(crate) fn of(document: &Document) -> Result<Self, Failure> {
        Self::of_node(&document.flow)
    }

    /// The plan of a lone call.
    pub(crate) fn call(agent: &AgentRef) -> Result<Self, Failure> {
        let id = agent.name.as_str().parse();
        let id = id.map_err(|_| Failure::new(Code::Internal, "an agent's name is a step's name"))?;
        let retry = Retry::none();
        let step = AgentStep { agent: agent.clone(), id, with: None, validate: None, retry, place: Place::default() };
        Self::of_node(&Node::Agent(Box::new(step)))
    }

    /// The plan of a run as its journal pins it.
    pub(crate) fn pinned(started: &RunStarted) -> Result<Self, Failure> {
        match (&started.document, &started.target) {
            (Some(json), _) => {
                let document = Document::from_json(json).map_err(|faults| {
                    Failure::new(Code::BadStep, format!("this version does not read the run's document: {faults}"))
                })?;
                Self::of(&document)
            }
            (None, Target::Agent(agent)) => Self::call(agent),
            (None, Target::Workflow(_)) => Err(Failure::new(Code::Internal, "the journal lacks the run's document")),
        }
    }

    fn of_node(node: &Node) -> Result<Self, Failure> {
        let mut names = BTreeMap::new();
        let root = branch(node, StepPath::root(), &mut names)?;
        Ok(Self { flow: patterns::of(node, StepPath::root()), root, names })
    }

    /// What is done at `path`.
    pub(crate) fn work(&self, path: &StepPath) -> Result<Work<'_>, Failure> {
        let missing = || Failure::new(Code::Internal, format!("the plan has nothing at {path}"));
        let (mut at, mut way) = (&self.root, path.way());
        while let Branch::Children(children) = at {
            at = way.next().and_then(|index| children.get(index)).ok_or_else(missing)?;
        }
        let Branch::Step(step) = at else { return Err(missing()) };
        match (way.next(), way.next(), &step.step.validate) {
            (None, ..) => Ok(Work::Step(step)),
            (Some(VALIDATOR), None, Some(Validate::Agent { agent, .. })) => Ok(Work::Validator(agent)),
            _ => Err(missing()),
        }
    }

    /// The step at `path`.
    pub(crate) fn step(&self, path: &StepPath) -> Result<&Step, Failure> {
        match self.work(path)? {
            Work::Step(step) => Ok(step),
            Work::Validator(_) => Err(Failure::new(Code::Internal, format!("{path} is a validator's place"))),
        }
    }

    /// Where a step of this name stands.
    pub(crate) fn path(&self, name: &StepName) -> Option<&StepPath> {
        self.names.get(name)
    }
}

fn branch(node: &Node, path: StepPath, names: &mut BTreeMap<StepName, StepPath>) -> Result<Branch, Failure> {
    match node {
        Node::Agent(step) => {
            let schema = match &step.validate {
                Some(Validate::Schema { schema, .. }) => Some(schema.to_string()),
                Some(Validate::Agent { .. }) | None => None,
            };
            names.insert(step.id.clone(), path);
            Ok(Branch::Step(Box::new(Step { step: AgentStep::clone(step), schema })))
        }
        Node::Sequence(children) => {
            let children = children.iter().enumerate().map(|(index, child)| branch(child, path.child(index), names));
            children.collect::<Result<_, _>>().map(Branch::Children)
        }
    }
}

/// The number of a step's validator among the children of the step, which has no others.
const VALIDATOR: usize = 0;

/// Where the attempts of a step's validator stand.
pub(crate) fn validator_path(step: &StepPath) -> StepPath {
    step.child(VALIDATOR)
}

pub(crate) type Shared = Arc<Plan>;
