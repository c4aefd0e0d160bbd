//! `ccl retry`: what failed, or is to be done again, goes back.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use serde_json::Value;

use crate::support::Project;
use crate::support::faults::{pass_with, was_killed};
use crate::support::scenes::kill;
use crate::{RUN, fails, ok, run, sandbox};

fn file(project: &Project, path: &str, above: &str, outcome: &str) {
    let line = format!(
        "<!-- ccl {{\"run\":\"{RUN}\",\"outcome\":\"{outcome}\",\"attempt\":3,\"provider\":\"gemini\",\"reason\":\"r\"}} -->"
    );
    let path = project.root().join(".agent-queue").join(path);
    fs::write(path, format!("{above}\n{line}\n")).unwrap();
}

#[test]
fn a_failed_task_goes_back_and_starts_afresh() {
    let (sandbox, project) = sandbox();
    let text = "---\ntitle: T\n---\nDo it.\n";
    file(&project, "failed/a.md", text, "failed");
    file(&project, "failed/b.md", &format!("{text}\n*gemini · 3s · job x*\n"), "failed");
    fs::write(project.queue("failed").join("a.md.reason"), "r").unwrap();
    assert!(ok(&sandbox, "", &["retry", "a"]).starts_with("released    a.md"));
    let path = project.queue("failed").join("b.md");
    ok(&sandbox, "", &["retry", path.to_str().unwrap()]);
    assert_eq!(project.failed(), [""; 0]);
    assert_eq!(project.inbox(), ["a.md", "b.md"]);
    assert_eq!(project.read("inbox/b.md"), "---\ntitle: T\n---\nDo it.");
    let json = sandbox.ccl(["status", "--json"]).output().unwrap().stdout;
    let json: Value = serde_json::from_slice(&json).unwrap();
    for task in json["tasks"].as_array().unwrap() {
        assert_eq!(task["attempt"], Value::Null, "no attempt counts any more: {task}");
    }
}

#[test]
fn a_done_task_is_done_again_from_a_copy_without_its_result() {
    let (sandbox, project) = sandbox();
    let done = "---\ntitle: T\n---\nDo it.\n\n## Result\n\nIt is done.\n\n*claude-code · 3s*\n";
    file(&project, "done/a.md", done, "done");
    project.drop_task("a.md", "a new one\n");
    let before = project.read("done/a.md");
    let json: Value =
        serde_json::from_str(&ok(&sandbox, "", &["retry", "a.md", "--json"])).unwrap();
    assert_eq!(json["events"][0]["event"], "released");
    assert_eq!(json["events"][0]["task"], "a.2.md");
    assert_eq!(project.read("inbox/a.2.md"), "---\ntitle: T\n---\nDo it.");
    assert_eq!(project.read("inbox/a.md"), "a new one\n");
    assert_eq!(project.read("done/a.md"), before, "the record stays");
}

#[test]
fn who_may_read_a_task_does_not_change() {
    let (sandbox, project) = sandbox();
    let mode_and_owner = |path: &str| {
        let found = fs::metadata(project.root().join(".agent-queue").join(path)).unwrap();
        (found.mode() & 0o777, found.uid(), found.gid())
    };
    for (from, outcome) in [("failed/a.md", "failed"), ("done/b.md", "done")] {
        file(&project, from, "Do it.\n\n*gemini · 3s*\n", outcome);
        let path = project.root().join(".agent-queue").join(from);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        // Only root can make it somebody else's.
        let _refused = chown(&path, Some(12345), Some(23456));
        let before = mode_and_owner(from);
        let (_, name) = from.split_once('/').unwrap();
        ok(&sandbox, "", &["retry", name]);
        assert_eq!(mode_and_owner(&format!("inbox/{name}")), before, "{from}");
    }
}

#[test]
fn a_retry_that_was_killed_is_made_once() {
    let mut kills = 0;
    for syscall in ["write", "fsync", "fchmod", "rename", "renameat", "renameat2", "unlink"] {
        for nth in 1.. {
            let when = format!("killed at {syscall} {nth}");
            let (sandbox, project) = sandbox();
            file(&project, "failed/a.md", "Do it.\n\n*gemini · 3s*\n", "failed");
            fs::write(project.queue("failed").join("a.md.reason"), "r").unwrap();
            let output = pass_with(&sandbox, &["retry", "a"], kill(syscall, nth), &[]);
            // A person calls it once more. Where the task is back already, it says so.
            let (_, stderr, exit) = run(&sandbox, "", &["retry", "a"]);
            assert!(exit == 0 || stderr.contains("no task a in failed/"), "{when}: {stderr}");
            let tasks = [project.inbox(), project.failed()].concat();
            let tasks: Vec<_> = tasks.iter().filter(|name| name.ends_with(".md")).collect();
            assert_eq!(tasks, ["a.md"], "{when}");
            assert_eq!(project.read("inbox/a.md"), "Do it.", "{when}");
            if !was_killed(output.status) {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills > 5, "only {kills} kills");
}

#[test]
fn which_task_is_meant_is_never_guessed() {
    let (sandbox, web) = sandbox();
    let api = sandbox.project("api");
    for project in [&web, &api] {
        file(project, "failed/a.md", "x", "failed");
    }
    file(&web, "done/a.md", "x", "done");
    let stderr = fails(&sandbox, "", &["retry", "a"], 1);
    for project in [&web, &api] {
        let path = project.queue("failed").join("a.md");
        assert!(stderr.contains(path.to_str().unwrap()), "{stderr}");
    }
    assert!(fails(&sandbox, "", &["retry", "nix"], 1).contains("no task nix in failed/ or done/"));
    let elsewhere = sandbox.path().join("a.md");
    fs::write(&elsewhere, "x").unwrap();
    let stderr = fails(&sandbox, "", &["retry", elsewhere.to_str().unwrap()], 1);
    assert!(stderr.contains("is no task in failed/ or done/ of a project"), "{stderr}");
    let gone = web.queue("failed").join("gone.md");
    let stderr = fails(&sandbox, "", &["retry", gone.to_str().unwrap()], 1);
    assert!(stderr.contains("there is no ") && stderr.contains("gone.md"), "{stderr}");
    let binary = web.queue("failed").join("binary.md");
    fs::write(&binary, b"a\0").unwrap();
    let stderr = fails(&sandbox, "", &["retry", "binary"], 1);
    assert!(stderr.contains("save it as UTF-8"), "{stderr}");
    symlink("/etc/passwd", web.queue("failed").join("link.md")).unwrap();
    fails(&sandbox, "", &["retry", "link"], 1);
    assert_eq!((web.inbox().len(), api.inbox().len()), (0, 0));

    let project = web.root().to_str().unwrap();
    ok(&sandbox, "", &["retry", "a", "--project", project]);
    assert_eq!(web.inbox(), ["a.md"]);
    assert_eq!(web.done(), ["a.md"], "what failed goes first");
}
