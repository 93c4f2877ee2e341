//! Looks for what others keep, by names it has guessed, in every scope.

use ltmc::memory::{self, Scope};
use ltmc::{Agent, Failure, Task};

#[ltmc::agent]
#[derive(Default)]
struct SnoopTenant;

impl Agent for SnoopTenant {
    type Input = String;
    type Output = String;

    fn execute(&self, guess: String, _task: &Task) -> Result<String, Failure> {
        let mut found = Vec::new();
        for scope in [Scope::Global, Scope::Session, Scope::Agent] {
            let store = memory::open(scope)?;
            for key in [guess.as_str(), "n", "../n", "alpha/n", "alpha\u{1f}n", "agent:counter:n"] {
                if let Ok(Some(entry)) = store.get(key) {
                    found.push(entry.key);
                }
            }
            for entry in store.list("") {
                found.push(entry?.key);
            }
        }
        Ok(found.join(","))
    }
}
