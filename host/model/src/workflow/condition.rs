//! Conditions of workflow documents: the grammar is [`ltmc_rules::condition`]'s, what is picked a document's [`Pick`].

pub use ltmc_rules::condition::{Test, is_same};

use super::Pick;

/// What holds or does not.
pub type Condition = ltmc_rules::condition::Condition<Pick>;

#[cfg(test)]
mod tests {
    use serde_json::{Number, json};

    use super::*;

    #[test]
    fn every_test_comes_to_an_answer_for_every_value() {
        let values =
            [None, Some(json!(null)), Some(json!(3)), Some(json!("abc")), Some(json!([1])), Some(json!({"a": 1}))];
        let number = |n: i64| Number::from(n);
        for (test, wanted) in [
            (Test::Equals(json!(3.0)), [false, false, true, false, false, false]),
            (Test::Equals(json!(null)), [false, true, false, false, false, false]),
            (Test::Equals(json!({"a": 1.0})), [false, false, false, false, false, true]),
            (Test::In(vec![json!("abc"), json!([1])]), [false, false, false, true, true, false]),
            (Test::Less(number(4)), [false, false, true, false, false, false]),
            (Test::Less(number(3)), [false; 6]),
            (Test::AtLeast(number(3)), [false, false, true, false, false, false]),
            (Test::AtLeast(number(4)), [false; 6]),
            (Test::Prefix("ab".into()), [false, false, false, true, false, false]),
            (Test::Suffix("bc".into()), [false, false, false, true, false, false]),
            (Test::Exists(true), [false, true, true, true, true, true]),
            (Test::Exists(false), [true, false, false, false, false, false]),
        ] {
            let pick: Pick = "$.input".parse().unwrap();
            let one = Condition::Test { pick, test };
            let both = Condition::All(vec![one.clone(), Condition::Not(Box::new(one.clone()))]);
            let either = Condition::Any(vec![one.clone(), Condition::Not(Box::new(one.clone()))]);
            for (value, wanted) in values.iter().zip(wanted) {
                let find = |_: &Pick| value.as_ref().map(std::borrow::Cow::Borrowed);
                assert_eq!(one.holds(&find), wanted, "{one:?} of {value:?}");
                assert!(!both.holds(&find) && either.holds(&find));
            }
        }
    }
}
