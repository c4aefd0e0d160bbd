//! What a task with a worktree of its own starts from, where it depends on others.

use serde_json::json;

use super::worktree::{commit, reap, world};

#[test]
fn a_dependent_starts_from_the_one_branch_that_has_not_landed() {
    let (world, project) = world(2, "");
    project.drop_task("a.md", commit("a.txt", "one"));
    project.drop_task("b.md", commit("b.txt", "two"));
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0", "dispatched b.md ccl-auto-1"]);
    let on = |tasks: &str| format!("---\ndepends_on: [{tasks}]\n---\n");
    project.drop_task("c.md", on("a.md") + &commit("c.txt", "three"));
    // What it depends on is at work, and in no folder of what is finished.
    let waits = |name: &str| {
        let status = world.sandbox.ccl_json(&["status"]);
        let rows = status["tasks"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == name).map(|row| row["waits"].clone())
    };
    assert_eq!(waits("c.md"), Some(json!("a.md is not done yet")));
    reap(&world, 2);

    project.drop_task("d.md", on("a.md, b.md") + &commit("d.txt", "four"));
    assert_eq!(world.scan(), ["dispatched c.md ccl-auto-0"]);
    reap(&world, 1);
    let files = |branch: &str| project.git(["ls-tree", "--name-only", branch]);
    assert_eq!(files("ccl/c"), "README\na.txt\nc.txt");

    assert_eq!(waits("d.md"), Some(json!("a.md and b.md to land")));
    world.pass(&["land", "a"]);
    assert_eq!(world.scan(), ["dispatched d.md ccl-auto-0"]);
    reap(&world, 1);
    assert_eq!(files("ccl/d"), "README\nb.txt\nd.txt");
    // All that it depends on has landed: from the base, as any other.
    world.pass(&["land", "b"]);
    project.drop_task("e.md", on("a.md, b.md") + &commit("e.txt", "five"));
    assert_eq!(world.scan(), ["dispatched e.md ccl-auto-0"]);
    reap(&world, 1);
    assert_eq!(files("ccl/e"), "README\na.txt\nb.txt\ne.txt");
}

/// Its work goes elsewhere, so it has no worktree here that could start from only one branch.
#[test]
fn a_dependent_that_is_delegated_waits_for_no_branch_to_land() {
    let (world, project) = world(2, "");
    project.drop_task("a.md", commit("a.txt", "one"));
    project.drop_task("b.md", commit("b.txt", "two"));
    assert_eq!(world.scan().len(), 2);
    reap(&world, 2);
    let mut world = world;
    world.sandbox.env("SECUTOOLS_URL", "http://127.0.0.1:9");
    world.sandbox.env("SECUTOOLS_API_KEY", "key");
    let fields = "allow_delegation: true\npreferred_ai: gpu\ndepends_on: [a.md, b.md]";
    let file = project.drop_task("c.md", format!("---\n{fields}\n---\nDo it.\n"));
    assert_eq!(world.pass(&["scan", "--dry-run"]), ["delegated c.md -"]);
    let status = world.sandbox.ccl_json(&["status"]);
    let row = &status["tasks"][0];
    assert_eq!((&row["name"], &row["provider"]), (&json!("c.md"), &json!("gpu")), "{status:#}");
    assert_eq!(row["waits"], json!(null));
    let decided = world.sandbox.ccl_json(&["decide", file.to_str().unwrap()]);
    assert_eq!(decided["decisions"][0]["waits"], json!(null), "{decided:#}");
}
