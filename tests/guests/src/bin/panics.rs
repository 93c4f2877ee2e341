//! Panics.

fn main() {
    panic!("this cannot go on");
}
