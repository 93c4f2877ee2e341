//! Databases that follow the record: a [`Follower`] leads each of them, row by row of the log of changes, and
//! [`repair`](repair::repair) compares them with the record and puts them right.
//!
//! To add a database: its `ports::Projection`, in a crate of its own below `stores/`, and a follower for it where the host is
//! put together.

pub mod follower;
pub mod repair;

pub use follower::Follower;
pub use repair::Repairs;
