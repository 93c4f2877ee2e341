//! End-to-end tests: the real binary, real components, real crashes. One test binary, one file per thing a person relies on.

#![expect(clippy::print_stdout, reason = "seeds and figures, for whoever reads a failed test")]

mod access;
mod anchors;
mod audit;
mod authors;
mod bad_input;
mod batches;
mod calls;
mod children;
mod commands;
mod compensate;
mod context;
mod coordination;
mod crash;
mod databases;
mod deleted;
mod documents;
mod door;
mod dropped;
mod files;
mod flows;
mod forks;
mod full_disk;
mod grants;
mod hand_offs;
mod hostile;
mod http;
mod isolation;
mod kills;
mod neighbours;
mod operations;
mod provenance;
mod recovery;
mod restart;
mod schedules;
mod sessions;
mod shares;
mod states;
mod subscriptions;
mod talks;
mod together;
mod transactions;
mod waits;
