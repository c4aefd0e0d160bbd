//! `ccl` hands Markdown task files to coding agents: to Claude Code in tmux
//! sessions of this machine, or to the secutools AI platform over HTTP. Every
//! call makes one pass and exits; what is remembered lies on disk.
//!
//! # How a task flows
//!
//! ```text
//! inbox/T.md ── queue lists it, task reads it, router decides
//!    │
//!    ├─ local: plan says who goes next, session finds a free one (tmux, process)
//!    │    session claims the task (queue, marker, lock), agent writes the script,
//!    │    tmux types one line; evidence of the agent's own makes it `working`
//!    │       └─ session settles it later: agent judges what it is doing,
//!    │          queue writes the ending line and files it
//!    │
//!    └─ remote: the room of that name notes what it is about to send (marker),
//!         sends it to secutools; later it is polled and filed
//! ```
//!
//! # Which room does what
//!
//! - [`command`]: one file per verb; reads like the design. [`cli`] is what can
//!   be typed, [`config`] what is set, [`report`] what is printed, [`log`] what
//!   is told on standard error, [`error`] which exit status that is.
//! - [`task`], [`router`], [`plan`], [`money`]: pure.
//! - [`durable`], [`lock`], [`marker`], [`owner`], [`queue`]: the disk. Every state is a
//!   name, every step one rename.
//! - [`tmux`], [`process`], [`session`], [`agent`]: the terminal, what the kernel
//!   says of it, the pool, and what an agent is doing.
//! - [`remote`]: the jobs' life, and the engine they run on.
//!
//! Arrows point one way: command → session, remote, report → queue, agent,
//! tmux → marker, lock, durable, process → the pure rooms.

pub mod agent;
pub mod cli;
pub mod command;
mod concurrent;
pub mod config;
pub mod durable;
pub mod environment;
pub mod error;
pub mod event;
pub mod lock;
pub mod log;
pub mod marker;
pub mod money;
pub mod next_step;
pub mod owner;
pub mod plan;
pub mod process;
mod progress;
pub mod queue;
pub mod remote;
pub mod report;
pub mod router;
pub mod session;
mod subprocess;
pub mod task;
pub mod text;
pub mod tmux;
