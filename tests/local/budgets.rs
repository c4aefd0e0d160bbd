//! What tasks may cost: looked at between rounds, and carried from attempt to attempt in the task itself.

use std::fs;

use serde_json::json;

use super::support::Project;
use super::support::fake_script::{Behaviour, Turn};
use super::support::program::write_program;
use super::world::{World, ending};

/// A project that says this, and Claude Code whose turns end at once and cost 0.0003 USD each.
fn checked(budget: &str, rules: &str) -> (World, Project) {
    let world = World::claude(1).with("agent", json!({"budget": {"per_task": budget}}));
    let project = world.project("web");
    say(&project, rules);
    (world, project)
}

fn say(project: &Project, rules: &str) {
    fs::write(project.root().join(".agent-queue/project.yaml"), rules).unwrap();
}

/// Makes passes until the task is where it is to be.
#[track_caller]
fn until(world: &World, project: &Project, place: &str) {
    world.tmux.wait_until(place, || {
        world.let_rest();
        world.pass(&["reap"]);
        project.queue("").join(place).exists()
            && project.inbox().iter().all(|it| place.ends_with(it))
    });
}

/// How many prompts the stand-in was given.
fn turns(world: &World) -> usize {
    world.fake.events("prompt").len()
}

#[test]
fn a_red_check_is_not_given_back_once_the_task_has_cost_too_much() {
    let (world, project) =
        checked("0.0003 USD", "check: echo still red; exit 1\ncheck_rounds: 5\n");
    project.drop_task("t.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
    until(&world, &project, "failed/t.md");
    assert_eq!(turns(&world), 1);
    let end = ending(&project, "failed/t.md");
    let reason = end["reason"].as_str().unwrap();
    assert!(reason.starts_with("budget: it has cost 0.0003 USD of the 0.0003 USD"), "{reason}");
    // What the check has said is not lost with it.
    assert_eq!((&end["check"]["exit"], &end["check"]["rounds"]), (&json!(1), &json!(0)));
    assert!(project.read("failed/t.md").contains("\n## Check\n\n```\nstill red\n```\n"));
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn what_earlier_attempts_have_cost_is_in_the_task_and_not_in_its_name() {
    let (world, project) = checked("0.0006 USD", "check: exit 1\ncheck_rounds: 0\n");
    let cost = |amount: &str| json!([{"amount": amount, "currency": "USD"}]);
    for (name, place) in [("t.md", "failed/t.md"), ("t.md", "failed/t.2.md")] {
        project.drop_task(name, "Do it.\n");
        assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
        until(&world, &project, place);
        assert_eq!(ending(&project, place)["cost_of_task"], cost("0.0003"));
    }
    // However long ago that was.
    fs::remove_dir_all(world.sandbox.state_dir().join("spend")).unwrap();
    say(&project, "check: exit 1\ncheck_rounds: 5\n");
    assert_eq!(world.pass(&["retry", "t.md"]), ["released t.md -"]);
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
    let claim = project.marker("inbox/.t.md.claim");
    assert_eq!(claim["cost_before"], cost("0.0003"));
    until(&world, &project, "failed/t.md");
    let end = ending(&project, "failed/t.md");
    let reason = end["reason"].as_str().unwrap();
    assert!(reason.starts_with("budget: it has cost 0.0006 USD of the 0.0006 USD"), "{reason}");
    assert_eq!(end["cost_of_task"], cost("0.0006"));
    assert_eq!(turns(&world), 3);
}

/// The agent changes a file that has changed in its base meanwhile.
fn conflict(world: &World, project: &Project) {
    project.init_git();
    say(project, "isolation: worktree\nland: rebase\ncheck: none\n");
    let commit = |text: &str| {
        format!(
            "echo {text} > f && git add f && git -c user.name=A -c user.email=a@b commit -qm {text}"
        )
    };
    let root = project.root();
    let run = format!("{}; cd '{}' && {}", commit("one"), root.display(), commit("two"));
    let turns = vec![Turn { run, ..Turn::default() }];
    world.script(&[Behaviour { turns, times: 1, ..Behaviour::default() }, Behaviour::default()]);
    project.drop_task("t.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
}

#[test]
fn a_conflict_is_not_given_back_once_the_task_has_cost_too_much() {
    let (world, project) = checked("0.0003 USD", "");
    conflict(&world, &project);
    until(&world, &project, "failed/t.md");
    assert_eq!(turns(&world), 1);
    let reason = ending(&project, "failed/t.md")["reason"].clone();
    assert!(reason.as_str().unwrap().starts_with("budget: it has cost 0.0003 USD"), "{reason}");
    assert!(project.root().join(".agent-queue/worktrees/t").exists());
}

/// Another agent has the only name in the configuration from now on.
fn rename_agent(world: &mut World) {
    let program = world.sandbox.path().join("codex");
    write_program(&program, "#!/bin/sh\necho \"$1\" >> ~/codex-got\n");
    let codex = json!({"kind": "command", "command": [program], "hooks": false});
    world.sandbox.config("agent", serde_json::Value::Null);
    world.sandbox.config("agents", json!({"codex": codex}));
}

#[test]
fn a_task_whose_agent_is_gone_is_released_and_not_given_back_to_another() {
    let (mut world, project) = checked("9 USD", "check: '[ -e ~/good ]'\n");
    project.drop_task("red.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched red.md ccl-auto-0"]);
    world.wait_for_idle(1);
    rename_agent(&mut world);
    let (mut places, mut events) = (Vec::new(), Vec::new());
    world.tmux.wait_until("it waits again", || {
        world.let_rest();
        events.extend(world.pass(&["reap"]));
        places = project.task_places("red.md");
        places == ["inbox/red.md"]
    });
    assert_eq!(events, ["released red.md ccl-auto-0"]);
    let end = ending(&project, "inbox/red.md");
    assert_eq!((&end["attempt"], &end["agent"]), (&json!(0), &json!("claude")), "{end}");
    let reason = end["reason"].as_str().unwrap();
    assert!(reason.starts_with("its agent claude is not in the configuration"), "{reason}");
    assert!(!world.sandbox.home().join("codex-got").exists());
    // The other one has an attempt of its own.
    fs::write(world.sandbox.home().join("good"), "").unwrap();
    assert_eq!(world.scan(), ["dispatched red.md ccl-auto-0", "switched red.md ccl-auto-0"]);
    until(&world, &project, "done/red.md");
    let got = fs::read_to_string(world.sandbox.home().join("codex-got")).unwrap();
    assert!(got.starts_with("A colleague has begun this task"), "{got}");
}

#[test]
fn a_conflict_of_an_agent_that_is_gone_waits_for_another_one_in_its_worktree() {
    let (mut world, project) = checked("9 USD", "");
    conflict(&world, &project);
    world.wait_for_idle(1);
    rename_agent(&mut world);
    until(&world, &project, "inbox/t.md");
    let end = ending(&project, "inbox/t.md");
    let reason = end["reason"].as_str().unwrap();
    assert!(reason.starts_with("its agent claude is not in the configuration"), "{reason}");
    assert_eq!(end["git"]["branch"], "ccl/t", "{end}");
    assert!(project.root().join(".agent-queue/worktrees/t/f").exists());
}
