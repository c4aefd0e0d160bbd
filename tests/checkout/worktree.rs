//! A worktree for each task: made, worked in, finished, taken away.

use std::fs;

use serde_json::{Value, json};

use super::support::Project;
use super::support::sandbox::names;
use super::world::{HOLDS, World, ending};

pub(super) fn say(project: &Project, rules: &str) {
    fs::write(project.root().join(".agent-queue/project.yaml"), rules).unwrap();
}

/// A pool of command agents, and a repository whose tasks have worktrees.
pub(super) fn world(max: usize, rules: &str) -> (World, Project) {
    let world =
        World::commands(max).with("defaults", Value::Null).with("agent", json!({"hooks": false}));
    let project = world.project("web");
    project.init_git();
    say(&project, &format!("isolation: worktree\n{rules}"));
    (world, project)
}

/// Commits as an agent does.
pub(super) fn commit(file: &str, text: &str) -> String {
    format!(
        "DO: echo {text} > {file} && git add {file} && git -c user.name=A -c user.email=a@b commit -qm {file}\n"
    )
}

pub(super) fn worktrees(project: &Project) -> Vec<String> {
    let directory = project.root().join(".agent-queue/worktrees");
    if directory.exists() { names(&directory) } else { Vec::new() }
}

/// Files what the sessions did, once all agents have ended.
pub(super) fn reap(world: &World, sessions: usize) -> Vec<String> {
    for index in 0..sessions {
        world.wait_for_exit(&format!("ccl-auto-{index}"));
    }
    let mut events = world.pass(&["reap"]);
    events.sort();
    events
}

#[test]
fn two_agents_work_side_by_side_and_each_leaves_a_branch() {
    let (world, project) = world(2, "");
    let before = project.git(["rev-parse", "main"]);
    // What a person has begun stays as it is.
    fs::write(project.root().join("README"), "a person's words\n").unwrap();
    fs::write(project.root().join("notes"), "a person's notes\n").unwrap();
    project.drop_task("a b.md", commit("a.txt", "one") + "DO: echo left > left.txt; rm README\n");
    project.drop_task("c.md", "DO: mkdir d; echo three > 'd/x y.txt'; pwd > where\n");
    assert_eq!(world.scan(), ["dispatched a b.md ccl-auto-0", "dispatched c.md ccl-auto-1"]);
    assert_eq!(reap(&world, 2), ["done a b.md ccl-auto-0", "done c.md ccl-auto-1"]);

    let show = |what: &str| project.git(["show", what]);
    assert_eq!(show("ccl/a-b:a.txt"), "one");
    assert_eq!(show("ccl/a-b:left.txt"), "left");
    assert_eq!(project.git(["ls-tree", "--name-only", "ccl/a-b"]), "a.txt\nleft.txt");
    assert_eq!(show("ccl/c:d/x y.txt"), "three");
    assert!(show("ccl/c:where").ends_with("/.agent-queue/worktrees/c"));
    let log = project.git(["log", "--format=%s|%an", "main..ccl/a-b"]);
    assert_eq!(log, "ccl: what a b.md left uncommitted|ccl\na.txt|A");
    // Nothing of it is in the project's own checkout.
    assert_eq!(project.git(["rev-parse", "main"]), before);
    assert_eq!(project.git(["status", "--porcelain"]), " M README\n?? notes");
    assert_eq!(fs::read_to_string(project.root().join("README")).unwrap(), "a person's words\n");
    assert_eq!(worktrees(&project), [""; 0]);

    let end = ending(&project, "done/a b.md");
    let git = &end["git"];
    let head = project.git(["rev-parse", "ccl/a-b"]);
    let expected = json!({"branch": "ccl/a-b", "base": before, "head": head, "commits": 2,
        "files": 3, "insertions": 2, "deletions": 1, "base_branch": "main"});
    assert_eq!(*git, expected);
    let text = project.read("done/a b.md");
    let look = format!(
        "ccl/a-b: 2 commits, 3 files, +2 -1; look with `git diff {}...ccl/a-b`",
        &before[..12]
    );
    assert!(text.contains(&look), "{text}");
    let status = world.sandbox.ccl_json(&["status"]);
    let row = &status["projects"][0];
    assert_eq!(
        (&row["parallel"], &row["worktrees"], &row["to_land"]),
        (&json!(0), &json!([]), &json!([]))
    );
}

#[test]
fn status_shows_who_works_in_which_worktree() {
    let (world, project) = world(1, "");
    project.drop_task("a.md", HOLDS);
    assert_eq!(world.scan().len(), 1);
    let status = world.sandbox.ccl_json(&["status"]);
    let path = project.root().canonicalize().unwrap().join(".agent-queue/worktrees/a");
    let expected = json!([{"path": path, "branch": "ccl/a", "task": "a.md"}]);
    assert_eq!(status["projects"][0]["worktrees"], expected);
}

#[test]
fn what_leaves_nothing_leaves_no_branch() {
    let (world, project) = world(1, "");
    project.drop_task("a.md", "DO: true\n");
    world.scan();
    assert_eq!(reap(&world, 1), ["done a.md ccl-auto-0"]);
    assert_eq!(project.git(["branch", "--format=%(refname:short)"]), "main");
    assert_eq!(ending(&project, "done/a.md")["git"]["commits"], 0);
    assert_eq!(worktrees(&project), [""; 0]);
}

#[test]
fn a_further_attempt_goes_on_in_the_same_worktree_and_a_new_task_of_the_name_does_not() {
    let (world, project) = world(1, "");
    let world = world.with("dispatcher", json!({"cooldown": "0s", "max_attempts": 2}));
    let text = "DO: echo x >> log; [ $(wc -l < log) = 3 ] && echo done > end; [ -e end ]\n";
    project.drop_task("a.md", text);
    for place in ["inbox", "failed"] {
        world.scan();
        world.wait_for_exit("ccl-auto-0");
        let filed = world.pass(&["reap"]);
        assert!(filed[0].ends_with("a.md ccl-auto-0"), "{filed:?}");
        assert_eq!(project.task_places("a.md"), [format!("{place}/a.md")]);
        assert_eq!(worktrees(&project), ["a"]);
    }
    // A person who retries it has it go on there, too.
    world.ccl(&["retry", "a"]);
    world.scan();
    assert_eq!(reap(&world, 1), ["done a.md ccl-auto-0"]);
    assert_eq!(project.git(["show", "ccl/a:log"]), "x\nx\nx");
    // Another task of that name is another one's work.
    project.drop_task("a.md", "DO: echo y > log\n");
    world.scan();
    assert_eq!(reap(&world, 1), ["done a.md ccl-auto-0"]);
    assert_eq!(ending(&project, "done/a.2.md")["git"]["branch"], "ccl/a.2");
    assert_eq!(project.git(["show", "ccl/a.2:log"]), "y");
}

#[test]
fn a_new_worktree_is_set_up_once_before_the_agent() {
    let (world, project) = world(
        1,
        "copy: [.env, sub/secret.txt, missing]\nsetup: |\n  pwd\n  echo \"set up\" >> setup.log\n",
    );
    let world = world.with("dispatcher", json!({"cooldown": "0s"}));
    fs::write(project.root().join(".env"), "KEY=1\n").unwrap();
    fs::create_dir(project.root().join("sub")).unwrap();
    fs::write(project.root().join("sub/secret.txt"), "s\n").unwrap();
    project.drop_task(
        "a.md",
        "DO: cat .env sub/secret.txt setup.log > seen; [ -e again ] || { touch again; exit 1; }\n",
    );
    world.scan();
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.pass(&["reap"]), ["released a.md ccl-auto-0", "cooldown - ccl-auto-0"]);
    world.scan();
    assert_eq!(reap(&world, 1), ["done a.md ccl-auto-0"]);
    assert_eq!(project.git(["show", "ccl/a:seen"]), "KEY=1\ns\nset up");
}

#[test]
fn a_set_up_that_fails_holds_the_project_until_it_is_mended() {
    let (world, project) = world(2, "setup: echo no such package; exit 3\n");
    project.drop_task("a.md", "DO: echo x > y\n");
    let other = world.project("api");
    other.drop_task("b.md", "DO: true\n");
    // Its agent never begins.
    let scan = || {
        let events = world.sandbox.ccl_json(&["scan"])["events"].clone();
        events.as_array().unwrap().len()
    };
    assert_eq!(scan(), 2);
    world.tmux.wait_until("it has failed", || {
        world.session_file("ccl-auto-0", "exit").exists()
            || world.session_file("ccl-auto-1", "exit").exists()
    });
    world.tmux.wait_until("it is given back, and the other is done", || {
        world.pass(&["reap"]);
        project.inbox() == ["a.md"] && other.done() == ["b.md"]
    });
    let end = ending(&project, "inbox/a.md");
    assert_eq!((&end["attempt"], &end["outcome"]), (&json!(0), &json!("released")));
    let reason = end["reason"].as_str().unwrap();
    assert!(reason.contains("`setup` of its project.yaml failed"), "{reason}");
    assert!(reason.contains("no such package"), "{reason}");
    assert_eq!(
        (worktrees(&project), project.git(["branch", "--list", "ccl/*"])),
        (vec![], String::new())
    );
    // It is held, and takes no session.
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.short(), ["held - -"], "{pass:#?}");
    assert!(pass.reason_of_held().contains("no such package"));
    let status = world.sandbox.ccl_json(&["status"]);
    let row = status["tasks"].as_array().unwrap().iter().find(|row| row["name"] == "a.md").unwrap();
    assert_eq!(row["state"], "held", "{status:#}");
    // Another commit may mend it.
    project.git(["commit", "-q", "--allow-empty", "-m", "mended"]);
    assert_eq!(scan(), 1);
    world.tmux.wait_until("it is given back", || {
        world.pass(&["reap"]);
        project.inbox() == ["a.md"]
    });
    assert_eq!(world.ccl(&["scan"]).short(), ["held - -"]);
    // So may project.yaml.
    say(&project, "isolation: worktree\nsetup: echo y > set-up\n");
    assert!(world.scan()[0].starts_with("dispatched a.md"));
    world.tmux.wait_until("it is done", || {
        world.pass(&["reap"]);
        project.done() == ["a.md"]
    });
    assert_eq!(project.git(["show", "ccl/a:y"]), "x");
}

#[test]
fn where_there_can_be_no_worktree_the_task_is_held_and_never_falls_back() {
    let world =
        World::commands(2).with("defaults", json!({"parallel": 0, "isolation": "worktree"}));
    let plain = world.project("plain");
    let empty = world.project("empty");
    empty.git(["init", "-q"]);
    let based = world.project("based");
    based.init_git();
    say(&based, "base: no-such-branch\n");
    let good = world.project("good");
    good.init_git();
    for project in [&plain, &empty, &based, &good] {
        project.drop_task("t.md", "DO: echo x > y\n");
    }
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.code, 0);
    let reason = |project: &Project| {
        let held = |event: &&Value| {
            event["event"] == "held" && event["project"].as_str() == project.root().to_str()
        };
        pass.events.iter().find(held).unwrap_or_else(|| panic!("{pass:#?}"))["reason"].to_string()
    };
    assert!(reason(&plain).contains("is not in a git repository: run `git init`"));
    assert!(reason(&empty).contains("has no commit yet"));
    assert!(reason(&based).contains("`no-such-branch` names no commit"));
    let dispatched: Vec<_> =
        pass.events.iter().filter(|event| event["event"] == "dispatched").collect();
    assert_eq!(dispatched.len(), 1, "{pass:#?}");
    assert_eq!(dispatched[0]["project"].as_str(), good.root().to_str());
    for project in [&plain, &empty, &based] {
        assert_eq!(project.inbox(), ["t.md"]);
        assert!(!project.root().join("y").exists());
    }
}

#[test]
fn in_a_shared_checkout_the_ending_tells_what_has_changed() {
    let world = World::commands(1);
    let project = world.project("web");
    project.init_git();
    let before = project.git(["rev-parse", "HEAD"]);
    fs::write(project.root().join("mine"), "x").unwrap();
    project.drop_task("a.md", commit("a.txt", "one") + "DO: touch p q\n");
    world.scan();
    assert_eq!(reap(&world, 1), ["done a.md ccl-auto-0"]);
    let after = project.git(["rev-parse", "HEAD"]);
    assert_ne!(before, after);
    let git = json!({"head_before": before, "head_after": after, "dirty": [1, 3]});
    assert_eq!(ending(&project, "done/a.md")["git"], git);
}

#[test]
fn a_checkout_that_must_be_clean_holds_its_tasks() {
    let world = World::commands(1);
    let project = world.project("web");
    project.init_git();
    say(&project, "require_clean: true\n");
    fs::write(project.root().join("mine"), "x").unwrap();
    project.drop_task("a.md", "DO: true\n");
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.short(), ["held - -"]);
    assert!(pass.reason_of_held().contains("1 files in"), "{pass:#?}");
    project.git(["add", "mine"]);
    project.git(["commit", "-qm", "mine"]);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
}

#[test]
fn what_cannot_be_committed_keeps_its_worktree_and_status_names_it() {
    let (world, project) = world(1, "");
    project.drop_task(
        "a.md",
        commit("a.txt", "one")
            + "DO: touch \"$(git rev-parse --git-dir)/MERGE_HEAD\"; echo x > b\n",
    );
    world.scan();
    assert_eq!(reap(&world, 1), ["done a.md ccl-auto-0"]);
    let git = ending(&project, "done/a.md")["git"].clone();
    assert!(git["reason"].as_str().unwrap().contains("a merge is under way"), "{git}");
    assert_eq!(worktrees(&project), ["a"]);
    let status = world.sandbox.ccl_json(&["status"]);
    assert_eq!(status["projects"][0]["worktrees"][0]["task"], Value::Null);
    let text = world.sandbox.ccl(["status"]).output().unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).contains("WORKTREE LEFT"));
}

#[test]
fn a_task_that_is_cancelled_keeps_what_its_agent_has_made() {
    let (world, project) = world(1, "");
    project.drop_task("a.md", commit("a.txt", "one") + HOLDS);
    world.scan();
    let branch = || !project.git(["log", "--format=%s", "main..ccl/a"]).is_empty();
    world.tmux.wait_until("it has committed", branch);
    assert_eq!(world.pass(&["cancel", "a"]), ["failed a.md ccl-auto-0"]);
    assert_eq!(ending(&project, "failed/a.md")["git"]["commits"], 1);
    assert_eq!(worktrees(&project), ["a"]);
}

/// Git works in another user's repository only where the user has said so.
#[test]
fn another_users_repository_is_held_with_what_git_says_until_it_is_trusted() {
    // Nobody else can give a file away.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (world, project) = world(1, "");
    let root = project.root().canonicalize().unwrap();
    for path in [root.clone(), root.join(".git")] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    project.drop_task("a.md", commit("a.txt", "one"));
    let pass = world.ccl(&["scan"]);
    let reason = pass.reason_of_held();
    assert!(
        reason.contains("dubious ownership") && reason.contains("safe.directory"),
        "{reason}: {pass:#?}"
    );
    assert_eq!(project.inbox(), ["a.md"]);
    let trust = format!("[safe]\n\tdirectory = {}\n", root.display());
    fs::write(world.sandbox.home().join(".gitconfig"), trust).unwrap();
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    assert_eq!(reap(&world, 1), ["done a.md ccl-auto-0"]);
    assert_eq!(ending(&project, "done/a.md")["git"]["commits"], 1);
}
