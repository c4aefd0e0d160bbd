//! `cargo run --example demo -- --agent claude`: the README's demo, with the real Claude Code.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[path = "../demo/clear.rs"]
mod clear;

use super::support::fake::example;
use super::support::{
    Consent, MessagesApi, PATIENCE, RealClaude, Sandbox, claude_home, real_claude, wait_until,
};

#[test]
fn the_demo_has_claude_do_its_tasks() {
    let sandbox = Sandbox::new();
    // The demo works in a directory below the current one, and trust is inherited.
    let place = sandbox.path().join("place");
    fs::create_dir(&place).unwrap();
    claude_home::prepare_home(&sandbox.home(), &[&place], Consent::default());
    let api = MessagesApi::start();
    let claude = RealClaude::install(real_claude::CURRENT);
    // The demo's panes have login shells, as everybody's have.
    let path = format!("export PATH='{}':\"$PATH\"\n", claude.bin().display());
    fs::write(sandbox.home().join(".profile"), path).unwrap();
    // With another PATH, Cargo would build everything anew.
    let mut env = claude.env(&api, Consent::default());
    env.retain(|(name, _)| name != "PATH");
    let out = Command::new(example("demo"))
        .args(["--agent", "claude"])
        .current_dir(&place)
        // It builds ccl with what the real HOME holds.
        .env("CARGO_HOME", cargo_home())
        .env("HOME", sandbox.home())
        .envs(env)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}\n{errors}");
    let done =
        "done/    10-tidy-readme.md  20-fix-login.md  30-plain.md  40-summarise.md  50-careful.md";
    assert!(said.contains(done), "{said}\n{errors}");
    let prompts: Vec<String> = api.turns().iter().map(|turn| turn.prompt()).collect();
    assert_eq!(prompts.len(), 4, "{prompts:?}");
    let urgent = "After login, send people to the page they came from.";
    assert!(prompts.iter().any(|it| it.contains(urgent)), "{prompts:?}");
    let left = fs::read_dir(&place).unwrap().count();
    assert_eq!(left, 0, "the demo cleans up");
}

/// As an agent does that the end of its terminal does not reach.
#[test]
fn what_still_writes_keeps_no_demo_from_going() {
    let sandbox = Sandbox::new();
    let place = sandbox.path().join("ccl-demo-x");
    fs::create_dir(&place).unwrap();
    // Bounded, so that it ends where the test fails.
    let writes =
        "trap '' HUP; i=0; while [ $((i+=1)) -lt 20000 ]; do mkdir -p $0/a; true >$0/a/$i; done";
    let mut writer = Command::new("sh")
        .args(["-c", writes])
        .arg(&place)
        .env(clear::MARK, &place)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("it writes", PATIENCE, || place.join("a/9").exists());
    clear::clear(&place).unwrap();
    writer.wait().unwrap();
    assert!(!place.exists());
}

fn cargo_home() -> PathBuf {
    match env::var_os("CARGO_HOME") {
        Some(home) => home.into(),
        None => PathBuf::from(env::var_os("HOME").unwrap()).join(".cargo"),
    }
}
