//! What a key is, and the bounds of memory.

/// The longest key, in bytes.
pub const MAX_KEY: usize = 512;
/// The largest value, in bytes.
pub const MAX_VALUE: usize = 1 << 20;
/// The longest page of a list.
pub const MAX_PAGE: u32 = 1_000;

/// What was wrong with a key: empty, too long, or with a control character in it.
pub fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(format!("a key is 1 to {MAX_KEY} bytes, this one has {}", key.len()));
    }
    match key.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("a key has no control characters, this one has {c:?}")),
        None => Ok(()),
    }
}
