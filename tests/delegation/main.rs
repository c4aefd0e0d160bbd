//! Delegation against a server that misbehaves: one job per task, and nothing lost.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod cancel;
mod filing;
mod job;
mod kill;
mod passes;
mod pool;
mod races;
mod secret;
mod silence;
mod submission;
mod tls;
mod world;

#[path = "../support/secutools_server/mod.rs"]
mod secutools_server;
#[path = "../support/mod.rs"]
mod support;
