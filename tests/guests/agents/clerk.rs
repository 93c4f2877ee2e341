//! Holds a conversation: does what the message says to it, such as `a>b` (hand it to `b`), `a>back`, `a>b!` (and go on as if nothing had happened), or
//! answers who it is and how it came to hold the conversation.

use ltmc::{Agent, Error, Failure, Json, Task, hand_off, memory};
use serde::Serialize;

#[derive(Serialize)]
struct Output {
    holder: String,
    from: Option<String>,
    reason: Option<String>,
    refused: Option<String>,
}

#[ltmc::agent]
#[derive(Default)]
struct Clerk;

impl Agent for Clerk {
    type Input = String;
    type Output = Json<Output>;

    fn execute(&self, message: String, task: &Task) -> Result<Json<Output>, Failure> {
        let done = memory::open(memory::Scope::Session)?;
        let mut refused = None;
        for order in message.split(' ') {
            let Some((who, to)) = order.split_once('>') else { continue };
            // Each word is for one holder, once.
            if who != task.agent || done.get(order)?.is_some() {
                continue;
            }
            done.put(order, "done")?;
            let handed = match to.trim_end_matches('!') {
                "back" => hand_off::back("not mine"),
                to => hand_off::to(to, "as was said"),
            };
            match handed {
                Ok(()) if to.ends_with('!') => {
                    let late = done.put("late", "x");
                    assert!(matches!(&late, Err(Error::Invalid(why)) if why.starts_with("fenced")), "{late:?}");
                    break;
                }
                Ok(()) => break,
                Err(error) => refused = Some(error.to_string()),
            }
        }
        let handed = if refused.is_none() { hand_off::received().ok().flatten() } else { None };
        let (from, reason) = handed.map(|handed| (handed.from, handed.reason)).unzip();
        Ok(Json(Output { holder: task.agent.clone(), from, reason, refused }))
    }
}
