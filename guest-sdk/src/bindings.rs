//! The generated bindings of `wit/`: the host's imports once, and each role's export on top of them.
//!
//! One module per role, so that a component exports only the roles whose attribute it uses.

#![allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]

/// The runtime that generated code names, here and in the author's crate.
pub use wit_bindgen::rt as wit_bindgen_rt;

pub mod host {
    wit_bindgen::generate!({
        path: "../wit",
        world: "host",
        generate_all,
        runtime_path: "::ltmc::__private::wit_bindgen_rt",
    });
}

pub mod agent_world {
    wit_bindgen::generate!({
        path: "../wit",
        world: "agent-world",
        pub_export_macro: true,
        export_macro_name: "export_agent_world",
        default_bindings_module: "::ltmc::__private::agent_world",
        runtime_path: "::ltmc::__private::wit_bindgen_rt",
        with: {
            "ltmc:agent/types@0.1.0": crate::bindings::host::ltmc::agent::types,
            "ltmc:agent/attempt@0.1.0": crate::bindings::host::ltmc::agent::attempt,
            "ltmc:agent/memory@0.1.0": crate::bindings::host::ltmc::agent::memory,
            "ltmc:agent/graph@0.1.0": crate::bindings::host::ltmc::agent::graph,
            "ltmc:agent/recall@0.1.0": crate::bindings::host::ltmc::agent::recall,
            "ltmc:agent/messages@0.1.0": crate::bindings::host::ltmc::agent::messages,
            "ltmc:agent/coordination@0.1.0": crate::bindings::host::ltmc::agent::coordination,
            "ltmc:agent/session@0.1.0": crate::bindings::host::ltmc::agent::session,
            "ltmc:agent/state@0.1.0": crate::bindings::host::ltmc::agent::state,
            "ltmc:agent/log@0.1.0": crate::bindings::host::ltmc::agent::log,
        },
    });
}

pub mod validator_world {
    wit_bindgen::generate!({
        path: "../wit",
        world: "validator-world",
        pub_export_macro: true,
        export_macro_name: "export_validator_world",
        default_bindings_module: "::ltmc::__private::validator_world",
        runtime_path: "::ltmc::__private::wit_bindgen_rt",
        with: {
            "ltmc:agent/types@0.1.0": crate::bindings::host::ltmc::agent::types,
            "ltmc:agent/attempt@0.1.0": crate::bindings::host::ltmc::agent::attempt,
            "ltmc:agent/memory@0.1.0": crate::bindings::host::ltmc::agent::memory,
            "ltmc:agent/graph@0.1.0": crate::bindings::host::ltmc::agent::graph,
            "ltmc:agent/recall@0.1.0": crate::bindings::host::ltmc::agent::recall,
            "ltmc:agent/messages@0.1.0": crate::bindings::host::ltmc::agent::messages,
            "ltmc:agent/coordination@0.1.0": crate::bindings::host::ltmc::agent::coordination,
            "ltmc:agent/session@0.1.0": crate::bindings::host::ltmc::agent::session,
            "ltmc:agent/state@0.1.0": crate::bindings::host::ltmc::agent::state,
            "ltmc:agent/log@0.1.0": crate::bindings::host::ltmc::agent::log,
        },
    });
}

pub mod aggregator_world {
    wit_bindgen::generate!({
        path: "../wit",
        world: "aggregator-world",
        pub_export_macro: true,
        export_macro_name: "export_aggregator_world",
        default_bindings_module: "::ltmc::__private::aggregator_world",
        runtime_path: "::ltmc::__private::wit_bindgen_rt",
        with: {
            "ltmc:agent/types@0.1.0": crate::bindings::host::ltmc::agent::types,
            "ltmc:agent/attempt@0.1.0": crate::bindings::host::ltmc::agent::attempt,
            "ltmc:agent/memory@0.1.0": crate::bindings::host::ltmc::agent::memory,
            "ltmc:agent/graph@0.1.0": crate::bindings::host::ltmc::agent::graph,
            "ltmc:agent/recall@0.1.0": crate::bindings::host::ltmc::agent::recall,
            "ltmc:agent/messages@0.1.0": crate::bindings::host::ltmc::agent::messages,
            "ltmc:agent/coordination@0.1.0": crate::bindings::host::ltmc::agent::coordination,
            "ltmc:agent/session@0.1.0": crate::bindings::host::ltmc::agent::session,
            "ltmc:agent/state@0.1.0": crate::bindings::host::ltmc::agent::state,
            "ltmc:agent/log@0.1.0": crate::bindings::host::ltmc::agent::log,
        },
    });
}
