//! Calls across the sandbox's wall: everything that a guest can ask of the host, a file per interface.
//!
//! A call is a struct. [`HostCall`] says beside it all that the host has to know of it: its name, what it is answered with,
//! what it needs, whether it changes anything, how it replays. The crossing does the rest, the same for all.
//! [`Call`] is any of them, for whoever passes calls on.
//!
//! Invariant: a call's name, its reply and the form of its request ([`form`]) stand in journals, and so for ever.
//!
//! To add a call: its struct with its [`HostCall`] in its interface's file, and its name in the list at the top of that file.
//! To add an interface: a file here, and its line in [`Call`]. A test fails until `tests/requests.rs` has an example of it.

use crate::capability::Capability;
use crate::effect::{Mismatch, Reply};
use crate::{Digest, call::form::Request};

/// The calls of one interface as one type, `$name`, which is the variant `$interface` of [`Call`]; and each of them as a
/// [`Call`].
macro_rules! interface {
    ($(#[$doc:meta])* $interface:ident: $name:ident { $($call:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = concat!("See [`", stringify!($call), "`].")] $call($call)),+
        }

        impl $name {
            /// The names of its calls, as they stand in the journal.
            pub const NAMES: &[&str] = &[$(<$call as super::HostCall>::NAME),+];

            pub(super) fn any(&self) -> &dyn super::AnyCall {
                match self {
                    $(Self::$call(call) => call),+
                }
            }
        }

        $(impl From<$call> for super::Call {
            fn from(call: $call) -> Self {
                Self::$interface($name::$call(call))
            }
        })+
    };
}

/// [`Call`], with a line for each interface: its variant, and the type of its calls.
macro_rules! interfaces {
    ($($(#[$doc:meta])* $interface:ident($calls:ty)),+ $(,)?) => {
        /// One host call, converted and bounded, not yet authorized. A line for each interface.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Call {
            $($(#[$doc])* $interface($calls)),+
        }

        impl Call {
            /// The name of every call that there is, interface by interface.
            pub fn names() -> impl Iterator<Item = &'static str> {
                [$(<$calls>::NAMES),+].into_iter().flatten().copied()
            }

            fn any(&self) -> &dyn AnyCall {
                match self {
                    $(Self::$interface(call) => call.any()),+
                }
            }
        }
    };
}

pub mod attempt;
pub mod coordination;
pub mod form;
pub mod graph;
pub mod log;
pub mod memory;
pub mod messages;
pub mod recall;
pub mod session;
pub mod state;

/// The longest that a call waits for something to come.
pub const MAX_WAIT_MS: u64 = 30_000;

interfaces! {
    /// A call of `ltmc:agent/attempt`.
    Attempt(attempt::AttemptCall),
    /// A call of `ltmc:agent/log`.
    Log(log::LogCall),
    /// A call of `ltmc:agent/memory`.
    Memory(memory::MemoryCall),
    /// A call of `ltmc:agent/graph`.
    Graph(graph::GraphCall),
    /// A call of `ltmc:agent/recall`.
    Recall(recall::RecallCall),
    /// A call of `ltmc:agent/messages`.
    Messages(messages::MessageCall),
    /// A call of `ltmc:agent/coordination`.
    Coordination(coordination::CoordinationCall),
    /// A call of `ltmc:agent/session`.
    Session(session::SessionCall),
    /// A call of `ltmc:agent/state`.
    State(state::StateCall),
}

/// What the host has to know of a call.
pub trait HostCall: Into<Call> + Send + Sync + 'static {
    /// What it is answered with.
    type Reply: Into<Reply> + TryFrom<Reply, Error = Mismatch> + Send;

    /// In the journal and the metrics, such as `memory.put`.
    const NAME: &'static str;

    /// How it replays.
    const CLASS: Class = Class::Transactional;

    /// Whether it may change anything: a client then needs the right to write.
    const CHANGES: bool;

    /// The capabilities of which one must be in force; none: anybody may.
    fn needs(&self) -> Vec<Capability>;

    /// Capabilities that must all be in force besides.
    fn needs_besides(&self) -> Vec<Capability> {
        Vec::new()
    }

    /// What it is about, for people who read the journal: a key, a prefix. The rest beyond 200 characters is cut.
    fn about(&self) -> String;

    /// The whole request, in the form 1: what a replay is compared by.
    fn request(&self) -> Request;
}

/// How a call replays when its step is resumed; durability.md has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Made again; no entry.
    Pure,
    /// The result from the journal; the change and its entry are one commit.
    Transactional,
}

impl Call {
    /// Its name in the journal and the metrics.
    pub fn name(&self) -> &'static str {
        self.any().name()
    }

    /// How it replays.
    pub fn class(&self) -> Class {
        self.any().class()
    }

    /// Whether it may change anything.
    pub fn changes(&self) -> bool {
        self.any().changes()
    }

    /// The capabilities of which one must be in force; none: anybody may.
    pub fn needs(&self) -> Vec<Capability> {
        self.any().needs()
    }

    /// Capabilities that must all be in force besides.
    pub fn needs_besides(&self) -> Vec<Capability> {
        self.any().needs_besides()
    }

    /// What it is about, for people who read the journal: a key, a prefix; at most 200 characters.
    pub fn about(&self) -> String {
        let mut text = self.any().about();
        if let Some((end, _)) = text.char_indices().nth(200) {
            text.truncate(end);
        }
        text
    }

    /// The request, written in the form that a journal's entry names; none: this version does not know the form.
    ///
    /// A form 2 would be a function beside [`HostCall::request`] that is the same unless a call says otherwise, and a line
    /// here; journals go on to be compared by the form in which they were written.
    pub fn request_in(&self, form: u32) -> Option<Request> {
        match form {
            1 => Some(self.any().request()),
            _ => None,
        }
    }

    /// What the request is known by, in the form [`form::CURRENT`].
    pub fn digest(&self) -> Digest {
        self.any().request().digest()
    }
}

/// [`HostCall`], for who does not know which call it is.
trait AnyCall {
    fn name(&self) -> &'static str;
    fn class(&self) -> Class;
    fn changes(&self) -> bool;
    fn needs(&self) -> Vec<Capability>;
    fn needs_besides(&self) -> Vec<Capability>;
    fn about(&self) -> String;
    fn request(&self) -> Request;
}

impl<C: HostCall> AnyCall for C {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn class(&self) -> Class {
        C::CLASS
    }

    fn changes(&self) -> bool {
        C::CHANGES
    }

    fn needs(&self) -> Vec<Capability> {
        HostCall::needs(self)
    }

    fn needs_besides(&self) -> Vec<Capability> {
        HostCall::needs_besides(self)
    }

    fn about(&self) -> String {
        HostCall::about(self)
    }

    fn request(&self) -> Request {
        HostCall::request(self)
    }
}
