//! `cargo run --example demo`: the README's demo, with a line of shell as its agent.

use std::process::Command;

use super::support::Sandbox;
use super::support::fake::example;

#[test]
fn the_demo_lands_what_two_agents_commit_side_by_side() {
    let sandbox = Sandbox::new();
    let out = Command::new(example("demo"))
        .env("TMPDIR", sandbox.path().join("tmp"))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}\n{errors}");
    let done =
        "done/    10-tidy-readme.md  20-fix-login.md  30-plain.md  40-summarise.md  50-careful.md";
    assert!(said.contains(done), "{said}\n{errors}");
    for (branch, file) in [("ccl/greet", "greeting.txt"), ("ccl/part", "farewell.txt")] {
        for words in [
            format!("[{branch}] locked\n"),
            format!("/app: {branch} is in main\n"),
            format!(" Add {file}\n"),
        ] {
            assert!(said.contains(&words), "{words}: {said}\n{errors}");
        }
    }
    for words in [": red: given back to its agent, 1 of 2\n", ": green\n", " Mend greeting.txt\n"] {
        assert!(said.contains(words), "{words}: {said}\n{errors}");
    }
    let left = std::fs::read_dir(sandbox.path().join("tmp")).unwrap().count();
    assert_eq!(left, 0, "the demo cleans up");
}
