//! Redis follows the record: against the real server.

mod bus;
mod follow;
mod keys;
mod rig;
mod servers;
