//! Delegation against a server that misbehaves: one job per task, and nothing lost.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod filing;
mod passes;
mod races;
mod silence;
mod submission;
mod world;

#[path = "../support/secutools_server/mod.rs"]
mod secutools_server;
