//! Tells a support desk which orders there are, and what the team has noted.

use std::collections::BTreeMap;

use ltmc::memory::{self, Scope};
use ltmc::{Agent, Failure, Json, Task, recall};
use serde::{Deserialize, Serialize};

/// What a desk has to know.
#[derive(Debug, Default, Deserialize)]
pub struct Brief {
    /// What was paid for each order, in cents.
    #[serde(default)]
    pub orders: BTreeMap<String, u64>,
    /// Notes, by their ids.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
}

/// How much there is of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// How many orders are kept.
    pub orders: usize,
    /// How many notes are kept.
    pub notes: usize,
}

/// The agent.
#[derive(Default)]
#[ltmc::agent]
pub struct BriefDesk;

impl Agent for BriefDesk {
    type Input = Json<Brief>;
    type Output = Json<Kept>;

    fn execute(&self, Json(Brief { orders, notes }): Json<Brief>, _task: &Task) -> Result<Json<Kept>, Failure> {
        let shop = memory::open(Scope::Global)?;
        for (order, paid) in &orders {
            shop.put_json(&format!("orders/{order}"), paid)?;
        }
        for (id, text) in &notes {
            recall::remember(id, text)?;
        }
        Ok(Json(Kept { orders: orders.len(), notes: notes.len() }))
    }
}

#[test]
fn what_it_is_told_is_there_for_the_desk() {
    let host = ltmc::testing::Host::new().grant("memory:write:global").grant("recall:write");
    let brief =
        Brief { orders: [("4711".into(), 1_950)].into(), notes: [("crash".into(), "Restart it.".into())].into() };
    assert_eq!(host.call::<BriefDesk>(Json(brief)), Ok(Json(Kept { orders: 1, notes: 1 })));
    assert_eq!(host.memory(Scope::Global).get_json::<u64>("orders/4711"), Some(1_950));
}
