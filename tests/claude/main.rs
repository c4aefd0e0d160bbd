//! `ccl` with the real Claude Code, in a real tmux, against a stand-in of the Messages API.
//!
//! What counts is what arrives: the prompt as the API received it, the files in the queue, the
//! events and exit status of `ccl`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod agents;
mod check;
mod delivery;
mod demo;
mod environment;
mod failures;
mod life;
mod older;
mod questions;
mod refused;
mod time_limit;
mod worktree;
mod world;
