//! A guest that panics as soon as it begins.

fn main() {
    panic!("this cannot go on");
}
