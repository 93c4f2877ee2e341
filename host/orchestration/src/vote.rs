//! Votes of branches: counted, and what has won.
//!
//! Invariants: bounded: a value is short and there are so many of them. Values are the same where conditions say so: numbers by their value,
//! objects whatever their fields' order. The same votes come to the same, in whichever order they were given.

use ltmc_journal::node::Voted;
use ltmc_model::Payload;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Count, Decided};
use ltmc_model::workflow::{Pick, Source, Vote, is_same};
use serde_json::{Value, json};

use crate::input::MAX_BUILT;
use crate::picked::{Json, Picked};

/// Counts what branches voted for; whose output has nothing there, or null, does not vote.
///
/// # Errors
/// Where a value is too long, or there are too many.
pub(crate) fn counted(vote: &Vote, outputs: &[Payload]) -> Result<Decided, Failure> {
    let pick = Pick { source: Source::Output, path: vote.path.clone(), or_else: None };
    let mut counts: Vec<Count> = Vec::new();
    for output in outputs {
        let Some(value) = voted(&pick, output)? else { continue };
        if let Some(count) = counts.iter_mut().find(|count| is_same(&count.value, &value)) {
            count.votes += 1;
            continue;
        }
        if counts.len() == Vote::MAX_VALUES {
            let most = Vote::MAX_VALUES;
            return Err(bad_step(format!("branches voted for more than {most} different values")));
        }
        counts.push(Count { value, votes: 1 });
    }
    // Of those that have as many that comes first which came first.
    counts.sort_by_key(|count| std::cmp::Reverse(count.votes));
    let votes = |number: usize| counts.get(number).map_or(0, |count| count.votes as usize);
    let is_won = vote.rule.is_won(votes(0), votes(1), outputs.len());
    Ok(Decided::Voted { of: u32::try_from(outputs.len()).unwrap_or(u32::MAX), is_won, counts })
}

fn voted(pick: &Pick, output: &Payload) -> Result<Option<Value>, Failure> {
    // What cannot be read says nothing.
    let Ok(Some(text)) = Json::of(output, MAX_BUILT) else { return Ok(None) };
    let found = Picked::from(&text, std::iter::once(pick));
    let Ok(found) = found.get(pick) else { return Ok(None) };
    if found.len() > Vote::MAX_VALUE {
        let (most, bytes) = (Vote::MAX_VALUE, found.len());
        return Err(bad_step(format!("a branch votes for a value of at most {most} bytes, and one has {bytes}")));
    }
    let value: Value = serde_json::from_str(found).map_err(|e| bad_step(format!("a vote is no JSON: {e}")))?;
    Ok(Some(value).filter(|value| !value.is_null()))
}

/// What a vote comes to: what has won, with the counts. `said`: by whoever was asked because no value has.
pub(crate) fn outcome(voted: &Voted, said: Option<Value>) -> Payload {
    let first = voted.counts.first().map(|count| count.value.clone());
    let value = said.or(first).unwrap_or_default();
    let votes = voted.counts.iter().find(|count| is_same(&count.value, &value)).map_or(0, |count| count.votes);
    Payload::json(&json!({"value": value, "votes": votes, "of": voted.of, "counts": *voted.counts}))
}

fn bad_step(message: String) -> Failure {
    Failure::new(Code::BadStep, message)
}

#[cfg(test)]
mod tests {
    use ltmc_model::workflow::Rule;

    use super::*;

    fn outputs(values: &[Value]) -> Vec<Payload> {
        values.iter().map(Payload::json).collect()
    }

    fn vote(rule: Rule) -> Vote {
        Vote { path: vec!["x".into()], rule, tie: None }
    }

    #[test]
    fn values_are_counted_by_what_they_are() {
        let given =
            [json!({"x": 1}), json!({"x": 1.0}), json!({"x": {"a": 1, "b": 2}}), json!({"x": {"b": 2, "a": 1}})];
        let none = [json!({"x": null}), json!({"y": 1}), json!([1])];
        let given: Vec<Value> = given.into_iter().chain([json!({"x": 1})]).chain(none).collect();
        let decided = counted(&vote(Rule::Plurality), &outputs(&given)).unwrap();
        let Decided::Voted { counts, of, is_won } = decided else { panic!("a vote") };
        let seen: Vec<_> = counts.iter().map(|count| (count.value.to_string(), count.votes)).collect();
        assert_eq!(seen, [("1".to_owned(), 3), (r#"{"a":1,"b":2}"#.to_owned(), 2)]);
        assert_eq!((of, is_won), (8, true));
        let by_majority = counted(&vote(Rule::Majority), &outputs(&given)).unwrap();
        assert!(matches!(by_majority, Decided::Voted { is_won: false, .. }), "3 of 8 are not more than half");
    }

    #[test]
    fn a_vote_comes_to_a_value_with_its_counts() {
        let counts = [Count { value: json!("a"), votes: 2 }, Count { value: json!("b"), votes: 2 }];
        let voted = Voted { counts: counts.into(), of: 5, is_won: false };
        let outcome = |said| outcome(&voted, said).to_value().unwrap();
        let all = json!([{"value": "a", "votes": 2}, {"value": "b", "votes": 2}]);
        assert_eq!(outcome(None), json!({"value": "a", "votes": 2, "of": 5, "counts": all}));
        assert_eq!(outcome(Some(json!("b"))), json!({"value": "b", "votes": 2, "of": 5, "counts": all}));
        assert_eq!(outcome(Some(json!("c"))), json!({"value": "c", "votes": 0, "of": 5, "counts": all}));
    }

    #[test]
    fn values_that_are_too_long_or_too_many_are_refused() {
        let long = outputs(&[json!({"x": "y".repeat(Vote::MAX_VALUE)})]);
        let many: Vec<Value> = (0..=Vote::MAX_VALUES).map(|number| json!({"x": number})).collect();
        for (given, words) in [(long, "at most 1024 bytes"), (outputs(&many), "more than 1000 different values")] {
            let failure = counted(&vote(Rule::Majority), &given).unwrap_err();
            assert!(failure.code == Code::BadStep && failure.message.contains(words), "{failure}");
        }
    }
}
