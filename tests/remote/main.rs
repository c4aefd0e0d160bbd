//! Tasks that go to Ray: the real git and the real runner against a stand-in of Ray's five answers, and the real Ray.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod engine;
mod exchange;
mod forged;
mod kill;
mod life;
mod network_disk;
mod passes;
mod real_claude;
mod real_ray;
mod reports;
mod route;
mod runner;
mod silent;
mod slow;
mod travel;
mod verdict;
mod world;

#[path = "../support/ray_server/mod.rs"]
mod ray_server;
#[path = "../support/secutools_server/mod.rs"]
mod secutools_server;
#[path = "../support/mod.rs"]
mod support;
