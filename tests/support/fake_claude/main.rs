//! A stand-in for Claude Code 2.1.332 that does on command what the real one does seldom. It draws
//! the same screens, keeps the same files, runs the same hooks, and notes what it was given.
//!
//! The script: `$FAKE_CLAUDE_SCRIPT`, else `~/.fake-claude.json` (see `script.rs`). The log, one JSON
//! object a line: `~/.fake-claude.log.jsonl`, with the events `start` (argv, cwd, env), `prompt`
//! (text), `keys`, `hook`, `sigterm`, `exit` (code, why).
// A program of the tests: where its world is not as it must be, it ends and says so.
#![allow(clippy::expect_used, clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

mod agent;
mod dialog;
mod files;
mod keys;
mod launch;
mod script;
mod terminal;

use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use agent::Agent;
use files::Session;
use launch::Launch;
use terminal::Terminal;

fn main() {
    let launch = Launch::from_args();
    let behaviour = launch.choose_behaviour();
    let refuse = |text: &str, code: u8| -> ! {
        eprintln!("{text}");
        launch.log("exit", json!({"code": code, "why": text}));
        exit(code.into())
    };
    if let Some((text, code)) = &behaviour.exit_at_once {
        refuse(text, *code);
    }
    sleep(Duration::from_millis(behaviour.start_delay_ms));
    let id = launch.resume.clone().or(launch.session_id.clone());
    let session = Session::new(id.unwrap_or_else(|| Uuid::new_v4().to_string()), &behaviour);
    let known = session.transcript().exists();
    if let (Some(id), false) = (&launch.resume, known) {
        refuse(&format!("No conversation found with session ID: {id}"), 1);
    }
    if let (Some(id), true) = (&launch.session_id, known) {
        refuse(&format!("Error: Session ID {id} is already in use."), 1);
    }
    let Some(terminal) = Terminal::raw() else {
        refuse("Error: standard input is not a terminal", 1);
    };
    Agent::new(launch, behaviour, session, terminal).run()
}
