//! What the attributes export: an author's role as the generated trait of its interface.

use std::marker::PhantomData;

use crate::bindings::agent_world::exports::ltmc::agent::agent as wit_agent;
use crate::bindings::aggregator_world::exports::ltmc::agent::aggregator as wit_aggregator;
use crate::bindings::host::ltmc::agent::types;
use crate::bindings::validator_world::exports::ltmc::agent::validator as wit_validator;
use crate::{
    Agent, Aggregator, Branch, BranchOutcome, Failure, FromPayload, IntoPayload, Payload, Task, Validator, aggregator,
    validator,
};

/// The component's export `agent`, done by `A`.
#[derive(Debug)]
pub struct AgentExport<A>(PhantomData<A>);

/// What the author's package says of itself.
pub trait Packaged {
    /// `description` in its Cargo.toml.
    const DESCRIPTION: &str;
}

impl<A: Agent + Packaged> wit_agent::Guest for AgentExport<A> {
    fn describe() -> wit_agent::Description {
        let own = A::describe();
        let summary = if own.summary.is_empty() { A::DESCRIPTION.to_owned() } else { own.summary };
        wit_agent::Description { summary, accepts: own.accepts, produces: own.produces }
    }

    fn execute(task: types::Task) -> Result<types::Payload, types::Failure> {
        let (input, task) = take(task);
        A::Input::from_payload(input)
            .and_then(|input| A::default().execute(input, &task))
            .and_then(IntoPayload::into_payload)
            .map(given)
            .map_err(failed)
    }
}

fn given(output: Payload) -> types::Payload {
    types::Payload { content_type: output.content_type, bytes: output.bytes }
}

fn failed(failure: Failure) -> types::Failure {
    let Failure { code, message, retryable } = failure.bounded();
    types::Failure { code, message, retryable }
}

/// The component's export `validator`, done by `V`.
#[derive(Debug)]
pub struct ValidatorExport<V>(PhantomData<V>);

impl<V: Validator> wit_validator::Guest for ValidatorExport<V> {
    fn validate(task: types::Task) -> Vec<wit_validator::Violation> {
        let (input, task) = take(task);
        validator::judge::<V>(input, &task)
            .into_iter()
            .map(|violation| wit_validator::Violation { at: violation.at, message: violation.message })
            .collect()
    }
}

/// The component's export `aggregator`, done by `A`.
#[derive(Debug)]
pub struct AggregatorExport<A>(PhantomData<A>);

impl<A: Aggregator> wit_aggregator::Guest for AggregatorExport<A> {
    fn aggregate(task: types::Task, branches: Vec<wit_aggregator::Branch>) -> Result<types::Payload, types::Failure> {
        let (_, task) = take(task);
        let branches = branches.into_iter().map(|wit_aggregator::Branch { name, outcome }| {
            let outcome = match outcome {
                wit_aggregator::Outcome::Output(payload) => {
                    BranchOutcome::Output(Payload::new(payload.content_type, payload.bytes))
                }
                wit_aggregator::Outcome::Failed(types::Failure { code, message, retryable }) => {
                    BranchOutcome::Failed(Failure { code, message, retryable })
                }
                wit_aggregator::Outcome::Skipped => BranchOutcome::Skipped,
            };
            Branch { name, outcome }
        });
        aggregator::combine::<A>(branches.collect(), &task).map(given).map_err(failed)
    }
}

fn take(task: types::Task) -> (Payload, Task) {
    let types::Task { input, run, step, attempt, agent, session } = task;
    (Payload::new(input.content_type, input.bytes), Task { run, step, attempt, agent, session })
}

/// Exports the role on one struct; the generated macros take an identifier, hence the alias.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_agent {
    ($agent:ident) => {
        impl ::ltmc::__private::Packaged for $agent {
            const DESCRIPTION: &str = env!("CARGO_PKG_DESCRIPTION");
        }
        type Exported = ::ltmc::__private::AgentExport<$agent>;
        ::ltmc::__private::agent_world::export_agent_world!(Exported with_types_in ::ltmc::__private::agent_world);
    };
}

/// As `__export_agent`.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_aggregator {
    ($aggregator:ident) => {
        type Exported = ::ltmc::__private::AggregatorExport<$aggregator>;
        ::ltmc::__private::aggregator_world::export_aggregator_world!(
            Exported with_types_in ::ltmc::__private::aggregator_world
        );
    };
}

/// As `__export_agent`.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_validator {
    ($validator:ident) => {
        type Exported = ::ltmc::__private::ValidatorExport<$validator>;
        ::ltmc::__private::validator_world::export_validator_world!(
            Exported with_types_in ::ltmc::__private::validator_world
        );
    };
}
