//! Copies its whole memory for ever.

fn main() {
    let (mut a, mut b) = (vec![1_u8; 24 << 20], vec![2_u8; 24 << 20]);
    loop {
        a.copy_from_slice(std::hint::black_box(&b));
        b.copy_from_slice(std::hint::black_box(&a));
    }
}
