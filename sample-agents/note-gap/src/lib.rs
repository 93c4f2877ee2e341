//! Says in a review that something was not looked at, and why: the fallback of agents that look for something, so that one which fails
//! costs its own findings and no others.

use findings::Scan;
use ltmc::{Agent, Failure, Json, Task};
use serde::Deserialize;

/// The longest reason, in bytes.
const LONGEST: usize = 400;

/// Why there is nothing.
#[derive(Debug, Deserialize)]
pub struct Gap {
    /// In a sentence.
    pub why: String,
}

/// Takes a [`Gap`], gives a [`Scan`] without findings that says it.
#[ltmc::agent]
#[derive(Default)]
pub struct NoteGap;

impl Agent for NoteGap {
    type Input = Json<Gap>;
    type Output = Json<Scan>;

    fn execute(&self, Json(Gap { mut why }): Json<Gap>, _task: &Task) -> Result<Json<Scan>, Failure> {
        if why.len() > LONGEST {
            why.truncate(why.floor_char_boundary(LONGEST));
            why.push('…');
        }
        Ok(Json(Scan { gap: Some(why), ..Scan::default() }))
    }
}

#[cfg(test)]
mod tests {
    use ltmc::testing::Host;

    use super::*;

    #[test]
    fn the_reason_is_said_and_is_bounded() {
        let say = |why: String| Host::new().call::<NoteGap>(Json(Gap { why })).map(|Json(scan)| scan.gap.unwrap());
        assert_eq!(say("no rules".into()).unwrap(), "no rules");
        assert_eq!(say("ä".repeat(1_000)).unwrap().chars().count(), LONGEST / 2 + 1);
    }
}
