//! Reads memory by a handle that it never opened.

use ltmc::memory::{self, Scope};
use ltmc::{Agent, Failure, Task};

#[link(wasm_import_module = "ltmc:agent/memory@0.1.0")]
unsafe extern "C" {
    #[link_name = "[method]store.get"]
    fn store_get(store: u32, key: *const u8, length: usize, out: *mut u8);
}

#[ltmc::agent]
#[derive(Default)]
struct ForgedHandle;

impl Agent for ForgedHandle {
    type Input = String;
    type Output = String;

    fn execute(&self, _input: String, _task: &Task) -> Result<String, Failure> {
        let _opened = memory::open(Scope::Agent)?;
        let mut out = [0_u64; 16];
        // SAFETY: the canonical form of `store.get`: the handle, the key, and room for the result. The handle is made up,
        // which is the point: the host is to stop the guest before anything is written.
        unsafe { store_get(7_777, "n".as_ptr(), 1, out.as_mut_ptr().cast()) };
        Ok(format!("{out:?}"))
    }
}
