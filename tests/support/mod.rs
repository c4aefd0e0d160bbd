//! What the integration tests share: a private tmux server, sandboxes, stand-ins for the agent and
//! its API. Every `tests/*.rs` that needs it says `mod support;`.
// Each test file compiles its own copy of this module and uses only a part of it, and nothing here
// is reachable from outside a test binary. A helper that fails ends its test, hence the unwraps.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr
)]

pub mod claude_home;
pub mod fake;
#[path = "fake_claude/script.rs"]
pub mod fake_script;
pub mod faults;
pub mod git;
pub mod journal;
pub mod messages_api;
mod messages_wire;
mod nested_cargo;
pub mod npm;
pub mod program;
pub mod real_claude;
pub mod real_ray;
pub mod sandbox;
pub mod scenes;
pub mod tmux_server;
pub mod user_manager;
pub mod vendors;
pub mod wait;
pub mod world;

pub use claude_home::Consent;
pub use fake::FakeClaude;
pub use messages_api::{MessagesApi, Reply};
pub use program::write_program;
pub use real_claude::RealClaude;
pub use sandbox::{Project, Sandbox};
pub use tmux_server::TmuxServer;
pub use user_manager::UserManager;
pub use wait::{PATIENCE, wait_for, wait_until};
