//! Makes one of what branches gave: their names, by what became of them. Where a branch gave `{"refuse": true}` it fails.

use ltmc::serde_json::{Value, json};
use ltmc::{Aggregator, Branch, BranchOutcome, Failure, Json, Task};

#[ltmc::aggregator]
#[derive(Default)]
struct Tally;

impl Aggregator for Tally {
    type Input = Json<Value>;
    type Output = Json<Value>;

    fn aggregate(&self, branches: Vec<Branch<Json<Value>>>, _task: &Task) -> Result<Json<Value>, Failure> {
        let (mut gave, mut failed, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for Branch { name, outcome } in branches {
            match outcome {
                BranchOutcome::Output(Json(value)) if value["refuse"] == true => {
                    return Err(Failure::new("refused", format!("`{name}` said so")));
                }
                BranchOutcome::Output(Json(value)) => gave.push(json!({"name": name, "value": value})),
                BranchOutcome::Failed(failure) => failed.push(json!({"name": name, "code": failure.code})),
                BranchOutcome::Skipped => skipped.push(name),
            }
        }
        Ok(Json(json!({"gave": gave, "failed": failed, "skipped": skipped})))
    }
}
