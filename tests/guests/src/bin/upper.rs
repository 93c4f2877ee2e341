//! A standard program: upper case of what it reads.

use std::io::{Read as _, Write as _};

fn main() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("text on standard input");
    std::io::stdout().write_all(text.to_uppercase().as_bytes()).expect("somebody reads");
}
