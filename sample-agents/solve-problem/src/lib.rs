//! Holds a conversation about something that does not work: answers from what the team has noted.

use desk::{About, Case};
use ltmc::{Agent, Failure, Task, hand_off, recall};

/// What is less alike than this is no answer.
const NEAR: f32 = 0.1;

/// The agent.
#[derive(Default)]
#[ltmc::agent]
pub struct SolveProblem;

impl Agent for SolveProblem {
    type Input = String;
    type Output = String;

    fn execute(&self, message: String, _task: &Task) -> Result<String, Failure> {
        let mut case = Case::read()?.with(&message);
        if About::of(&message) == Some(About::Money) {
            case.write()?;
            hand_off::to_with("settle-refund", "now it is about money", case.summary(&message))?;
            return Ok(String::new());
        }
        let found = recall::search(&message, 1)?.hits.into_iter().next().filter(|hit| hit.score >= NEAR);
        let answer = match found {
            Some(note) => {
                case.done.push(format!("told of the note `{}`", note.id));
                note.text
            }
            None => "We have no note on that. What does it say on your screen?".to_owned(),
        };
        case.write()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> ltmc::testing::Host {
        let desk = ["triage-request", "settle-refund", "solve-problem"];
        let host = ltmc::testing::Host::new().agent("solve-problem").holds(&desk);
        let host = host.grant("memory:read:session").grant("memory:write:session");
        host.grant("recall:read").grant("recall:write").grant("hand-off:settle-refund")
    }

    #[test]
    fn what_was_noted_is_the_answer_and_money_is_somebody_elses() {
        let host = host();
        host.within(|| recall::remember("crash", "Where the app crashes, install version 2.1.")).unwrap();
        let answer = host.call::<SolveProblem>("the app crashes".into()).unwrap();
        assert_eq!(answer, "Where the app crashes, install version 2.1.");
        host.call::<SolveProblem>("then I want a refund".into()).unwrap();
        assert_eq!(host.hand_offs()[0].to, "settle-refund");
    }
}
