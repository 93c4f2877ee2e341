//! Holds a support conversation first: finds out what it is about, and hands it to who knows that.

use desk::{About, Case};
use ltmc::{Agent, Failure, Task, hand_off};

/// The agent.
#[derive(Default)]
#[ltmc::agent]
pub struct TriageRequest;

impl Agent for TriageRequest {
    type Input = String;
    type Output = String;

    fn execute(&self, message: String, _task: &Task) -> Result<String, Failure> {
        let case = Case::read()?.with(&message);
        case.write()?;
        let Some(about) = About::of(&message) else {
            return Ok("How can we help: is it about money, or does something not work?".to_owned());
        };
        let (to, reason) = match about {
            About::Money => ("settle-refund", "it is about money"),
            About::Trouble => ("solve-problem", "something does not work"),
        };
        hand_off::to_with(to, reason, case.summary(&message))?;
        Ok(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> ltmc::testing::Host {
        let desk = ["triage-request", "settle-refund", "solve-problem"];
        let host = ltmc::testing::Host::new().agent("triage-request").holds(&desk);
        let host = host.grant("memory:read:session").grant("memory:write:session");
        host.grant("hand-off:settle-refund").grant("hand-off:solve-problem")
    }

    #[test]
    fn a_request_goes_to_who_knows_what_it_is_about() {
        let host = host();
        assert!(host.call::<TriageRequest>("Hello".into()).unwrap().starts_with("How can we help"));
        assert_eq!(host.hand_offs(), []);
        host.call::<TriageRequest>("I want my money back for order 4711".into()).unwrap();
        let [went] = host.hand_offs().try_into().unwrap();
        assert_eq!((went.to.as_str(), went.reason.as_str()), ("settle-refund", "it is about money"));
        assert!(String::from_utf8(went.passed.unwrap().bytes).unwrap().contains(r#""order":"4711""#));
    }
}
