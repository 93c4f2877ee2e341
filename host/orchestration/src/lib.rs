//! Runs: workflows and lone calls, from their start to their end, over crashes.
//!
//! Invariants: a pattern decides and does nothing; the engine does and decides nothing. What a run does next is a function
//! of its history alone. A run has one owner at a time; whoever takes it over raises its epoch.
//!
//! - [`patterns`]: what is next, a file each
//! - `plan`: a document, made ready to run; `planned`: one that an agent wrote
//! - `input`: what a step's input is made of; `picked`: what picks find
//! - `coordinator`: which agent does what is needed; `experience`: what was learned from runs that are over, and which workflows are
//!   alike; `similar`: asked for these
//! - `needs`: whose outputs a step works on; `provenance`: what depends on a step, and which runs an agent had a part in
//! - `decide`: what is found out for patterns; `aggregate`: what branches gave together; `turns`: what is said in a debate; `vote`: what
//!   branches voted for
//! - `judge`: whether a step's output is good; `ask`: what people are asked; `emit`: what is published;
//!   `listen`: events that are waited for
//! - `engine`: does what patterns decide, with retries, and journals it; `resumed`: an attempt that is made again;
//!   `guests`: which guests are at work; `rescued`: how often what deals with failures helped; `metered`: what is counted of runs
//! - `children`: runs that a run begins
//! - [`runs`]: the use cases; `stop`: people end and pause runs; `registry`: which runs are alive here; `supervise`: a run's life in this
//!   process; `recover`: runs of before go on at a start; `wake`: suspended runs go on; `news`: that there may be some; `deliver`: what comes from outside;
//!   `suspects`: those of which the host may have died
//! - [`schedules`]: when they are started by themselves; `ticks`: what is due starts runs; `due`: what becomes of it
//! - [`triggers`]: which events start them; `arrivals`: what comes is taken in, and starts runs; [`cascade`]: what followed from an event
//! - [`sessions`]: conversations, turn by turn; `attend`: what is due about them; `conversation`: what
//!   agents are told of them
//! - `rounds`: what is due of events and sessions is done tenant by tenant, side by side
//! - [`workflows`]: documents, put and looked at; `approvals`: questions, looked at and answered
//! - `lineage`: a run's journal, with those of the runs that it was forked from; `take_up`: where it stands, from what is sealed of it
//! - [`recovery`]: what people do about a run, a file a verb
//! - `in_memory`: all of it over a record in memory, with the feature of that name
//!
//! To add a pattern: docs/add-a-pattern.md.

mod aggregate;
mod approvals;
mod arrivals;
mod ask;
mod attend;
pub mod cascade;
mod children;
mod conflict;
mod conversation;
mod coordinator;
mod decide;
mod deliver;
mod due;
mod emit;
mod ended;
mod engine;
mod experience;
mod guests;
mod holding;
#[cfg(feature = "in-memory")]
mod in_memory;
mod input;
mod judge;
mod lapses;
mod lineage;
mod listen;
mod metered;
mod needs;
mod news;
pub mod patterns;
mod picked;
mod plan;
mod planned;
mod prepared;
mod provenance;
mod recover;
pub mod recovery;
mod registry;
mod rescued;
mod resumed;
mod rewind;
mod rounds;
pub mod runs;
pub mod schedules;
pub mod sessions;
mod similar;
mod stop;
mod supervise;
mod suspects;
mod take_up;
mod ticks;
pub mod triggers;
mod turns;
mod vote;
mod wake;
mod wanted;
pub mod workflows;

pub use approvals::{Answer, Answered};
pub use experience::Similar;
#[cfg(feature = "in-memory")]
pub use in_memory::InMemory;
pub use lapses::Lapses;
pub use ltmc_journal::view::Content;
pub use ltmc_journal::{Diff, Extent, RunView, Sealing, Shown, Sight, Why};
pub use provenance::{DependentView, DependentsPage, Graph, UsedPage};
pub use recover::Recovered;
pub use recovery::{Asked, Changes, Conflicts, ForkFrom, ForkRequest, Taken};
pub use rewind::{Rewound, Stays};
pub use runs::{CallRequest, Followed, Runs, StartRequest, Started, Watch};
pub use schedules::Schedules;
pub use sessions::{Closing, Said, SayRequest, Sessions, TurnView};
pub use stop::Cancelled;
pub use triggers::Triggers;
pub use workflows::{Put, Workflows};
