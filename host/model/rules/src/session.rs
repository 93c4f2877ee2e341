//! What host and in-memory host decide alike about conversations.

/// So many turns are told at once at most.
pub const MAX_TOLD: u32 = 50;
/// Bytes of what was said and answered that are told at once, where one turn is not larger by itself.
pub const MAX_TOLD_BYTES: usize = 1 << 20;

/// Whether so many turns can be asked for.
///
/// # Errors
/// What would be right.
pub fn check_last(last: u32) -> Result<(), String> {
    if (1..=MAX_TOLD).contains(&last) {
        return Ok(());
    }
    Err(format!("of a conversation the last 1 to {MAX_TOLD} turns are told at once, not {last}"))
}

/// How many of these are told, the newest first: so many, and no more bytes than fit, but one at least.
pub fn told(newest_first: impl IntoIterator<Item = usize>, last: u32) -> usize {
    let mut bytes = 0;
    let fits = |(number, size): (usize, usize)| {
        bytes += size;
        number == 0 || bytes <= MAX_TOLD_BYTES
    };
    newest_first.into_iter().take(last as usize).enumerate().map(fits).take_while(|fits| *fits).count()
}

#[test]
fn the_newest_are_told_and_one_at_least() {
    assert_eq!(told([10, 10, 10], 2), 2);
    assert_eq!(told([MAX_TOLD_BYTES + 1, 1], 9), 1);
    assert_eq!(told([1, MAX_TOLD_BYTES, 1], 9), 1);
    assert_eq!(told([], 9), 0);
    assert!(check_last(0).is_err() && check_last(51).is_err() && check_last(50).is_ok());
}
