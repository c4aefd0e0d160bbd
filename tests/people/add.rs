//! `ccl add`: a task is written complete or not at all.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::{fails, ok, run, sandbox};

#[test]
fn a_task_is_added_and_its_path_printed() {
    let (sandbox, project) = sandbox();
    let path = ok(&sandbox, "Do it.\n", &["add", "--title", "Fix: the Login!"]);
    let expected = project.queue("inbox").join("fix-the-login.md");
    assert_eq!(path, format!("{}\n", expected.display()));
    let text = "---\ntitle: \"Fix: the Login!\"\n---\n\nDo it.\n";
    assert_eq!(fs::read_to_string(expected).unwrap(), text);

    let notes = sandbox.path().join("Some notes.txt");
    fs::write(&notes, "---\npriority: low\nx: 1\n---\nBody.\n").unwrap();
    let args = ["add", "--priority", "high", "--tag", "a b", "--tag", "c"];
    ok(&sandbox, "", &[&args[..], &[notes.to_str().unwrap()]].concat());
    assert_eq!(
        project.read("inbox/Some notes.md"),
        "---\nx: 1\npriority: high\ntags: [\"a b\",\"c\"]\n---\nBody.\n"
    );

    ok(&sandbox, "\n# Update the dependencies\nand more\n", &["add", "-"]);
    let untouched = "\n# Update the dependencies\nand more\n";
    assert_eq!(project.read("inbox/update-the-dependencies.md"), untouched);
    assert_eq!(project.inbox().len(), 3, "no temporary file is left: {:?}", project.inbox());

    let json: Value = serde_json::from_str(&ok(&sandbox, "x", &["add", "--json"])).unwrap();
    let event = &json["events"][0];
    assert_eq!(event["event"], "added");
    assert_eq!(event["task"], "x.md");
    assert_eq!(event["project"], json!(project.root()));
}

#[test]
fn what_is_added_goes_where_the_options_say() {
    let (mut sandbox, project) = sandbox();
    sandbox.env("SECUTOOLS_API_KEY", "k");
    sandbox.env("SECUTOOLS_URL", "http://127.0.0.1:1");
    let decided = |args: &[&str]| {
        let path = ok(&sandbox, "Review it.\n", &[&["add"], args].concat());
        let decision = sandbox.ccl_json(&["decide", path.trim()]);
        decision["decisions"][0].clone()
    };
    let there = decided(&["--provider", "gemini", "--allow-delegation"]);
    assert_eq!((&there["provider"], &there["delegated"]), (&json!("gemini"), &json!(true)));
    let auto = decided(&["--preferred-ai", "auto", "--complexity", "low", "--allow-delegation"]);
    assert_eq!(auto["provider"], "gpu");
    let here = decided(&["--provider", "claude-code", "--priority", "critical"]);
    assert_eq!((&here["provider"], &here["model"]), (&json!("claude-code"), &json!("opus")));
    let (_, stderr, _) = run(&sandbox, "x", &["add", "--provider", "gpu"]);
    assert!(stderr.contains("without --allow-delegation"), "{stderr}");
    let typo = "---\nprioritty: high\n---\nx\n";
    let (_, stderr, exit) = run(&sandbox, typo, &["add", "--title", "t"]);
    assert_eq!(exit, 0);
    assert!(stderr.contains("t.md:2:1: ") && stderr.contains("priority"), "{stderr}");
    drop(project);
}

#[test]
fn a_name_that_is_taken_or_at_work_gets_a_number() {
    let (sandbox, project) = sandbox();
    let inbox = project.queue("inbox");
    fs::write(inbox.join("a.2.md.dispatched"), "at work").unwrap();
    fs::write(inbox.join("a.3.md.delegated"), "{}").unwrap();
    for expected in ["a.md", "a.4.md", "a.5.md"] {
        let path = ok(&sandbox, expected, &["add", "--title", "a"]);
        assert_eq!(path.trim(), inbox.join(expected).to_str().unwrap());
        assert!(project.read(&format!("inbox/{expected}")).ends_with(expected));
    }
    for odd in
        ["../../up", "-rf", ".hidden", "a/b\0c", "\u{1b}[2J", "日本 é", "…", &"x ".repeat(500)]
    {
        let path = ok(&sandbox, "x", &["add", &format!("--title={}", odd.replace('\0', " "))]);
        assert_eq!(Path::new(path.trim()).parent(), Some(inbox.as_path()), "{odd:?}");
    }
    assert_eq!(project.inbox().iter().filter(|name| name.ends_with(".md")).count(), 11);
}

#[test]
fn what_is_no_task_is_not_added() {
    let (sandbox, project) = sandbox();
    let binary = sandbox.path().join("binary.md");
    fs::write(&binary, b"a\0b").unwrap();
    let stderr = fails(&sandbox, "", &["add", binary.to_str().unwrap()], 1);
    assert!(stderr.contains("binary.md") && stderr.contains("not text"), "{stderr}");
    assert!(fails(&sandbox, "", &["add"], 1).contains("empty"));
    assert!(fails(&sandbox, " \n\t", &["add", "--title", "t"], 1).contains("empty"));
    let stderr = fails(&sandbox, "", &["add", "/nonexistent/a.md"], 1);
    assert!(stderr.contains("/nonexistent/a.md"), "{stderr}");
    assert!(fails(&sandbox, &"x".repeat(2 << 20), &["add"], 1).contains("larger than 1 MiB"));
    let broken = "---\ntitle: [\n---\nx\n";
    let stderr = fails(&sandbox, broken, &["add", "--priority", "low"], 1);
    assert!(stderr.contains("header"), "{stderr}");
    assert_eq!(project.inbox(), [""; 0]);
    ok(&sandbox, broken, &["add"]);
    assert_eq!(project.inbox().len(), 1, "without options it is taken as it is");
}

#[test]
fn the_project_is_the_one_that_is_meant() {
    let (sandbox, web) = sandbox();
    let api = sandbox.project("api");
    let stderr = fails(&sandbox, "x", &["add"], 2);
    for project in [&web, &api] {
        assert!(stderr.contains(project.root().to_str().unwrap()), "{stderr}");
    }
    let below = api.root().join("src/deep");
    fs::create_dir_all(&below).unwrap();
    let mut here = sandbox.ccl(["add", "--title", "here"]);
    here.current_dir(&below).write_stdin("x").assert().success();
    assert_eq!(api.inbox(), ["here.md"]);
    let mut there = sandbox.ccl(["add", "--title", "there", "--project"]);
    there.arg(web.root()).current_dir(&below).write_stdin("x").assert().success();
    assert_eq!(web.inbox(), ["there.md"]);
    let stderr = fails(&sandbox, "x", &["add", "--project", "/"], 78);
    assert!(stderr.contains("mkdir -p /.agent-queue/inbox"), "{stderr}");
}
