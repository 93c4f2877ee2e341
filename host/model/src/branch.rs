//! What branches of a workflow came to, as who makes one of them is given it: a list in JSON.

use serde_json::Value;

use crate::Payload;

/// A branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// What it is called.
    pub name: String,
    /// What it came to.
    pub came: Came,
}

/// What a branch came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// It gave this.
    Output(Payload),
    /// It failed.
    Failed {
        /// With this code.
        code: String,
        /// In words.
        message: String,
    },
    /// It was not done, or not to its end.
    Skipped,
}

impl Branch {
    /// The longest list.
    pub const MOST: usize = crate::workflow::MapItems::MAX_ITEMS;

    /// Reads a list of `{branch, output, content-type?}`, `{branch, failure: {code, message}}` and `{branch, skipped: true}`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn listed(input: &Payload) -> Result<Vec<Self>, String> {
        let wrong = |what: &str| {
            format!("the input of what makes one of branches is a list of what each came to in JSON, and {what}")
        };
        let value: Value = serde_json::from_slice(&input.bytes).map_err(|e| wrong(&format!("this is none: {e}")))?;
        let Value::Array(items) = value else { return Err(wrong("this is no list")) };
        if items.len() > Self::MOST {
            return Err(wrong(&format!("this has more than {}", Self::MOST)));
        }
        let read = items.into_iter().enumerate();
        read.map(|(number, item)| Self::of(item).ok_or_else(|| wrong(&format!("item {number} is none")))).collect()
    }

    fn of(item: Value) -> Option<Self> {
        let Value::Object(mut fields) = item else { return None };
        let Some(Value::String(name)) = fields.remove("branch") else { return None };
        if let Some(output) = fields.remove("output") {
            let payload = match fields.remove("content-type") {
                None => Payload::json(&output),
                Some(Value::String(content_type)) => {
                    let bytes = match output {
                        Value::String(text) if !is_json(&content_type) => text.into_bytes(),
                        output => output.to_string().into_bytes(),
                    };
                    Payload { content_type, bytes: bytes.into() }
                }
                Some(_) => return None,
            };
            return Some(Self { name, came: Came::Output(payload) });
        }
        if let Some(failure) = fields.get("failure") {
            let text = |field: &str| failure.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
            return Some(Self { name, came: Came::Failed { code: text("code"), message: text("message") } });
        }
        fields.contains_key("skipped").then_some(Self { name, came: Came::Skipped })
    }
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind == Payload::JSON || kind.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_branches_came_to_is_read_and_anything_else_is_refused() {
        let list = json!([
            {"branch": "a", "output": {"x": 1}},
            {"branch": "b", "content-type": "text/plain", "output": "hello"},
            {"branch": "c", "failure": {"code": "agent-error", "message": "no", "agent-code": null}},
            {"branch": "d", "skipped": true},
            {"branch": "e", "output": null},
        ]);
        let read = Branch::listed(&Payload::json(&list)).unwrap();
        let came: Vec<&Came> = read.iter().map(|branch| &branch.came).collect();
        let failed = Came::Failed { code: "agent-error".into(), message: "no".into() };
        let text = Payload { content_type: "text/plain".into(), bytes: "hello".into() };
        let [object, null] = [json!({"x": 1}), json!(null)].map(|value| Came::Output(Payload::json(&value)));
        assert_eq!(came, [&object, &Came::Output(text), &failed, &Came::Skipped, &null]);
        for wrong in [json!({}), json!([1]), json!([{"branch": 1, "output": 1}]), json!([{"branch": "a"}])] {
            let why = Branch::listed(&Payload::json(&wrong)).unwrap_err();
            assert!(why.contains("is a list of what each came to"), "{why}");
        }
    }
}
