//! `ccl` hands Markdown task files to coding agents: to Claude Code in tmux sessions of this machine, to the secutools
//! AI platform over HTTP, or to a Ray cluster by way of a git exchange. Every call makes one pass and exits; what is
//! remembered lies on disk.
//!
//! # How a task flows
//!
//! ```text
//! inbox/T.md ── command::scan: queue lists it, task reads it, router decides
//!    │
//!    ├─ here: plan says whose turn it is, session finds a free one (tmux, process)
//!    │    session::launch claims it (queue), writes the agent's script (agent), opens a window
//!    │    (tmux); evidence of the agent's own makes the claim `working`
//!    │       └─ session::reconcile, later: snapshot reads all there is, agent judges what it does,
//!    │          next_step names the step, the step is carried out: filed, given back, left
//!    │
//!    └─ elsewhere: remote notes what it is about to send, sends it; later it polls the job and
//!         files the task
//! ```
//!
//! # Which room does what
//!
//! - [`command`]: one file per verb, a straight line: read, decide, act, report. `cli` holds the commands and flags,
//!   [`config`] the settings. `report` is what standard output shows, [`log`] what standard error shows, `error` the
//!   exit status.
//! - [`web`] is one HTTP request, and the response to it.
//! - `records` is what a pass records: `journal`, a line for every change, and `notify`, notifications.
//! - `hold` is which agents may have a task, `spend` what each has cost today, `pause` whether tasks are handed out at
//!   all, `last_scan` when the last scan ended.
//! - [`task`], [`router`], [`plan`], `calendar`, [`next_step`], [`event`], `job`, [`money`], `monotonic`, `text`: pure.
//!   [`environment`] is read once, and handed down like the clock.
//! - [`durable`], [`lock`], [`marker`], [`owner`], [`queue`]: the disk. Every state is a name, every step one rename.
//! - [`tmux`], [`process`], [`session`], [`agent`]: the terminal, what the kernel says of it, the pool, and what an
//!   agent is doing. `checkout` is git: a task's worktree, what it left, and landing; `check` what judges the work.
//!   `subprocess` is one call of another program.
//! - [`remote`]: the jobs' life, and the engine they run on, secutools or Ray. To Ray work goes by the git exchange of
//!   `checkout`, where a ref decides (`remote::run`). `concurrent` is work on several threads, `progress` what a
//!   terminal shows meanwhile.
//!
//! Arrows point one way: command → (session, remote, report) → (queue, agent, checkout, tmux) → (marker, lock, durable,
//! process, subprocess) → the pure rooms.

pub mod agent;
mod calendar;
pub mod check;
mod checkout;
mod cli;
pub mod command;
mod concurrent;
pub mod config;
pub mod durable;
pub mod environment;
mod error;
pub mod event;
mod hold;
mod job;
mod journal;
mod last_scan;
pub mod lock;
pub mod log;
pub mod marker;
pub mod money;
mod monotonic;
pub mod next_step;
mod notify;
pub mod owner;
mod pause;
pub mod plan;
pub mod process;
mod progress;
pub mod queue;
mod records;
pub mod remote;
mod report;
pub mod router;
pub mod session;
mod spend;
mod subprocess;
pub mod task;
mod text;
pub mod tmux;
pub mod web;
