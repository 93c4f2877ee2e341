//! Calls itself for ever, 64 KiB of stack a time.

fn main() {
    println!("{}", deeper(1));
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn deeper(n: u64) -> u64 {
    let room = std::hint::black_box([n; 8 << 10]);
    std::hint::black_box(deeper(n + 1) + room[usize::try_from(n).unwrap_or(0) % room.len()])
}
