use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::faults::{CHANGING, Fault, pass_with, was_killed};
use crate::support::sandbox::names;
use crate::support::{Project, Sandbox};
use crate::{sandbox, told};

fn recurring(project: &Project, name: &str, text: &str) -> PathBuf {
    let directory = project.root().join(".agent-queue/recurring");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    // A file that has rested: nobody still writes it.
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    path
}

const HOURLY: &str = "---\nevery: 1h\n---\nDo it.\n";

/// Says that the last slot was so many seconds ago; returns the name of the next one's task.
fn last_slot(project: &Project, ago: i64, made: &[&str]) -> String {
    let slot = Timestamp::from_second((Timestamp::now().as_second() - ago) / 60 * 60).unwrap();
    let last = json!({"version": 1, "host": "h", "at": slot, "slot": slot, "made": made});
    let path = project.root().join(".agent-queue/recurring/.r.md.last");
    fs::write(path, last.to_string()).unwrap();
    let next = slot + jiff::SignedDuration::from_hours(1);
    next.strftime("r.%Y%m%dT%H%MZ.md").to_string()
}

fn start(sandbox: &Sandbox, state: &str) -> Child {
    let mut command = sandbox.std_ccl();
    command.arg("--config").arg(sandbox.config_file());
    command.arg("--state-dir").arg(sandbox.path().join(state)).arg("scan");
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn ten_passes_of_two_pools_make_one_task_of_a_slot() {
    for round in 0..5 {
        let (sandbox, project) = sandbox();
        recurring(&project, "r.md", HOURLY);
        let expected = last_slot(&project, 3700, &[]);
        let passes: Vec<Child> =
            (0..10).map(|pass| start(&sandbox, ["one", "two"][pass % 2])).collect();
        for mut pass in passes {
            pass.wait().unwrap();
        }
        assert_eq!(project.inbox(), [expected], "round {round}");
        assert_eq!(names(&project.root().join(".agent-queue/recurring")), [".r.md.last", "r.md"]);
    }
}

/// SIGKILL at every call that changes something; a person may take the task away before the next pass.
#[test]
fn no_kill_fires_a_slot_twice_or_loses_it() {
    let mut kills = 0;
    for lacks_renameat2 in [false, true] {
        // Where nothing can be renamed safely, a link is made, and the old name removed.
        let calls =
            if lacks_renameat2 { &["linkat", "unlink", "fsync", "flock"] } else { CHANGING };
        for syscall in calls {
            for nth in 1.. {
                let is_taken_away = nth % 2 == 0;
                let (sandbox, project) = sandbox();
                recurring(&project, "r.md", HOURLY);
                let task = last_slot(&project, 3700, &[]);
                let fault = Fault { syscall, nth, action: "signal=SIGKILL", from_then_on: false };
                let more: &[&str] =
                    if lacks_renameat2 { &["--inject=renameat2:error=EINVAL"] } else { &[] };
                let out = pass_with(&sandbox, &["scan"], fault, more);
                let when = format!("killed at {syscall} {nth}, {lacks_renameat2}");
                let inbox = project.queue("inbox");
                let was_there = inbox.join(&task).exists();
                if was_there && is_taken_away && !lacks_renameat2 {
                    fs::remove_file(inbox.join(&task)).unwrap();
                }
                for _ in 0..2 {
                    // Without tmux nothing is handed out.
                    let _ = sandbox.ccl(["scan"]).output().unwrap();
                }
                let mut left = project.inbox();
                left.retain(|name| !name.starts_with(".ccl-"));
                let expected: &[String] = match was_there && is_taken_away && !lacks_renameat2 {
                    true => &[],
                    false => &[task],
                };
                assert_eq!(left, expected, "{when}");
                let mut beside = names(&project.root().join(".agent-queue/recurring"));
                beside.retain(|name| !name.starts_with(".ccl-"));
                assert_eq!(beside, [".r.md.last", "r.md"], "{when}");
                if !was_killed(out.status) {
                    break;
                }
                kills += 1;
            }
        }
    }
    assert!(kills >= 30, "only {kills} kills");
}

#[test]
fn a_slot_s_task_is_added_and_told_of() {
    let (sandbox, project) = sandbox();
    recurring(&project, "r.md", HOURLY);
    recurring(&project, "bad.md", "---\nat: noon\n---\nDo it.\n");
    let task = last_slot(&project, 3700, &[]);
    let dry = sandbox.ccl(["scan", "--dry-run"]).output().unwrap();
    let said = String::from_utf8(dry.stdout).unwrap();
    assert!(said.contains(&format!("added       {task}")), "{said}");
    assert!(project.inbox().is_empty() && told(&sandbox).is_empty());
    let out = sandbox.ccl(["scan"]).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(
        said.contains(&format!(
            "added       {task}  {}: its slot has come",
            project.root().display()
        )),
        "{said}"
    );
    assert!(
        said.contains("held        bad.md")
            && said.contains("recurring/bad.md:2:5: `at` has `noon`"),
        "{said}"
    );
    assert_eq!(told(&sandbox), [format!("added {task}")]);
    let out = sandbox.ccl(["status", "--json"]).output().unwrap();
    let status: Value = serde_json::from_slice(&out.stdout).unwrap();
    let [bad, good] = status["recurring"].as_array().unwrap().as_slice() else {
        panic!("{status}")
    };
    assert_eq!(
        (&bad["name"], &bad["state"], &bad["next"]),
        (&json!("bad.md"), &json!("held"), &Value::Null)
    );
    assert_eq!(
        (&good["name"], &good["state"], &good["schedule"]),
        (&json!("r.md"), &json!("ready"), &json!("every 1h"))
    );
    let next: Timestamp = good["next"].as_str().unwrap().parse().unwrap();
    assert!(next > Timestamp::now());
    let out = sandbox.ccl(["status"]).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.contains("RECURRING") && said.contains("every 1h"), "{said}");
}

#[test]
fn a_recurring_task_that_fails_is_held_and_people_are_told_once() {
    let (mut sandbox, project) = sandbox();
    let heard = sandbox.path().join("heard");
    let tell = json!(["sh", "-c", format!("cat >> {}", heard.display())]);
    sandbox.config("notify", json!([{"on": ["hold"], "command": tell}]));
    recurring(&project, "r.md", HOURLY);
    let failed = ["r.20260101T0000Z.md", "r.20260101T0100Z.md", "r.20260101T0200Z.md"];
    for task in failed {
        fs::write(project.queue("failed").join(task), "x").unwrap();
    }
    let task = last_slot(&project, 3700, &failed);
    for pass in 0..3 {
        let out = sandbox.ccl(["scan"]).output().unwrap();
        let said = String::from_utf8(out.stdout).unwrap();
        let word = if pass == 0 { "hold        r.md" } else { "held        r.md" };
        assert!(said.contains(word) && said.contains("its last 3 tasks have failed"), "{said}");
    }
    assert!(project.inbox().is_empty());
    assert_eq!(told(&sandbox), ["hold r.md"]);
    let heard = fs::read_to_string(heard).unwrap();
    let notice: Value = serde_json::from_str(heard.trim()).unwrap();
    assert_eq!((&notice["event"], &notice["task"]), (&json!("hold"), &json!("r.md")));
    let out = sandbox.ccl(["resume", "--project"]).arg(project.root()).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && said.starts_with("resumed     r.md"), "{said}");
    sandbox.ccl(["scan"]).output().unwrap();
    assert_eq!(project.inbox(), [task]);
}
