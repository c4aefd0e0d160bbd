//! `ccl cancel` of a task that secutools has, or is being given.

use std::process::Output;

use serde_json::{Map, Value, json};

use crate::pool::Binary;
use crate::secutools_server::{Answer, Step};
use crate::support::faults::said;
use crate::support::sandbox::ending_line;
use crate::support::{PATIENCE, wait_until};
use crate::world::TASK;

/// `T.md`, delegated as job-1.
fn delegated() -> Binary {
    let world = Binary::new();
    world.project.drop_task("T.md", TASK);
    world.pass(&["scan"]);
    assert_eq!(world.server.jobs().len(), 1);
    world
}

/// Whether it ended with `exit` and without a word on standard output that would claim otherwise.
#[track_caller]
fn assert_refused(output: &Output, exit: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{}", said(output));
    assert!(output.stdout.is_empty(), "{}", said(output));
    for word in words {
        assert!(stderr.contains(word), "{word}: {stderr}");
    }
}

#[track_caller]
fn assert_untouched(world: &Binary) {
    let inbox = world.project.inbox();
    assert!(inbox.contains(&"T.md".to_owned()), "{inbox:?}");
    assert!(inbox.contains(&"T.md.delegated".to_owned()), "{inbox:?}");
    assert_eq!(world.project.task_places("T.md"), ["inbox/T.md"]);
}

fn ending(world: &Binary, place: &str) -> Map<String, Value> {
    assert_eq!(world.project.task_places("T.md"), [place]);
    let inbox = world.project.inbox();
    assert!(!inbox.contains(&"T.md.delegated".to_owned()), "{inbox:?}");
    ending_line(&world.project.read(place)).unwrap()
}

#[test]
fn its_job_is_cancelled_and_the_task_filed() {
    let world = delegated();
    let output = world.pass(&["cancel", "T", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let event = &report["events"][0];
    assert_eq!(event["event"], "failed");
    assert_eq!(event["job_id"], "job-1");
    let ending = ending(&world, "failed/T.md");
    assert_eq!(ending["reason"], "secutools: job cancelled, without a reason");
    let requests = world.server.requests();
    let asked = &requests[1];
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str(), asked.body.len()),
        ("POST", "/v1/jobs/job-1/cancel", 0)
    );
    assert_eq!(asked.header("content-length"), Some("0"));
    assert_eq!(world.server.jobs()[0].answer["status"], "cancelled");
}

#[test]
fn a_job_that_takes_its_time_to_end_is_filed_by_reap() {
    let world = delegated();
    world.server.script([Step::status(202)]);
    let output = world.pass(&["cancel", "T"]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.starts_with("held ") && told.contains("`ccl reap` files"), "{told}");
    assert_untouched(&world);
    world.server.merge("job-1", &json!({"status": "canceled"}));
    world.pass(&["reap"]);
    ending(&world, "failed/T.md");
}

#[test]
fn a_job_that_had_ended_is_filed_as_it_ended() {
    let world = delegated();
    world.server.finish("job-1", "All done.", &json!(null));
    world.pass(&["cancel", "T"]);
    assert_eq!(ending(&world, "done/T.md")["outcome"], "done");
    assert!(world.project.read("done/T.md").contains("All done."));
}

#[test]
fn what_secutools_does_not_cancel_goes_on_and_is_filed_later() {
    for (answer, exit, words) in [
        (Step::status(404), 1, ["answered 404", "no way to cancel"]),
        (Step::status(405), 1, ["answered 405", "no way to cancel"]),
        (Step::Say(Answer::problem(403, "Forbidden", "read only")), 1, ["read only", "API key"]),
        (Step::status(503), 75, ["answered 503", "`ccl reap` files"]),
        (Step::DropRead { create: false }, 1, ["broke off", "it is not known whether job job-1"]),
    ] {
        let world = delegated();
        world.server.script([answer]);
        assert_refused(&world.run(&["cancel", "T"]), exit, &words);
        assert_untouched(&world);
        world.server.finish("job-1", "All done.", &json!(null));
        world.pass(&["reap"]);
        ending(&world, "done/T.md");
    }
}

#[test]
fn what_secutools_has_refused_for_now_is_withdrawn_without_asking() {
    let world = Binary::new();
    world.project.drop_task("T.md", TASK);
    world.server.otherwise(Step::status(429));
    world.run(&["scan"]);
    assert_untouched(&world);
    let asked = world.server.requests().len();
    world.pass(&["cancel", "T"]);
    assert_eq!(ending(&world, "failed/T.md")["reason"], "cancelled");
    assert_eq!(world.server.requests().len(), asked);
}

/// Nothing would be noted of it, and the next scan would submit the task.
#[test]
fn what_is_open_for_writing_is_not_withdrawn() {
    let world = Binary::new();
    world.project.drop_task("T.md", TASK);
    world.server.otherwise(Step::status(429));
    world.run(&["scan"]);
    let path = world.project.queue("inbox").join("T.md");
    let open = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    let words = ["close it, then cancel it again"];
    assert_refused(&world.run(&["cancel", "T"]), 75, &words);
    assert_untouched(&world);
    drop(open);
    // A program that another test has just started may have it open for a moment.
    let cancel = || world.run(&["cancel", "T"]).status.code() != Some(75);
    wait_until("it is closed", PATIENCE, cancel);
    assert_eq!(ending(&world, "failed/T.md")["reason"], "cancelled");
}

#[test]
fn what_secutools_may_have_taken_is_not_withdrawn() {
    let world = Binary::new();
    world.project.drop_task("T.md", TASK);
    world.server.otherwise(Step::DropRead { create: true });
    world.run(&["scan"]);
    let words = ["idempotency key", "`ccl scan` asks again"];
    assert_refused(&world.run(&["cancel", "T"]), 1, &words);
    assert_untouched(&world);
}

#[test]
fn a_server_that_is_away_is_a_matter_of_time() {
    let mut world = delegated();
    world.sandbox.env("SECUTOOLS_URL", "http://127.0.0.1:1");
    assert_refused(&world.run(&["cancel", "T"]), 75, &["could not be reached", "job-1"]);
    assert_untouched(&world);
}

#[test]
fn a_task_whose_file_was_deleted_can_be_cancelled_all_the_same() {
    for task in ["T", ".agent-queue/inbox/T.md.delegated"] {
        let world = delegated();
        std::fs::remove_file(world.project.queue("inbox").join("T.md")).unwrap();
        let mut ccl = world.sandbox.ccl(["cancel", task]);
        ccl.current_dir(world.project.root()).assert().success();
        assert_eq!(ending(&world, "failed/T.md")["job_id"], "job-1");
    }
}
