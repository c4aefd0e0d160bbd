//! `ccl scan` with agents of kind `command`: who goes where, and what is said.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::launch::forever;
use super::support::fake_script::Behaviour;
use super::support::{FakeClaude, PATIENCE, Project, Sandbox, TmuxServer, wait_until};
use super::world::{HOLDS, World, ending};

/// Every file and directory below `root` with what can change about it.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let contents = match meta.is_file() {
            true => fs::read(&path).unwrap(),
            false => Vec::new(),
        };
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, (meta.ino(), meta.mtime(), meta.mtime_nsec(), contents));
    }
    found
}

fn waits_for(path: &Path, minutes: u64) {
    let since = SystemTime::now() - Duration::from_secs(minutes * 60);
    File::open(path).unwrap().set_modified(since).unwrap();
}

/// Alpha, beta and gamma with six tasks, in no session yet.
fn three_projects(world: &World) -> [Project; 3] {
    let [alpha, beta, gamma] = ["alpha", "beta", "gamma"].map(|name| world.project(name));
    let task = |priority: &str| format!("---\npriority: {priority}\n---\n{HOLDS}");
    waits_for(&alpha.drop_task("a1.md", HOLDS), 5);
    waits_for(&alpha.drop_task("a2.md", HOLDS), 40);
    waits_for(&alpha.drop_task("a3.md", task("low")), 70);
    waits_for(&beta.drop_task("b1.md", task("critical")), 1);
    waits_for(&beta.drop_task("b2.md", HOLDS), 50);
    waits_for(&gamma.drop_task("g1.md", task("high")), 1);
    [alpha, beta, gamma]
}

#[test]
fn priority_fairness_and_names_decide_who_goes_next() {
    let world = World::commands(6);
    let projects = three_projects(&world);
    let expected = ["b1", "g1", "a1", "b2", "a2", "a3"];
    let expected: Vec<_> =
        (0..6).map(|i| format!("dispatched {}.md ccl-auto-{i}", expected[i])).collect();
    assert_eq!(world.pass(&["scan", "--dry-run"]), expected);
    let pass = world.ccl(&["scan"]);
    assert_eq!((pass.code, pass.short(), pass.free), (0, expected, json!(0)));
    for project in &projects {
        for name in project.inbox().iter().filter(|name| name.starts_with('.')) {
            let claim = project.marker(&format!("inbox/{name}"));
            assert_eq!(claim["phase"], "working", "{name}");
        }
    }
    let got = world.got("g1.md");
    assert_eq!(got.len(), 1);
    assert!(got[0].starts_with("[g1.md] DO: while"), "{got:?}");
    assert!(got[0].contains("carry out what this task asks for"), "{got:?}");

    world.let_go();
    for index in 0..6 {
        world.wait_for_exit(&format!("ccl-auto-{index}"));
    }
    let mut done = world.pass(&["reap"]);
    done.sort();
    assert_eq!(done.len(), 6);
    assert_eq!(done[0], "done a1.md ccl-auto-2");
    assert_eq!(projects[0].done(), ["a1.md", "a2.md", "a3.md"]);
    assert!(projects.iter().all(|project| project.inbox().is_empty()));
    let filed = ending(&projects[1], "done/b1.md");
    assert_eq!((&filed["outcome"], &filed["attempt"]), (&json!("done"), &json!(1)));
    assert_eq!(world.scan(), [""; 0]);
}

#[test]
fn a_dry_run_changes_nothing_at_all() {
    let world = World::commands(2).with("dispatcher", json!({"cooldown": "0s"}));
    let [alpha, ..] = three_projects(&world);
    waits_for(&alpha.drop_task("a0.md", " \n"), 1);
    std::os::unix::fs::symlink("/etc/passwd", alpha.queue("inbox").join("link.md")).unwrap();
    let before = tree(world.sandbox.path());
    let foreseen = world.pass(&["scan", "--dry-run"]);
    world.pass(&["reap", "--dry-run"]);
    world.sandbox.ccl(["scan", "-n"]).assert().success();
    assert!(before == tree(world.sandbox.path()));
    assert_eq!(world.tmux.sessions(), [""; 0]);
    assert_eq!(world.scan(), foreseen);
    assert!(foreseen.contains(&"dispatched b1.md ccl-auto-0".to_owned()));

    // Now there are sessions, markers and agents, which write down what they got.
    wait_until("both agents have begun", PATIENCE, || world.order().len() == 2);
    let before = tree(world.sandbox.path());
    world.pass(&["scan", "--dry-run"]);
    world.pass(&["reap", "--dry-run"]);
    assert!(before == tree(world.sandbox.path()));
    world.let_go();
    world.wait_for_exit("ccl-auto-0");
    world.wait_for_exit("ccl-auto-1");
    let before = tree(world.sandbox.path());
    let foreseen = world.pass(&["reap", "--dry-run"]);
    assert_eq!(foreseen, ["done b1.md ccl-auto-0", "done g1.md ccl-auto-1"]);
    // So does scan, which goes on with what waits.
    let of_scan = world.pass(&["scan", "--dry-run"]);
    assert_eq!(of_scan[..2], foreseen);
    assert!(before == tree(world.sandbox.path()));
    assert_eq!(world.pass(&["reap"]), foreseen);
}

#[test]
fn only_the_given_projects_are_looked_at() {
    let world = World::commands(2);
    let [_, beta, _] = three_projects(&world);
    let elsewhere = Project::make(&world.sandbox.path().join("elsewhere"));
    elsewhere.drop_task("e.md", HOLDS);
    let root = |project: &Project| project.root().to_str().unwrap().to_owned();
    let pass = world.ccl(&["scan", "-p", &root(&elsewhere), "--project", &root(&beta)]);
    assert_eq!(pass.short(), ["dispatched b1.md ccl-auto-0", "dispatched e.md ccl-auto-1"]);
    assert_eq!(pass.events[1]["project"], root(&elsewhere));
    let nowhere = world.ccl(&["scan", "--project", "/nowhere/at/all"]);
    assert_eq!(nowhere.code, 78);
    assert!(nowhere.stderr.contains("/nowhere/at/all"), "{}", nowhere.stderr);
    world.let_go();
}

#[test]
fn text_says_the_same_as_json() {
    let world = World::commands(1);
    world.project("web").drop_task("a.md", HOLDS);
    let out = world.sandbox.ccl(["scan"]).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(stdout.contains("dispatched") && stdout.contains("a.md"), "{stdout}");
    assert!(stderr.contains("DISPATCHED session=ccl-auto-0 task=a.md model=-"), "{stderr}");
    world.let_go();
}

#[test]
fn without_a_configuration_the_current_directory_is_the_project() {
    let mut sandbox = Sandbox::new();
    let fake = FakeClaude::install(&sandbox);
    let env = fake.env();
    let tmux: TmuxServer = sandbox.tmux_with(|builder| builder.envs(env).not_running());
    // Its hooks would file the task while the inbox is looked at.
    fake.script(&[Behaviour { turns: forever(), ..Behaviour::default() }]);
    fs::remove_file(sandbox.config_file()).unwrap();
    // The default command's server, in a directory of the test's own.
    sandbox.env("TMUX_TMPDIR", sandbox.path().join("tmp"));
    let project = Project::make(&sandbox.path().join("my project"));
    let below = project.root().join("src/deep");
    fs::create_dir_all(&below).unwrap();
    project.drop_task("fix.md", "Fix it.\n");

    let nowhere = sandbox.bare_ccl().arg("scan").output().unwrap();
    let said = String::from_utf8(nowhere.stderr).unwrap();
    assert_eq!(nowhere.status.code(), Some(78), "{said}");
    assert!(said.contains("mkdir -p") && said.contains(".agent-queue/inbox"), "{said}");

    let mut scan = sandbox.bare_ccl();
    scan.current_dir(&below).arg("scan").assert().success();
    fake.wait_for("prompt", "Fix it.");
    assert_eq!(project.inbox(), [".fix.md.claim", "fix.md.dispatched"]);
    let state = sandbox.path().join("xdg/state/ccl/sessions/ccl-auto-0.dispatched");
    assert!(state.exists());
    drop(tmux);
}

#[test]
fn without_tmux_nothing_is_lost_and_the_sentence_says_so() {
    let world = World::commands(1).with("tmux", json!({"command": ["/nowhere/tmux"]}));
    let project = world.project("web");
    project.drop_task("a.md", HOLDS);
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.code, 75, "{pass:?}");
    assert!(pass.stderr.contains("/nowhere/tmux"), "{}", pass.stderr);
    assert!(pass.stderr.contains("install tmux"), "{}", pass.stderr);
    assert_eq!(project.inbox(), ["a.md"]);
}

#[test]
fn where_no_session_is_free_each_one_says_why() {
    let world = World::commands(5).with("pool", json!({"autonomous": {"create": false}}));
    let busy = |pane: &str, line: &str| {
        world.tmux.type_line(pane, line);
        world.tmux.wait_until(line, || {
            line.starts_with(&world.tmux.format(pane, "#{pane_current_command}"))
        });
    };
    busy(&world.tmux.new_session("ccl-auto-0", &[]), "sleep 1000");
    world.tmux.new_session("ccl-auto-1", &[]);
    let second =
        world.tmux.run(&["split-window", "-d", "-P", "-F", "#{pane_id}", "-t", "=ccl-auto-1:"]);
    world.tmux.wait_for_text(second.trim(), "$");
    busy(second.trim(), "cat -v");
    world.tmux.new_session("ccl-auto-2", &[]);
    world.tmux.new_session("ccl-auto-3", &[]);
    let project = world.project("web");
    project.drop_task("bad.md", "DO: exit 3\n");
    project.drop_task("long.md", HOLDS);
    assert_eq!(world.scan(), ["dispatched bad.md ccl-auto-2", "dispatched long.md ccl-auto-3"]);
    world.wait_for_exit("ccl-auto-2");
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.short(), ["released bad.md ccl-auto-2", "cooldown - ccl-auto-2"], "{pass:#?}");
    assert_eq!((pass.code, &pass.free), (0, &json!(0)));
    for why in [
        "no free session: ccl-auto-0 is busy: `sleep` runs in its pane",
        "ccl-auto-1 is busy: `cat` runs in its pane",
        "ccl-auto-2 cools down until ",
        "sh ended with exit code 3",
        "ccl-auto-3 works on long.md",
        "ccl-auto-4 does not exist, and pool.autonomous.create is false",
    ] {
        assert!(pass.stderr.contains(why), "{why}: {}", pass.stderr);
    }
    assert_eq!(project.task_places("bad.md"), ["inbox/bad.md"]);
    world.let_go();
}

#[test]
fn an_unreadable_marker_keeps_one_session_from_being_used_and_no_other() {
    let world = World::commands(3);
    let project = world.project("web");
    let (marker, rest) = (
        world.session_file("ccl-auto-0", "dispatched"),
        world.session_file("ccl-auto-1", "cooldown"),
    );
    fs::create_dir_all(marker.parent().unwrap()).unwrap();
    fs::write(&marker, "{\"version\":1,").unwrap();
    fs::write(&rest, "\0").unwrap();
    project.drop_task("a.md", HOLDS);
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.short(), ["dispatched a.md ccl-auto-2"], "{pass:#?}");
    assert_eq!(pass.code, 1);
    for marker in [&marker, &rest] {
        let shown = marker.display().to_string();
        assert_eq!(pass.stderr.matches(&shown).count(), 1, "{}", pass.stderr);
    }
    assert_eq!(fs::read(&marker).unwrap(), b"{\"version\":1,");
    world.let_go();
}

#[test]
fn after_its_last_attempt_a_task_is_given_up_with_the_reason() {
    let world = World::commands(1).with("dispatcher", json!({"max_attempts": 2, "cooldown": "0s"}));
    let project = world.project("web");
    let text = "---\ntitle: T\n---\nDO: exit 7\n";
    project.drop_task("a.md", text);
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(
        world.scan(),
        ["released a.md ccl-auto-0", "cooldown - ccl-auto-0", "dispatched a.md ccl-auto-0"]
    );
    world.wait_for_exit("ccl-auto-0");
    let pass = world.ccl(&["reap"]);
    assert_eq!(pass.short(), ["failed a.md ccl-auto-0", "cooldown - ccl-auto-0"]);
    assert_eq!(pass.reason("a.md"), "sh ended with exit code 7");
    assert_eq!(project.task_places("a.md"), ["failed/a.md"]);
    assert!(project.read("failed/a.md").starts_with(text));
    let end = ending(&project, "failed/a.md");
    assert_eq!((&end["outcome"], &end["attempt"]), (&json!("failed"), &json!(2)));
    assert_eq!(end["reason"], "sh ended with exit code 7");
    // The prompt of the second attempt has nothing of the first one's ending line.
    let got = world.got("a.md");
    assert_eq!(got.len(), 2);
    assert_eq!(got[0], got[1]);
    world.assert_nothing_is_left("ccl-auto-0");

    // A file that comes back into the inbox starts afresh.
    fs::rename(project.queue("failed").join("a.md"), project.queue("inbox").join("a.md")).unwrap();
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    assert_eq!(project.marker("inbox/.a.md.claim")["attempt"], 1);
}

#[test]
fn a_name_that_is_taken_gets_a_number() {
    let world = World::commands(1).with("dispatcher", json!({"cooldown": "0s"}));
    let project = world.project("web");
    fs::write(project.queue("done").join("a.md"), "an older one").unwrap();
    project.drop_task("a.md", format!("The first.\n{HOLDS}"));
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);

    // A new one of its name waits for the first to end.
    project.drop_task("a.md", "The second.\nDO: exit 1\n");
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.short(), ["held a.md -"]);
    assert!(pass.reason("a.md").contains("a task of this name is at work"));
    world.let_go();
    world.wait_for_exit("ccl-auto-0");
    assert_eq!(world.scan(), ["done a.md ccl-auto-0", "dispatched a.md ccl-auto-0"]);
    assert_eq!(project.read("done/a.md"), "an older one");
    assert!(project.read("done/a.2.md").starts_with("The first."));

    // One that is released while a new one waits goes beside it.
    world.wait_for_exit("ccl-auto-0");
    project.drop_task("a.md", "The third.\n");
    let events = world.pass(&["reap"]);
    assert_eq!(events, ["released a.md ccl-auto-0", "cooldown - ccl-auto-0"]);
    assert_eq!(project.inbox(), ["a.2.md", "a.md"]);
    assert!(project.read("inbox/a.2.md").starts_with("The second."));
    assert_eq!(project.read("inbox/a.md"), "The third.\n");
}
