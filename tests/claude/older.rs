//! The older versions: no status in the registry (2.1.100), no word for a rate limit (2.1.100), no
//! cost (either).

use std::fs;

use super::support::{Reply, real_claude};
use super::world::{Setup, TASK, World, kinds};

fn world_of(version: &'static str, hooks: bool) -> World {
    World::with(Setup { version, hooks, ..Setup::default() })
}

/// Up to 2.1.200 Claude Code leaves the tool alone that it was running when it is told to end.
#[test]
fn a_cancelled_tasks_command_ends_with_it_in_every_version() {
    for version in [real_claude::OLDEST, real_claude::EARLIER, real_claude::CURRENT] {
        let world = world_of(version, false);
        world.api.script([Reply::bash("exec tail -f /dev/null")]);
        world.dispatch("Fix it");
        let run = format!("CCL_RUN={}", world.claim()["run"].as_str().unwrap());
        let names = || {
            let pids = world.tmux.processes().into_iter();
            let carries = pids.filter(|pid| {
                let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environ.split(|&byte| byte == 0).any(|variable| variable == run.as_bytes())
            });
            let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            carries.map(|pid| name(pid).trim().to_owned()).collect::<Vec<_>>()
        };
        world.tmux.wait_until("the command runs", || names().contains(&"tail".to_owned()));
        let out = world.sandbox.ccl(["cancel", TASK]).output().unwrap();
        assert!(out.status.success(), "{version}: {}", String::from_utf8_lossy(&out.stderr));
        world.tmux.wait_until("all of it has ended", || names().is_empty());
        assert_eq!(world.project.inbox(), [""; 0], "{version}");
    }
}

#[track_caller]
fn works_through_the_inbox(version: &'static str) {
    let world = world_of(version, true);
    world.api.script([Reply::bash("echo one"), Reply::text("Fixed")]);
    world.project.drop_task("a.md", "Fix it");
    world.project.drop_task("b.md", "Fix that");
    assert_eq!(kinds(&world.scan()), ["dispatched"]);
    let filed = world.wait_for_place("done/a.md");
    assert!(filed.text.contains("## Result\n\nFixed\n"), "{}", filed.text);
    assert_eq!(filed.ending["attempt"], 1);
    // It does not write down what it cost.
    assert_eq!(filed.ending.get("cost"), None);
    assert!(filed.text.contains("tokens in"), "{}", filed.text);
    world.wait_for_place("done/b.md");
    world.assert_usable_shell();
}

#[test]
fn the_oldest_version_works_through_the_inbox() {
    works_through_the_inbox(real_claude::OLDEST);
}

#[test]
fn the_version_in_between_works_through_the_inbox() {
    works_through_the_inbox(real_claude::EARLIER);
}

#[track_caller]
fn a_failed_turn_is_not_done(version: &'static str, hooks: bool) {
    let world = world_of(version, hooks);
    let now = jiff::Timestamp::now().as_second();
    world.api.otherwise(Reply::rate_limited(now + 3600));
    world.dispatch("Fix it");
    if !hooks {
        let events = world.tmux.wait_for("assign files it", || {
            Some(world.assign()).filter(|events| !events.is_empty())
        });
        assert_eq!(kinds(&events), ["released", "hold"], "{events:?}");
    }
    let filed = world.wait_for_place("inbox/fix.md");
    assert_eq!(filed.ending["attempt"], 0, "{}", filed.reason());
    assert!(filed.reason().contains("limit is reached"), "{}", filed.reason());
    assert_eq!(world.project.task_places(TASK), ["inbox/fix.md"]);
    world.assert_usable_shell();
}

#[test]
fn a_failed_turn_of_the_oldest_version_is_not_done() {
    a_failed_turn_is_not_done(real_claude::OLDEST, false);
}

#[test]
fn the_hooks_of_the_older_versions_report_a_failed_turn() {
    a_failed_turn_is_not_done(real_claude::OLDEST, true);
    a_failed_turn_is_not_done(real_claude::EARLIER, true);
}
