//! The local path end to end: `ccl` as built, real tmux, and agents that do as they are told.
#![allow(clippy::unwrap_used)]

mod agents;
mod budgets;
mod crash;
mod dialogs;
mod files;
mod holds;
mod hooks;
mod launch;
mod life;
mod person;
mod pins;
mod rules;
mod scan;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod ticket;
mod time_limit;
use support::world;
