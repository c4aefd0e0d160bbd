//! What was finished costs `ccl reap` nothing, however much of it there is.

use std::fs;

use super::ok;
use super::support::{Sandbox, faults};

/// The system calls by which files are opened, listed and looked at.
const LOOKS: [&str; 2] = ["%file", "getdents64"];

#[test]
fn done_and_failed_are_neither_walked_nor_touched() {
    let sandbox = Sandbox::new();
    let project = sandbox.project("web");
    project.drop_task("waits.md", "Do it.\n");
    let without = faults::traced(&sandbox, &["reap"], &LOOKS);
    for number in 0..1000 {
        fs::write(project.queue("done").join(format!("{number}.md")), "Done.\n").unwrap();
        fs::write(project.queue("failed").join(format!("{number}.md")), "Failed.\n").unwrap();
    }
    let with = faults::traced(&sandbox, &["reap"], &LOOKS);
    let touched = with.lines().find(|line| line.contains("/done") || line.contains("/failed"));
    assert_eq!(touched, None);
    assert_eq!(with.lines().count(), without.lines().count());
    assert!(with.contains(".agent-queue/inbox"), "it does look at the inbox: {with}");
}

#[test]
fn what_is_filed_is_staged_in_the_inbox_where_reap_sweeps() {
    let sandbox = Sandbox::new();
    let project = sandbox.project("web");
    // Not text, so that its reason is written beside it.
    project.drop_task("latin.md", b"caf\xe9\n");
    let trace = faults::traced(&sandbox, &["cancel", "latin.md"], &["openat", "open"]);
    assert_eq!(project.failed(), ["latin.md", "latin.md.reason"]);
    let staged: Vec<_> = trace.lines().filter(|line| line.contains(".ccl-")).collect();
    assert!(!staged.is_empty(), "{trace}");
    assert!(staged.iter().all(|line| line.contains("/inbox/.ccl-")), "{staged:#?}");

    let killed = project.queue("inbox").join(".ccl-killed.tmp");
    fs::write(&killed, "half").unwrap();
    ok(&sandbox, "", &["reap"]);
    assert!(killed.exists(), "another pass may be writing it");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 60 * 60);
    fs::File::open(&killed).unwrap().set_modified(old).unwrap();
    ok(&sandbox, "", &["reap"]);
    assert!(!killed.exists());
}
