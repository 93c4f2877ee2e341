//! ltmc
fn main() {}
