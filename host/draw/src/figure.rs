//! What is drawn of a document: a figure a node, with the lines that say what it is, and how what is below it stands.

use ltmc_model::child::OnParentEnd;
use ltmc_model::fork::Policy;
use ltmc_model::workflow::places::ANY;
use ltmc_model::workflow::{
    Choice, Collect, Context, Debate, Document, Does, Handler, Loop, MapItems, Node, Parallel, SubWorkflow, Turn,
    Validate,
};

use crate::note;
use crate::state::State;

/// One node.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Its place in the tree, with `*` for any item of a `map`, and for any round of a `loop`.
    pub path: String,
    /// The word of its pattern; `validate` for what judges.
    pub word: &'static str,
    /// What it is called.
    pub title: String,
    /// What else is to be said of it, a line each.
    pub notes: Vec<String>,
    /// What is below it.
    pub body: Body,
    /// What makes one of all that is below it.
    pub closing: Option<Box<Branch>>,
    /// Who judges what it gives.
    pub judge: Option<Box<Figure>>,
    /// What is done in its place where it fails, and what undoes it.
    pub rescues: Vec<Branch>,
    /// What became of it in a run.
    pub state: Option<State>,
}

/// What is below a node.
#[derive(Debug, Clone)]
pub enum Body {
    /// No other node: it is a leaf of the tree.
    Leaf,
    /// One after the other.
    Down(Vec<Figure>),
    /// Side by side: all of them, or one.
    Across(Vec<Branch>),
    /// One that says which of several is done.
    Led(Box<Figure>, Vec<Branch>),
    /// The same for every item.
    Each(Box<Figure>),
    /// The same again and again.
    Again(Box<Figure>),
}

/// One of several, and what it is called there.
#[derive(Debug, Clone)]
pub struct Branch {
    /// A branch's name, or when it is done.
    pub label: Option<String>,
    /// What it is.
    pub figure: Figure,
}

impl Figure {
    /// Of a document.
    pub fn of(document: &Document) -> Self {
        Self::node(&document.flow, "0".to_owned())
    }

    fn node(node: &Node, path: String) -> Self {
        let Node { does, id, when, with, validate, retry, timeout, fallback, on_error, compensate, place: _ } = node;
        let id = id.as_ref().map(|id| id.as_str());
        let mut notes = Vec::new();
        notes.extend(when.as_ref().map(|when| format!("when {}", note::condition(when))));
        let (title, body) = Self::inside(does, id, &path, &mut notes);
        notes.extend(with.as_ref().map(|with| format!("with {}", note::with(with))));
        notes.extend(note::retry(retry));
        notes.extend(timeout.map(|timeout| format!("timeout {}", note::duration(timeout))));
        let judge = validate.as_ref().map(|validate| Box::new(judge(validate, below(&path, node.validator()))));
        let in_its_place = (Node::FALLBACK..).zip(fallback).map(|(number, fallback)| Branch {
            label: Some(format!("fallback {}", number - Node::FALLBACK + 1)),
            figure: Self::node(fallback, below(&path, number)),
        });
        let handlers = (Node::HANDLER..).zip(on_error).map(|(number, handler)| {
            let Handler { when, node } = handler;
            let condition = when.as_ref().map_or_else(String::new, |when| format!(" when {}", note::condition(when)));
            Branch { label: Some(format!("on-error{condition}")), figure: Self::node(node, below(&path, number)) }
        });
        let undone = compensate.iter().map(|node| Branch {
            label: Some("compensate".to_owned()),
            figure: Self::node(node, below(&path, Node::COMPENSATION)),
        });
        let settled = node.context().into_iter().flat_map(|context| settled(context, &path));
        let rescues = settled.chain(in_its_place).chain(handlers).chain(undone).collect();
        let closing = node.closing().map(|(number, step)| {
            let label = match &node.does {
                Does::Debate(_) => "close",
                Does::Parallel(Parallel { collect: Collect::Vote(_), .. }) => Self::TIE,
                Does::Map(map) if matches!(map.collect, Collect::Vote(_)) => Self::TIE,
                _ => "collect",
            };
            Box::new(Branch { label: Some(label.to_owned()), figure: Self::node(step, below(&path, number)) })
        });
        Self { path, word: node.word(), title, notes, body, closing, judge, rescues, state: None }
    }

    /// What a node is called and what stands in it; what is said besides goes to `notes`.
    fn inside(does: &Does, id: Option<&str>, path: &str, notes: &mut Vec<String>) -> (String, Body) {
        match does {
            Does::Agent(agent) => {
                (note::called(id.filter(|id| *id != agent.name.as_str()), &note::agent(agent)), Body::Leaf)
            }
            Does::Need(needed) => {
                notes.extend(note::needed(needed));
                (note::called(id, "need"), Body::Leaf)
            }
            Does::Workflow(started) => {
                let SubWorkflow { workflow, on_parent_end } = started;
                notes.extend((*on_parent_end == OnParentEnd::Abandon).then(|| "on-parent-end abandon".to_owned()));
                (note::called(id, &format!("workflow {workflow}")), Body::Leaf)
            }
            Does::Wait(wait) => (note::called(id, &note::wait(wait, notes)), Body::Leaf),
            Does::Ask(ask) => {
                notes.extend(note::ask(ask));
                (note::called(id, "ask"), Body::Leaf)
            }
            Does::Emit(emit) => {
                notes.extend(note::emit(emit));
                (note::called(id, "emit"), Body::Leaf)
            }
            Does::Plan(planning) => {
                notes.extend(note::plan(planning));
                (note::called(id, "plan"), Body::Down(vec![Self::node(&planning.planner, below(path, 0))]))
            }
            Does::Sequence(children) => {
                let children =
                    children.iter().enumerate().map(|(number, child)| Self::node(child, below(path, number)));
                (note::called(id, "sequence"), Body::Down(children.collect()))
            }
            Does::Parallel(parallel) => {
                notes.extend(note::parallel(parallel));
                (note::called(id, "parallel"), Body::Across(branches(parallel, path)))
            }
            Does::Choice(choice) => (note::called(id, "choice"), Body::Across(options(choice, path))),
            Does::Map(map) => {
                notes.extend(note::map(map));
                let MapItems { over: _, name: _, body, at_once: _, tolerate: _, context: _, collect: _ } = map.as_ref();
                (note::called(id, "map"), Body::Each(Box::new(Self::node(body, format!("{path}/{ANY}")))))
            }
            Does::Debate(debate) => {
                notes.extend(note::debate(debate));
                let Debate { turn, rounds: _, until: _, close: _ } = debate.as_ref();
                (note::called(id, "debate"), Body::Again(Box::new(Self::node(turn, format!("{path}/{ANY}")))))
            }
            Does::HandOff(goes) => {
                notes.extend(note::hand_off(goes));
                (note::called(id, "hand-off"), Body::Again(Box::new(Self::node(&goes.turn, format!("{path}/{ANY}")))))
            }
            Does::Turn(turn) => ("turn".to_owned(), in_turn(turn, path)),
            // Whoever forks draws what settles its conflicts.
            Does::Settle(_) => ("settle".to_owned(), Body::Leaf),
            Does::Loop(again) => {
                notes.extend(note::again(again));
                let Loop { body, until: _, at_most: _, stall: _ } = again.as_ref();
                (note::called(id, "loop"), Body::Again(Box::new(Self::node(body, format!("{path}/{ANY}")))))
            }
        }
    }

    /// What is called so is done only where no value has won a vote.
    const TIE: &str = "tie";

    /// Whether what makes one of all below it is done only sometimes.
    pub(crate) fn closes_at_times(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.label.as_deref() == Some(Self::TIE))
    }

    /// What stands below it, in the order of the document, with what it is called there.
    pub(crate) fn children(&self) -> Vec<(Option<&str>, &Self)> {
        match &self.body {
            Body::Leaf => Vec::new(),
            Body::Down(children) => children.iter().map(|child| (None, child)).collect(),
            Body::Across(branches) => branches.iter().map(|branch| (branch.label.as_deref(), &branch.figure)).collect(),
            Body::Led(chair, branches) => {
                let branches = branches.iter().map(|branch| (branch.label.as_deref(), &branch.figure));
                [(Some("next"), chair.as_ref())].into_iter().chain(branches).collect()
            }
            Body::Each(child) | Body::Again(child) => vec![(None, child)],
        }
    }

    /// It and everything below it, what judges and what is done in its place included.
    pub(crate) fn each_mut(&mut self, work: &mut impl FnMut(&mut Self)) {
        work(self);
        match &mut self.body {
            Body::Leaf => {}
            Body::Down(children) => children.iter_mut().for_each(|child| child.each_mut(work)),
            Body::Across(branches) => branches.iter_mut().for_each(|branch| branch.figure.each_mut(work)),
            Body::Led(chair, branches) => {
                chair.each_mut(work);
                branches.iter_mut().for_each(|branch| branch.figure.each_mut(work));
            }
            Body::Each(child) | Body::Again(child) => child.each_mut(work),
        }
        self.closing.iter_mut().for_each(|closing| closing.figure.each_mut(work));
        self.judge.iter_mut().for_each(|judge| judge.each_mut(work));
        self.rescues.iter_mut().for_each(|rescue| rescue.figure.each_mut(work));
    }
}

fn below(path: &str, number: usize) -> String {
    format!("{path}/{number}")
}

fn branches(parallel: &Parallel, path: &str) -> Vec<Branch> {
    let Parallel { branches, need: _, on_failure: _, on_loss: _, at_once: _, collect: _, context: _ } = parallel;
    let branch = |(number, (name, node)): (usize, &(Option<_>, Node))| Branch {
        label: name.as_ref().map(ToString::to_string),
        figure: Figure::node(node, below(path, number)),
    };
    branches.iter().enumerate().map(branch).collect()
}

/// What settles conflicts of branches, each by the keys that are its own to settle.
fn settled(context: &Context, path: &str) -> Vec<Branch> {
    let branch = |(prefix, policy): &(String, Policy)| {
        let number = policy.settler()?;
        let by = context.settle.get(number as usize)?.template()?;
        let place = format!("{path}/{}/{ANY}", Node::SETTLING + number as usize);
        let keys = if prefix.is_empty() { "*" } else { prefix };
        Some(Branch { label: Some(format!("conflict of {keys}")), figure: Figure::node(by, place) })
    };
    context.merge.0.iter().filter_map(branch).collect()
}

fn in_turn(turn: &Turn, path: &str) -> Body {
    let first = turn.first();
    let Turn { chair, among, is_held: _ } = turn;
    let speaker = |(number, node): (usize, &Node)| Branch {
        label: None,
        figure: Figure::node(node, below(path, first + number)),
    };
    let among = among.iter().enumerate().map(speaker).collect();
    match chair {
        Some(chair) => Body::Led(Box::new(Figure::node(chair, below(path, 0))), among),
        None => Body::Across(among),
    }
}

fn options(choice: &Choice, path: &str) -> Vec<Branch> {
    let Choice { options, otherwise } = choice;
    let option = |(number, handler): (usize, &Handler)| {
        let Handler { when, node } = handler;
        let label = when.as_ref().map(|when| format!("when {}", note::condition(when)));
        Branch { label, figure: Figure::node(node, below(path, number)) }
    };
    let otherwise = otherwise.iter().map(|node| {
        let label = Some("else".to_owned());
        Branch { label, figure: Figure::node(node, below(path, options.len())) }
    });
    options.iter().enumerate().map(option).chain(otherwise).collect()
}

fn judge(validate: &Validate, path: String) -> Figure {
    let title = match validate {
        Validate::Schema { .. } => "json-schema".to_owned(),
        Validate::Agent { agent, place: _ } => note::agent(agent),
    };
    let (notes, rescues, closing) = (Vec::new(), Vec::new(), None);
    Figure { path, word: "validate", title, notes, body: Body::Leaf, closing, judge: None, rescues, state: None }
}
