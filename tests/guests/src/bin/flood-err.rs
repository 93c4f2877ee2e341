//! Writes 32 MiB to standard error, and ends well.

use std::io::Write as _;

fn main() {
    let line = [b'x'; 64 << 10];
    for _ in 0..512 {
        if std::io::stderr().write_all(&line).is_err() {
            break;
        }
    }
    print!("done");
}
