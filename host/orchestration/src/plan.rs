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
    steps: BTreeMap<StepPath, Step>,
    names: BTreeMap<StepName, StepPath>,
}

/// A step, with what judges its output.
pub(crate) struct Step {
    pub(crate) step: AgentStep,
    pub(crate) schema: Option<jsonschema::Validator>,
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
        let mut plan =
            Self { flow: patterns::of(node, StepPath::root()), steps: BTreeMap::new(), names: BTreeMap::new() };
        plan.collect(node, StepPath::root())?;
        Ok(plan)
    }

    fn collect(&mut self, node: &Node, path: StepPath) -> Result<(), Failure> {
        match node {
            Node::Agent(step) => {
                let schema = match &step.validate {
                    Some(Validate::Schema { schema, .. }) => Some(jsonschema::validator_for(schema).map_err(|e| {
                        Failure::new(Code::BadStep, format!("the JSON Schema of step `{}`: {e}", step.id))
                    })?),
                    Some(Validate::Agent { .. }) | None => None,
                };
                self.names.insert(step.id.clone(), path.clone());
                self.steps.insert(path, Step { step: AgentStep::clone(step), schema });
            }
            Node::Sequence(children) => {
                for (index, child) in children.iter().enumerate() {
                    self.collect(child, path.child(index))?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn step(&self, path: &StepPath) -> Result<&Step, Failure> {
        let missing = || Failure::new(Code::Internal, format!("the plan has no step {path}"));
        self.steps.get(path).ok_or_else(missing)
    }

    /// Where a step of this name stands.
    pub(crate) fn path(&self, name: &StepName) -> Option<&StepPath> {
        self.names.get(name)
    }
}

/// Where the attempts of a step's validator stand: an agent's step has no children of its own.
pub(crate) fn validator_path(step: &StepPath) -> StepPath {
    step.child(0)
}

pub(crate) type Shared = Arc<Plan>;
