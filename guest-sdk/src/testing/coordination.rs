//! Other agents, in memory: what is called is done at once.

use std::fmt::Display;
use std::rc::Rc;

use ltmc_rules::coordination::{
    MAX_ABOVE, MAX_CHILDREN, check_input, check_joined, check_need, check_question, too_deep, too_many,
};
use serde::Serialize;

use super::attempt::{Crossing, Ended};
use super::{Host, State, current, names};
use crate::coordination::{CallFailure, Need, Question};
use crate::{Agent, Error, Failure, IntoPayload, Json, Payload};

/// What an agent does that others call.
pub(super) type Callee = Rc<dyn Fn(&Host, Payload) -> Result<Payload, CallFailure>>;

/// How a child ended.
pub(super) type Done = Result<Payload, CallFailure>;

impl Host {
    /// There is an agent under this name that agents may call. It has the same grants and shares the same context.
    ///
    /// # Panics
    /// When it is no agent's name.
    #[must_use]
    pub fn has<A: Agent + 'static>(self, agent: &str) -> Self {
        self.callee(agent, Rc::new(|host: &Self, input| host.called(|| host.execute::<A>(input))))
    }

    /// There is an agent under this name that gives this to those who call it.
    ///
    /// # Panics
    /// When it is no agent's name.
    #[must_use]
    pub fn answers(self, agent: &str, answer: impl Fn(Payload) -> Result<Payload, Failure> + 'static) -> Self {
        self.callee(agent, Rc::new(move |host: &Self, input| host.called(|| answer(input))))
    }

    /// For this need this agent is found, which [`has`](Self::has) or [`answers`](Self::answers) says what it does. For any other need
    /// nobody is.
    #[must_use]
    pub fn finds(self, need: &str, agent: &str) -> Self {
        self.state.borrow_mut().found.insert(need.to_owned(), agent.to_owned());
        self
    }

    /// To the question of this title people answer this. Any other one is not answered: it fails with `timed-out`. Answers are not held to
    /// the question's schema here.
    ///
    /// # Panics
    /// When the answer cannot be written as JSON.
    #[must_use]
    pub fn replies(self, title: &str, answer: &impl Serialize) -> Self {
        let answer = Json(answer).into_payload().unwrap_or_else(|e| panic!("{e}"));
        self.state.borrow_mut().replies.insert(title.to_owned(), answer);
        self
    }

    /// What people were asked so far, by agents whose attempt went that far.
    pub fn asked(&self) -> Vec<Question> {
        self.state.borrow().asked.clone()
    }

    fn callee(self, agent: &str, callee: Callee) -> Self {
        names::agent(agent).unwrap_or_else(|e| panic!("{e}"));
        self.state.borrow_mut().callees.insert(agent.to_owned(), callee);
        self
    }

    /// Runs what an agent does as a call of its own, and says how it ended as the host would.
    fn called(&self, run: impl FnOnce() -> Result<Payload, Failure>) -> Done {
        match self.once(run, Result::is_ok) {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(Failure { code, message, retryable })) => {
                Err(CallFailure::new("agent-error", Some(code), message, retryable))
            }
            Err(Ended::Conflict) => Err(CallFailure::new("conflict", None, "others were faster", false)),
            Err(_) => Err(CallFailure::new("agent-trapped", None, "it panicked", true)),
        }
    }
}

/// An agent that is about to do what is asked of it.
struct Ready {
    host: Host,
    callee: Callee,
    input: Payload,
}

impl Ready {
    fn run(self) -> Done {
        (self.callee)(&self.host, self.input)
    }
}

pub(crate) fn call(agent: &str, input: Payload) -> Result<Result<Payload, CallFailure>, Error> {
    let request = format!("call {agent} {input:?}");
    current()?.cross_apart(format_args!("{request}"), |at| at.ready(agent, input), |ready| ready.run())
}

pub(crate) fn begin(agent: &str, input: Payload) -> Result<String, Error> {
    let request = format!("begin {agent} {input:?}");
    let call = current()?;
    let ended = |ready: Ready| {
        let host = ready.host.clone();
        let done = ready.run();
        host.state.borrow_mut().child(done)
    };
    call.cross_apart(format_args!("{request}"), |at| at.ready(agent, input), ended)
}

pub(crate) fn need(need: Need, input: Payload) -> Result<String, Error> {
    let request = format!("need {need:?} {input:?}");
    let call = current()?;
    let found = |at: &mut Crossing<'_>| {
        let Need { text, among, at_least } = &need;
        check_need(text, among.len(), *at_least).map_err(Error::Invalid)?;
        for agent in among {
            names::agent(agent)?;
            at.state.demand(&format!("call:{agent}"))?;
        }
        if among.is_empty() {
            at.state.demand("call:*")?;
        }
        if among.iter().any(|agent| !at.state.callees.contains_key(agent)) {
            return Err(Error::NotFound);
        }
        check_input(&input.content_type, &input.bytes).map_err(Error::Invalid)?;
        let found = at.state.found.get(text).filter(|agent| among.is_empty() || among.contains(agent)).cloned();
        match found {
            Some(agent) => at.ready(&agent, input).map(Ok),
            None => {
                at.begins(&"need")?;
                Ok(Err((at.host.clone(), no_candidate(text))))
            }
        }
    };
    let ended = |found: Result<Ready, (Host, CallFailure)>| {
        let (host, done) = match found {
            Ok(ready) => (ready.host.clone(), ready.run()),
            Err((host, failure)) => (host, Err(failure)),
        };
        host.state.borrow_mut().child(done)
    };
    call.cross_apart(format_args!("{request}"), found, ended)
}

fn no_candidate(text: &str) -> CallFailure {
    CallFailure::new("no-candidate", None, format!("no agent fits what is needed, \"{text}\""), false)
}

pub(crate) fn ask(question: Question) -> Result<String, Error> {
    let request = format!("ask {question:?}");
    current()?.cross(format_args!("{request}"), |at| {
        let shown = question.show.as_ref().map(|show| show.bytes.len());
        let timeout_ms = question.timeout.map(super::millis);
        check_question(&question.title, shown, question.schema.as_deref(), timeout_ms).map_err(Error::Invalid)?;
        at.state.demand(&format!("ask:{}", question.of.as_str()))?;
        at.begins(&"question")?;
        let late = || CallFailure::new("timed-out", None, "nobody answered in time", false);
        let done = at.state.replies.get(&question.title).cloned().ok_or_else(late);
        at.state.asked.push(question.clone());
        Ok(at.state.child(done))
    })
}

pub(crate) fn join(children: &[String]) -> Result<Vec<Result<Payload, CallFailure>>, Error> {
    current()?.cross(format_args!("join {children:?}"), |at| {
        check_joined(children.len()).map_err(Error::Invalid)?;
        let found = children.iter().map(|child| at.state.children.get(child).cloned().ok_or(Error::NotFound));
        let found = found.collect::<Result<Vec<_>, _>>()?;
        at.checkpoint();
        Ok(found)
    })
}

impl Crossing<'_> {
    /// Whether this may be asked of that agent; what was done so far is then true.
    fn ready(&mut self, agent: &str, input: Payload) -> Result<Ready, Error> {
        names::agent(agent)?;
        self.state.demand(&format!("call:{agent}"))?;
        check_input(&input.content_type, &input.bytes).map_err(Error::Invalid)?;
        let callee = self.state.callees.get(agent).cloned();
        let above = self.above(&agent)?;
        let callee = callee.ok_or(Error::NotFound)?;
        self.begun();
        let host = Host { above, ..self.host.clone() }.agent(agent);
        Ok(Ready { host, callee, input })
    }

    /// Something that is no agent begins below this one.
    fn begins(&mut self, what: &dyn Display) -> Result<(), Error> {
        self.above(what)?;
        self.begun();
        Ok(())
    }

    /// What would run above what this one begins.
    fn above(&self, next: &dyn Display) -> Result<Vec<String>, Error> {
        let above: Vec<String> = self.host.above.iter().chain([&self.host.task.agent]).cloned().collect();
        if above.len() > MAX_ABOVE {
            return Err(Error::QuotaExceeded(too_deep(&above, next)));
        }
        if self.state.called >= MAX_CHILDREN {
            return Err(Error::QuotaExceeded(too_many()));
        }
        Ok(above)
    }

    /// One more is begun; what was done so far is true before.
    fn begun(&mut self) {
        self.state.called += usize::from(self.host.above.is_empty());
        self.checkpoint();
    }
}

impl State {
    /// A child that is over, by the id that it is joined by.
    fn child(&mut self, done: Done) -> String {
        let run = format!("00000000-0000-7000-8001-{:012}", self.children.len() + 1);
        self.children.insert(run.clone(), done);
        run
    }
}
