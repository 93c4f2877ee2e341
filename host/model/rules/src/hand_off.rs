//! What host and in-memory host decide alike about hand-offs: who may be handed a conversation, and what of it passes.

use serde_json::Value;

/// How many agents a conversation may go among.
pub const MAX_AMONG: usize = 20;
/// The most hand-offs in a turn that can be asked for.
pub const MAX_AT_MOST: u32 = 32;
/// How many there are where nothing else is said.
pub const AT_MOST: u32 = 6;
/// How many of these may be from one agent to the same other one, where nothing else is said.
pub const PER_PAIR: u32 = 2;
/// The longest reason, in bytes.
pub const MAX_REASON: usize = 1 << 10;
/// How much may be passed besides the conversation, in bytes.
pub const MAX_PASSED: usize = 64 << 10;
/// The longest content type, in bytes.
const MAX_TYPE: usize = 256;
/// How many fields of what is passed can be named.
pub const MAX_FIELDS: usize = 32;

/// What is answered to whoever has handed its conversation on, whatever it asks.
pub const FENCED: &str =
    "fenced: this attempt has handed its conversation on, and does nothing more in it; it ends now";

/// Among whom a conversation goes, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Guards<'a> {
    /// The agents that may hold it.
    pub among: &'a [&'a str],
    /// Hand-offs of a turn.
    pub at_most: u32,
    /// Of these from one to the same other one.
    pub per_pair: u32,
}

/// Why somebody is not handed a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It was asked for what cannot be.
    Invalid(String),
    /// There were as many hand-offs as may be.
    Quota(String),
}

impl Guards<'_> {
    /// Whether `from` may hand a conversation to `to`, after these hand-offs of the same turn.
    ///
    /// # Errors
    /// Why not, and what would be right.
    pub fn check(&self, from: &str, to: &str, so_far: &[(&str, &str)]) -> Result<(), Refused> {
        if from == to {
            return Err(Refused::Invalid(format!("`{to}` holds the conversation: nobody hands it to themselves")));
        }
        if !self.among.contains(&to) {
            let others: Vec<String> =
                self.among.iter().filter(|one| **one != from).map(|one| format!("`{one}`")).collect();
            return Err(Refused::Invalid(format!("`{to}` is none of {}, among whom it goes", others.join(", "))));
        }
        if so_far.len() >= self.at_most as usize {
            return Err(Refused::Quota(format!("a turn has at most {} hand-offs (`at-most`)", self.at_most)));
        }
        let same = so_far.iter().filter(|pair| **pair == (from, to)).count();
        if same >= self.per_pair as usize {
            let message = format!("`{from}` hands to `{to}` at most {} times in a turn (`per-pair`)", self.per_pair);
            return Err(Refused::Quota(message));
        }
        Ok(())
    }
}

/// Whether a reason is one.
///
/// # Errors
/// What would be right.
pub fn check_reason(reason: &str) -> Result<(), String> {
    if crate::is_printable(reason, MAX_REASON) {
        return Ok(());
    }
    Err(format!("a reason has 1 to {MAX_REASON} bytes, without control characters"))
}

/// Whether so much of such a type can be passed.
///
/// # Errors
/// What would be right.
pub fn check_passed(content_type: &str, bytes: usize) -> Result<(), String> {
    if !content_type.is_empty() && !crate::is_printable(content_type, MAX_TYPE) {
        return Err(format!("its content type is a media type of at most {MAX_TYPE} bytes without control characters"));
    }
    if bytes <= MAX_PASSED {
        return Ok(());
    }
    Err(format!("what is passed has at most {MAX_PASSED} bytes, not {bytes}"))
}

/// What is passed where a summary is: there has to be one.
///
/// # Errors
/// What would be right.
pub fn check_summary(passed: Option<&[u8]>) -> Result<(), String> {
    if passed.is_some_and(|passed| !passed.is_empty()) {
        return Ok(());
    }
    Err("here a summary passes, and nothing of the conversation: pass one".into())
}

/// What is passed where only some fields of it are, in JSON.
///
/// # Errors
/// Where it is no JSON object.
pub fn only(fields: &[String], passed: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let wrong = || format!("here only fields pass ({}): pass a JSON object", fields.join(", "));
    let value: Value = serde_json::from_slice(passed.ok_or_else(wrong)?).map_err(|_| wrong())?;
    let Value::Object(mut object) = value else { return Err(wrong()) };
    object.retain(|name, _| fields.iter().any(|field| field == name));
    serde_json::to_vec(&object).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARDS: Guards<'_> = Guards { among: &["triage", "refunds", "tech"], at_most: 3, per_pair: 1 };

    #[test]
    fn a_conversation_goes_to_another_one_of_those_among_whom_it_goes() {
        assert_eq!(GUARDS.check("triage", "refunds", &[]), Ok(()));
        assert!(matches!(GUARDS.check("triage", "triage", &[]), Err(Refused::Invalid(_))));
        let Err(Refused::Invalid(why)) = GUARDS.check("triage", "stranger", &[]) else { panic!("it goes") };
        assert_eq!(why, "`stranger` is none of `refunds`, `tech`, among whom it goes");
    }

    #[test]
    fn it_goes_so_often_and_no_more() {
        let pair = [("triage", "refunds")];
        assert!(matches!(GUARDS.check("triage", "refunds", &pair), Err(Refused::Quota(_))));
        assert_eq!(GUARDS.check("refunds", "triage", &pair), Ok(()), "back is another pair");
        let three = [("triage", "refunds"), ("refunds", "tech"), ("tech", "triage")];
        assert!(matches!(GUARDS.check("triage", "tech", &three), Err(Refused::Quota(_))));
    }

    #[test]
    fn what_passes_is_what_was_said() {
        assert!(check_summary(None).is_err() && check_summary(Some(b"")).is_err() && check_summary(Some(b"s")).is_ok());
        let fields = ["order".to_owned()];
        assert_eq!(only(&fields, Some(br#"{"order": 7, "card": "secret"}"#)).unwrap(), br#"{"order":7}"#);
        assert!(
            only(&fields, Some(b"[1]")).is_err() && only(&fields, None).is_err() && only(&fields, Some(b"no")).is_err()
        );
        assert!(check_passed("text/plain", MAX_PASSED).is_ok() && check_passed("", MAX_PASSED + 1).is_err());
        assert!(check_passed("a\nb", 1).is_err());
        assert!(
            check_reason("").is_err() && check_reason("a\nb").is_err() && check_reason("it is about money").is_ok()
        );
    }
}
