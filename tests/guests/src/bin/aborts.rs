//! A guest that aborts as soon as it begins.

fn main() {
    std::process::abort();
}
