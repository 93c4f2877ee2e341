//! Other agents, in memory: what is called is done at once.

use std::rc::Rc;

use ltmc_rules::coordination::{MAX_ABOVE, MAX_CHILDREN, check_input, check_joined, too_deep, too_many};

use super::attempt::{Crossing, Ended};
use super::{Host, current, names};
use crate::coordination::CallFailure;
use crate::{Agent, Error, Failure, Payload};

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
        let mut state = host.state.borrow_mut();
        let run = format!("00000000-0000-7000-8001-{:012}", state.children.len() + 1);
        state.children.insert(run.clone(), done);
        run
    };
    call.cross_apart(format_args!("{request}"), |at| at.ready(agent, input), ended)
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
        let above: Vec<String> = self.host.above.iter().chain([&self.host.task.agent]).cloned().collect();
        if above.len() > MAX_ABOVE {
            return Err(Error::QuotaExceeded(too_deep(&above, &agent)));
        }
        if self.state.called >= MAX_CHILDREN {
            return Err(Error::QuotaExceeded(too_many()));
        }
        let callee = self.state.callees.get(agent).cloned().ok_or(Error::NotFound)?;
        self.state.called += usize::from(self.host.above.is_empty());
        self.checkpoint();
        let host = Host { above, ..self.host.clone() }.agent(agent);
        Ok(Ready { host, callee, input })
    }
}
