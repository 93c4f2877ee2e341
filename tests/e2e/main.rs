//! End-to-end tests: the real binary, real components, real crashes. One test binary, one file per thing a person relies on.

mod access;
mod bad_input;
mod calls;
mod commands;
mod crash;
mod flows;
mod full_disk;
mod hostile;
mod isolation;
mod operations;
