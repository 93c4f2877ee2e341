//! Calls itself for ever, a few bytes a time.

fn main() {
    println!("{}", deeper(1));
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn deeper(n: u64) -> u64 {
    std::hint::black_box(deeper(std::hint::black_box(n + 1)) + n)
}
