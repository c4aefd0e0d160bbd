//! Agents in worktrees of their own, with the real git and the real tmux: what each leaves, and how it lands.
#![allow(clippy::unwrap_used)]

mod agents;
mod check;
mod demo;
mod depends;
mod dry_run;
mod kill;
mod kill_check;
mod land;
#[path = "../support/mod.rs"]
mod support;
mod trouble;
mod worktree;
use support::world;
