//! The host's side of `wit/`, generated: traits that `host/<interface>.rs` implements.

#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from wit/, where the words are")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "ltmc:agent/host",
    imports: { default: async | trappable },
    with: { "ltmc:agent/memory.store": crate::host::memory::Opened },
});
