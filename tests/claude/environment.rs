//! What of the surroundings reaches Claude Code, and where its files are looked for.

use std::collections::BTreeSet;
use std::fs;

use super::support::Reply;
use super::world::{Setup, TASK, World, kinds};

#[test]
fn secrets_and_marks_of_another_agent_do_not_reach_it() {
    let odd = ["SECUTOOLS_API_KEY", "CREDENTIALS_DIRECTORY", "CLAUDE_CODE_ENTRYPOINT"];
    let world = World::with(Setup {
        env: odd.iter().map(|name| (*name, "from-outside".to_owned())).collect(),
        ..Setup::default()
    });
    let seen = world.sandbox.path().join("seen");
    world.api.script([Reply::bash(&format!("env > {}", seen.display()))]);
    world.dispatch("Look around");
    let run = world.claim()["run"].as_str().unwrap().to_owned();
    world.wait_for_place("done/fix.md");
    let env = fs::read_to_string(seen).unwrap();
    assert!(!env.contains("from-outside"), "{env}");
    assert!(env.contains(&format!("CCL_RUN={run}\n")), "{env}");
    let names: BTreeSet<_> = env.lines().filter_map(|l| Some(l.split_once('=')?.0)).collect();
    assert!(names.contains("CLAUDECODE"), "{names:?}");
}

#[test]
fn it_has_its_files_where_ccl_looks_for_them() {
    let mut world = World::new();
    let home = world.sandbox.home();
    let moved = world.sandbox.path().join("it's another");
    fs::rename(home.join(".claude"), &moved).unwrap();
    fs::rename(home.join(".claude.json"), moved.join(".claude.json")).unwrap();
    world.sandbox.env("CLAUDE_CONFIG_DIR", moved.clone());
    world.project.drop_task(TASK, "Fix it");
    assert_eq!(kinds(&world.scan()), ["dispatched"]);
    assert!(moved.join("projects").exists());
    // The hook is called by tmux, whose surroundings are others.
    world.wait_for_place("done/fix.md");
    assert!(!home.join(".claude").exists());
}

#[test]
fn it_does_not_start_where_ccl_would_not_find_its_files() {
    let world = World::with(Setup {
        env: vec![("CLAUDE_CONFIG_DIR", "/tmp/elsewhere".to_owned())],
        ..Setup::default()
    });
    world.project.drop_task(TASK, "Fix it");
    let (events, _) = world.scan_ending_with(1);
    assert_eq!(kinds(&events), ["released", "cooldown"], "{events:?}");
    let reason = events[0]["reason"].as_str().unwrap();
    assert!(reason.contains("sets CLAUDE_CONFIG_DIR"), "{reason}");
    assert_eq!(world.filed("inbox/fix.md").ending["attempt"], 0);
    assert_eq!(world.api.turns().len(), 0);
    world.assert_usable_shell();
}
