//! The host's side of the interface `ltmc:agent/coordination`.

use ltmc_model::call::coordination as call;
use ltmc_model::caller::Role;
use ltmc_model::child::{Ended, check_joined, check_need, check_question};
use ltmc_model::hand_off::{self, Handed};
use ltmc_model::{AgentName, Payload};

use super::{Answered, wit};
use crate::guest::Guest;
use wit::coordination::CallFailure;

impl wit::coordination::Host for Guest {
    async fn call(
        &mut self,
        agent: String,
        input: wit::types::Payload,
    ) -> Answered<Result<wit::types::Payload, CallFailure>> {
        match parsed(&agent) {
            Ok(agent) => Ok(self.cross_aside(call::Call { agent, input: payload(input) }).await?.map(ended)),
            Err(why) => Ok(Err(wit::types::Error::Invalid(why))),
        }
    }

    async fn begin(&mut self, agent: String, input: wit::types::Payload) -> Answered<String> {
        let call = parsed(&agent).map(|agent| call::Begin { agent, input: payload(input) });
        Ok(self.cross_checked(call).await?.map(|run| run.to_string()))
    }

    async fn need(&mut self, needed: wit::coordination::Needed, input: wit::types::Payload) -> Answered<String> {
        let wit::coordination::Needed { text, among, at_least } = needed;
        let call = check_need(&text, among.len(), at_least).and_then(|()| {
            let among = among.iter().map(|agent| parsed(agent)).collect::<Result<Vec<_>, String>>()?;
            Ok(call::Need { text, among, at_least, input: payload(input) })
        });
        Ok(self.cross_checked(call).await?.map(|run| run.to_string()))
    }

    async fn ask(&mut self, question: wit::coordination::Question) -> Answered<String> {
        let wit::coordination::Question { title, of, show, schema, timeout_ms } = question;
        let shown = show.as_ref().map(|show| show.bytes.len());
        let call = check_question(&title, shown, schema.as_deref(), timeout_ms).map(|()| {
            let of = match of {
                wit::coordination::Role::Admin => Role::Admin,
                wit::coordination::Role::Author => Role::Author,
                wit::coordination::Role::Caller => Role::Caller,
            };
            call::Ask { title, of, show: show.map(payload), schema, timeout_ms }
        });
        Ok(self.cross_checked(call).await?.map(|run| run.to_string()))
    }

    async fn join(&mut self, children: Vec<String>) -> Answered<Vec<Result<wit::types::Payload, CallFailure>>> {
        let parsed = check_joined(children.len()).and_then(|()| {
            let parsed = children.iter().map(|child| child.parse().map_err(|e| format!("{e}")));
            parsed.collect::<Result<Vec<_>, String>>()
        });
        match parsed {
            Ok(children) => {
                let joined = self.cross_aside(call::Join { children }).await?;
                Ok(joined.map(|joined| joined.into_iter().map(ended).collect()))
            }
            Err(why) => Ok(Err(wit::types::Error::Invalid(why))),
        }
    }

    async fn hand_off(&mut self, to: String, reason: String, passed: Option<wit::types::Payload>) -> Answered<()> {
        let call = parsed(&to).and_then(|to| {
            let (reason, passed) = bounded(reason, passed)?;
            Ok(call::HandOff { to, reason, passed })
        });
        self.cross_checked(call).await
    }

    async fn hand_back(&mut self, reason: String, passed: Option<wit::types::Payload>) -> Answered<()> {
        let call = bounded(reason, passed).map(|(reason, passed)| call::HandBack { reason, passed });
        self.cross_checked(call).await
    }

    async fn received(&mut self) -> Answered<Option<wit::coordination::Handed>> {
        Ok(self.cross(call::Received).await?.map(|handed| handed.map(told)))
    }
}

/// What is handed on, within its bounds.
fn bounded(reason: String, passed: Option<wit::types::Payload>) -> Result<(String, Option<Payload>), String> {
    hand_off::check_reason(&reason)?;
    if let Some(passed) = &passed {
        hand_off::check_passed(&passed.content_type, passed.bytes.len())?;
    }
    Ok((reason, passed.map(payload)))
}

fn told(handed: Handed) -> wit::coordination::Handed {
    let Handed { from, reason, passed } = handed;
    let passed =
        passed.map(|passed| wit::types::Payload { content_type: passed.content_type, bytes: passed.bytes.into() });
    wit::coordination::Handed { from: from.to_string(), reason, passed }
}

fn parsed(agent: &str) -> Result<AgentName, String> {
    agent.parse().map_err(|e| format!("{e}"))
}

fn payload(payload: wit::types::Payload) -> Payload {
    Payload { content_type: payload.content_type, bytes: payload.bytes.into() }
}

fn ended(ended: Ended) -> Result<wit::types::Payload, CallFailure> {
    match ended.result {
        Ok(output) => Ok(wit::types::Payload { content_type: output.content_type, bytes: output.bytes.into() }),
        Err(failure) => Err(CallFailure {
            code: failure.code.as_str().to_owned(),
            retryable: failure.may_pass(),
            agent_code: failure.agent_code,
            message: failure.message,
        }),
    }
}
