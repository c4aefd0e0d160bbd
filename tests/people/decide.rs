//! `ccl decide`: a decision for each file that `scan` would take, and a reason for each other one.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::run;
use super::support::Sandbox;

#[test]
fn what_an_inbox_holds_back_has_the_same_reason_and_no_fifo_is_waited_for() {
    let sandbox = Sandbox::new();
    let project = sandbox.project("web");
    let inbox = project.queue("inbox");
    project.drop_task("good.md", "---\npriority: high\n---\nDo it.\n");
    project.drop_task("empty.md", " \n");
    // Nobody ever writes to it: whoever opened it for reading would wait for ever.
    assert!(Command::new("mkfifo").arg(inbox.join("fifo.md")).status().unwrap().success());
    symlink(inbox.join("good.md"), inbox.join("link.md")).unwrap();
    symlink("/nowhere", inbox.join("dangling.md")).unwrap();
    fs::create_dir(inbox.join("directory.md")).unwrap();
    project.drop_task("twice.md", "Do it.\n");
    fs::hard_link(inbox.join("twice.md"), inbox.join("second.md")).unwrap();

    let path = |name: &str| inbox.join(name).to_str().unwrap().to_owned();
    let names = ["fifo", "link", "dangling", "directory", "second", "empty", "none", "good"];
    let files = names.map(|name| path(&format!("{name}.md")));
    let mut words = vec!["--json", "decide"];
    words.extend(files.iter().map(String::as_str));
    let (stdout, stderr, exit) = run(&sandbox, "", &words);

    assert_eq!(exit, 1, "{stderr}");
    for (name, sentence) in [
        ("fifo.md", "would be held: it is not a regular file (links are not followed)"),
        ("link.md", "would be held: it is not a regular file (links are not followed)"),
        ("dangling.md", "would be held: it is not a regular file (links are not followed)"),
        ("directory.md", "would be held: it is not a regular file (links are not followed)"),
        ("second.md", "would be held: it has more than one hard link"),
        ("empty.md", "would be filed as failed: the file is empty"),
    ] {
        let sentence = format!("{} {sentence}", path(name));
        assert!(stderr.contains(&sentence), "{sentence}\n{stderr}");
    }
    assert!(stderr.contains(&format!("there is no file {}", path("none.md"))), "{stderr}");
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let decisions = report["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), 1, "{stdout}");
    assert_eq!(decisions[0]["task"], path("good.md"));

    // The inbox itself gives the same reasons.
    let (held, ..) = run(&sandbox, "", &["--json", "scan", "--dry-run"]);
    let held: serde_json::Value = serde_json::from_str(&held).unwrap();
    let reason = |name: &str| {
        let mut events = held["events"].as_array().unwrap().iter();
        let event = events.find(|event| event["task"] == name).unwrap();
        event["reason"].as_str().unwrap().to_owned()
    };
    for name in ["fifo.md", "link.md", "dangling.md", "directory.md"] {
        let sentence = format!("{} would be held: {}", path(name), reason(name));
        assert!(stderr.contains(&sentence), "{sentence}\n{stderr}");
    }
}
