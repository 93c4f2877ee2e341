//! What an event is, and the bounds of mailboxes.

use crate::is_printable;

/// The longest attribute of an event, in bytes.
pub const MAX_ATTRIBUTE: usize = 256;
/// The largest content of an event, in bytes.
pub const MAX_DATA: usize = 256 << 10;
/// How many messages a mailbox holds before it pushes back.
pub const MAX_MAILBOX: u32 = 10_000;
/// How many messages are taken at once.
pub const MAX_TAKEN: u32 = 100;
/// How often a message is handed out before it goes to the dead letters.
pub const MAX_DELIVERIES: u32 = 5;

/// What was wrong with an event's attributes or content.
pub fn check(kind: &str, subject: Option<&str>, content_type: &str, data: &[u8]) -> Result<(), String> {
    if !is_printable(kind, MAX_ATTRIBUTE) {
        return Err(format!("an event's type is 1 to {MAX_ATTRIBUTE} bytes without control characters"));
    }
    if subject.is_some_and(|subject| !is_printable(subject, MAX_ATTRIBUTE)) {
        return Err(format!(
            "an event's subject, where it has one, is 1 to {MAX_ATTRIBUTE} bytes without control characters"
        ));
    }
    if data.len() > MAX_DATA {
        return Err(format!("an event's data has at most {MAX_DATA} bytes, not {}", data.len()));
    }
    if !content_type.is_empty() && !is_printable(content_type, MAX_ATTRIBUTE) {
        return Err(format!(
            "an event's content type is a media type of at most {MAX_ATTRIBUTE} bytes without control characters"
        ));
    }
    Ok(())
}
