//! Durability, proved mechanically: hosts die, stores fail, two hosts want the same run; every time the run ends as if
//! nothing had happened, or stays as it is and can be taken up again.
//!
//! Invariants: time is tokio's, paused: it passes only where something waits, so every test comes out the same each time. Over a
//! record on disk, whose writer is a thread, it passes as it does.
//! A guest here is a function of its input and of what the host answers, as a real one is. Nothing reaches into a host but
//! through its public use cases; what is true is read from the record.
//!
//! - `forks`: branches with a context of their own, and what comes of them together
//! - `guest`: agents as scripts, and the sandbox that runs them
//! - `hand_offs`: conversations that go from agent to agent
//! - `host`: hosts over a record, with a line to it that fails when told to; a client
//! - `records`: the records that hosts stand on, in memory and on disk
//! - `story`: what a journal tells, without times, epochs and revisions
//! - `crash`: a host dies at every append. To add a workflow: a case there
//! - `events`: what runs wait for in topics
//! - `children`: runs that runs begin
//! - `experience`: what is learned from runs that are over
//! - `drawn`: documents made at random
//! - `faults`: the record fails, and the host lives on
//! - `owners`: two hosts, one run
//! - `patterns`: every pattern and modifier, and nestings of them
//! - `questions`: what runs ask people
//! - `recovery`: amended, restarted, forked, compared by people
//! - `compensate`: what was in vain is undone; runs that wait for people
//! - `provenance`: what steps work on is journaled, and found by it what depends on them
//! - `replay`: what a resumed guest sees, and what ends it
//! - `ends`: cancelled, resumed, tried again
//! - `follow`: who follows a run is told all of it, once
//! - `decided`: what an attempt decided on is changed by somebody else before it becomes true
//! - `rewinds`: sessions that are taken back, and forks of them
//! - `room`: a tenant that has no room for more runs, and others
//! - `schedules`: each tick starts one run
//! - `sessions`: one turn at a time, each message once
//! - `states`: agents' states, and their migrations
//! - `sealed`: what a long run costs whoever takes it up
//! - `settling`: conflicts of branches that an agent settles, or people
//! - `suspects`: runs of which the host dies
//! - `suspended`: runs that wait for long are rows, however many there are
//! - `transactions`: what an attempt does is true whole or not at all
//! - `contended`: hosts, and steps of one run, that want the same keys and messages at once lose nothing and do nothing twice
//! - `triggers`: each event starts one run
//! - `truth`: what is true of everything that an attempt can change
//! - `twenty`: an attempt of twenty calls that ends badly at every one of them, on every record and however it was begun
//! - `withheld`: what a ceiling withholds of what is granted
//! - `upgrade`: a journal that an earlier version of the host wrote

mod cascades;
mod children;
mod chosen;
mod compensate;
mod contended;
mod crash;
mod decided;
mod drawn;
mod ended;
mod ends;
mod events;
mod experience;
mod faults;
mod flow;
mod follow;
mod forks;
mod guest;
mod hand_offs;
mod host;
mod isolation;
mod lapses;
mod linear;
mod odd;
mod owners;
mod patterns;
mod provenance;
mod questions;
mod records;
mod recovery;
mod replay;
mod rewinds;
mod room;
mod schedules;
mod sealed;
mod sessions;
mod settling;
mod states;
mod story;
mod suspects;
mod suspended;
mod transactions;
mod triggers;
mod truth;
mod twenty;
mod upgrade;
mod withheld;
