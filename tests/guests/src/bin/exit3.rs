//! Ends with status 3, and says why.

fn main() {
    eprintln!("three is what you get");
    std::process::exit(3);
}
