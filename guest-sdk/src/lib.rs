//! What an agent's author depends on: the contract of `wit/` in ordinary Rust, and an in-memory host for native tests.
//!
//! ```
//! use ltmc::{Agent, Failure, Json, Task};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Greeting {
//!     name: String,
//! }
//!
//! #[derive(Debug, PartialEq, Serialize)]
//! struct Reply {
//!     text: String,
//! }
//!
//! /// Greets by name.
//! #[ltmc::agent]
//! #[derive(Default)]
//! struct Hello;
//!
//! impl Agent for Hello {
//!     type Input = Json<Greeting>;
//!     type Output = Json<Reply>;
//!
//!     fn execute(&self, Json(input): Json<Greeting>, _task: &Task) -> Result<Json<Reply>, Failure> {
//!         Ok(Json(Reply { text: format!("Hello, {}!", input.name) }))
//!     }
//! }
//!
//! let reply = ltmc::testing::Host::new().call::<Hello>(Json(Greeting { name: "Ada".to_owned() }));
//! assert_eq!(reply, Ok(Json(Reply { text: "Hello, Ada!".to_owned() })));
//! ```
//!
//! Invariants: nothing here grants anything, the host decides on each call; every host call that fails does so by a
//! value, [`Error`]; bindings and `unsafe` are compiled for wasm32 only, [`testing`] for every other target only.
//!
//! To add an interface `x` of `wit/`: `x.rs` with the types an author sees, and its functions twice under the same names: in
//! the module `guest` of that file (over the bindings) and in `testing/x.rs` (in memory).

// The generated exports name the SDK by this path, inside the SDK and in the author's crate alike.
#[cfg(target_arch = "wasm32")]
extern crate self as ltmc;

mod agent;
mod aggregator;
pub mod coordination;
mod error;
mod failure;
pub mod graph;
pub mod hand_off;
pub mod log;
pub mod memory;
pub mod messages;
mod payload;
pub mod recall;
pub mod session;
pub mod state;
mod task;
mod validator;

#[cfg(target_arch = "wasm32")]
mod bindings;
#[cfg(target_arch = "wasm32")]
mod export;
#[cfg(target_arch = "wasm32")]
mod guest;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

/// What stands behind the interfaces: the host's imports in a component, the in-memory host in a native test.
#[cfg(target_arch = "wasm32")]
use guest as host;
#[cfg(not(target_arch = "wasm32"))]
use testing as host;

/// The longest that one call of the host waits for something to come.
const MAX_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

pub use agent::{Agent, Description};
pub use aggregator::{Aggregator, Branch, BranchOutcome};
pub use error::Error;
pub use failure::Failure;
pub use ltmc_sdk_macros::{agent, aggregator, validator};
pub use payload::{FromPayload, IntoPayload, Json, Payload};
/// For values without a type of their own: `serde_json::Value` and `json!`.
pub use serde_json;
pub use task::Task;
pub use validator::{Validator, Violation};

/// What the attributes expand to; no part of the API.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::{agent_world, aggregator_world, validator_world, wit_bindgen_rt};
    pub use crate::export::{AgentExport, AggregatorExport, Packaged, ValidatorExport};
    pub use crate::{
        __export_agent as export_agent, __export_aggregator as export_aggregator,
        __export_validator as export_validator,
    };
}
