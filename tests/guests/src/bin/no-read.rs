//! Does not read its input.

fn main() {
    print!("ok");
}
