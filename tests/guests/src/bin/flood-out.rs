//! Writes to standard output for ever.

use std::io::Write as _;

fn main() {
    let line = [b'x'; 64 << 10];
    while std::io::stdout().write_all(&line).is_ok() {}
}
