//! Asks the host for 3 GB of random bytes at once.

#[link(wasm_import_module = "wasi:random/random@0.2.6")]
unsafe extern "C" {
    #[link_name = "get-random-bytes"]
    fn get_random_bytes(len: u64, out: *mut u8);
}

fn main() {
    let mut out = [0_u32; 2];
    // SAFETY: the canonical form of `get-random-bytes: func(len: u64) -> list<u8>`: the list's address and length are
    // written to `out`, which has room for both.
    unsafe { get_random_bytes(3_000_000_000, out.as_mut_ptr().cast()) };
    println!("{}", out[1]);
}
