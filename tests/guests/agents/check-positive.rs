//! Judges a result: every number in it is to be above zero.

use ltmc::serde_json::Value;
use ltmc::{Json, Task, Validator, Violation};

#[ltmc::validator]
#[derive(Default)]
struct CheckPositive;

impl Validator for CheckPositive {
    type Input = Json<Value>;

    fn validate(&self, Json(value): Json<Value>, _task: &Task) -> Vec<Violation> {
        let mut found = Vec::new();
        look(&value, String::new(), &mut found);
        found
    }
}

fn look(value: &Value, at: String, found: &mut Vec<Violation>) {
    match value {
        Value::Number(number) if number.as_f64().is_some_and(|n| n <= 0.0) => {
            found.push(Violation::new(at, format!("{number} is not above zero")));
        }
        Value::Object(fields) => fields.iter().for_each(|(name, value)| look(value, format!("{at}/{name}"), found)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, value)| look(value, format!("{at}/{i}"), found)),
        _ => {}
    }
}
