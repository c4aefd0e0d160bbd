//! An older version: no registry of sessions, no word for an error, no `StopFailure`.

use super::support::{Reply, real_claude};
use super::world::{Setup, TASK, World, kinds};

fn older(hooks: bool) -> World {
    World::with(Setup { version: real_claude::OLD, hooks, ..Setup::default() })
}

#[test]
fn an_older_version_works_through_the_inbox_too() {
    let world = older(true);
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
fn its_failed_turn_is_not_done() {
    let world = older(false);
    let now = jiff::Timestamp::now().as_second();
    world.api.otherwise(Reply::rate_limited(now + 3600));
    world.dispatch("Fix it");
    let events = world
        .tmux
        .wait_for("assign files it", || Some(world.assign()).filter(|events| !events.is_empty()));
    assert_eq!(kinds(&events), ["released", "cooldown"], "{events:?}");
    let filed = world.wait_for_place("inbox/fix.md");
    assert_eq!(filed.ending["attempt"], 0, "{}", filed.reason());
    assert!(filed.reason().contains("limit is reached"), "{}", filed.reason());
    assert_eq!(world.project.task_places(TASK), ["inbox/fix.md"]);
    world.assert_usable_shell();
}
