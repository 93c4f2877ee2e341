//! Shows its environment and its arguments.

fn main() {
    for (name, value) in std::env::vars() {
        println!("{name}={value}");
    }
    for argument in std::env::args().skip(1) {
        println!("{argument}");
    }
}
