//! A task that is not accepted at once: what happens to it over many passes.

use std::thread;

use ccl::remote::DelegationPhase;
use serde_json::Value;

use crate::secutools_server::{Answer, Step};
use crate::world::{TASK, World, at, said};

/// Makes a pass every minute until something else than waiting happens; when, and what.
fn until_decided(world: &World) -> (i64, String, String) {
    for minute in 0..600 {
        let (said, reason) = world.scan_one(at(minute * 60));
        if said != "held" && said != "nothing" {
            return (minute, said, reason);
        }
    }
    panic!("no end after ten hours");
}

#[test]
fn what_was_never_ambiguous_runs_here_after_an_hour() {
    for status in [408, 425, 429, 503] {
        let world = World::new();
        world.server.otherwise(Step::status(status));
        let (minute, said, reason) = until_decided(&world);
        assert_eq!(said, "local", "{status}: {reason}");
        assert!((60..=70).contains(&minute), "{status}: {minute}");
        assert!(reason.contains(&status.to_string()), "{reason}");
        assert_eq!(world.files(), ["inbox/T.md"]);
        assert!(world.server.jobs().is_empty());
    }
}

#[test]
fn a_dry_run_names_what_is_due_again_and_says_nothing_to_the_server() {
    let world = World::new();
    world.server.otherwise(Step::later(503, "60"));
    assert_eq!(world.scan_one(at(0)).0, "held");
    let (before, asked) = (world.read("inbox/T.md.delegated"), world.server.requests());
    let dry_run = |seconds| {
        let outcomes =
            world.dry_run(at(seconds), |delegation| delegation.resume(world.delegated()));
        said(&outcomes).remove(0)
    };
    assert_eq!(dry_run(30).0, "nothing");
    let due = ("delegated".to_owned(), "preferred-ai, begun by an earlier pass".to_owned());
    assert_eq!(dry_run(90), due);
    // The key is too old to be sent again.
    assert_eq!(dry_run(25 * 3600), ("local".to_owned(), "it was not sent again".to_owned()));
    assert_eq!(world.read("inbox/T.md.delegated"), before);
    assert_eq!(world.server.requests().len(), asked.len());
}

#[test]
fn a_dry_run_says_what_would_be_given_up() {
    let world = World::new();
    world.server.otherwise(Step::status(500));
    assert_eq!(world.scan_one(at(0)).0, "held");
    let before = world.read("inbox/T.md.delegated");
    let outcomes = world.dry_run(at(25 * 3600), |delegation| delegation.resume(world.delegated()));
    let (word, reason) = said(&outcomes).remove(0);
    assert_eq!(word, "failed");
    assert!(reason.contains("outcome unknown"), "{reason}");
    assert_eq!(world.read("inbox/T.md.delegated"), before);
    assert_eq!(world.files(), ["inbox/T.md", "inbox/T.md.delegated"]);
}

#[test]
fn what_was_ambiguous_once_is_given_up_after_an_hour_and_never_runs_here() {
    let lost = || Step::DropRead { create: true };
    let mut histories =
        vec![(vec![], Step::status(500)), (vec![], Step::status(409)), (vec![], lost())];
    // Whatever is said later, the first try may have made a job.
    for later in [Step::status(422), Step::status(401), Step::status(503)] {
        histories.push((vec![lost(), lost(), lost()], later));
    }
    histories.push((vec![Step::status(503)], Step::status(422)));
    for (script, otherwise) in histories {
        let name = format!("{script:?} {otherwise:?}");
        let world = World::new();
        world.server.script(script);
        world.server.otherwise(otherwise);
        let (minute, said, reason) = until_decided(&world);
        assert_eq!(said, "failed", "{name}");
        assert!((60..=70).contains(&minute), "{name}: {minute}");
        assert!(reason.starts_with("outcome unknown"), "{name}: {reason}");
        assert_eq!(world.files(), ["failed/T.md"], "{name}");
        let failed = world.read("failed/T.md");
        assert!(failed.starts_with(TASK), "{name}");
        let requests = world.server.requests();
        let key = requests[0].header("idempotency-key").unwrap();
        assert!(failed.contains(key.trim_matches('"')), "{name}: {failed}");
        let keys = requests.iter().map(|r| r.header("idempotency-key").unwrap());
        assert!(keys.into_iter().all(|other| other == key), "{name}");
    }
}

#[test]
fn an_unreachable_server_does_not_make_an_ambiguous_task_run_here() {
    let world = World::new();
    world.break_server(&Step::Silence { create: true });
    assert_eq!(world.scan_one(at(0)).0, "held");
    let world = world.without_server();
    let (minute, said, _) = until_decided(&world);
    assert_eq!(said, "failed");
    assert!((60..=70).contains(&minute), "{minute}");
}

#[test]
fn few_tries_are_not_enough_to_give_up_but_a_key_is_not_sent_after_a_day() {
    let world = World::new();
    world.server.otherwise(Step::status(500));
    assert_eq!(world.scan_one(at(0)).0, "held");
    assert_eq!(world.scan_one(at(2 * 3600)).0, "held");
    let requests = world.server.requests().len();
    world.server.otherwise(Step::Behave);
    let (said, reason) = world.scan_one(at(24 * 3600 + 1));
    assert_eq!(said, "failed", "{reason}");
    assert!(reason.starts_with("outcome unknown"), "{reason}");
    assert_eq!(world.server.requests().len(), requests);
}

#[test]
fn a_retry_waits_for_what_the_server_asked_for() {
    for (value, seconds) in [("120", 120), ("1", 1), ("99999", 3600)] {
        let world = World::new();
        world.server.script([Step::later(429, value)]);
        if value == "1" {
            // So short a wait is spent within the pass.
            assert_eq!(world.scan_one(at(0)).0, "delegated");
            continue;
        }
        let (said, reason) = world.scan_one(at(0));
        assert_eq!(said, "held");
        assert!(reason.contains("submitted again in"), "{reason}");
        assert_eq!(world.scan_one(at(seconds - 10)).0, "nothing");
        assert_eq!(world.server.requests().len(), 1);
        assert_eq!(world.scan_one(at(seconds + 60)).0, "delegated");
    }
}

#[test]
fn without_a_wish_the_pause_doubles_from_one_minute_to_ten() {
    let world = World::new();
    world.server.otherwise(Step::status(503));
    // Every 70 s: no pass is within ten seconds of the moment that decides.
    let is_tried = |pass: &i64| world.scan_one(at(pass * 70)).0 == "held";
    let tried: Vec<i64> = (0..30).filter(is_tried).collect();
    assert_eq!(tried, [0, 1, 3, 7, 14, 23]);
}

#[test]
fn a_clock_that_was_set_back_does_not_hold_a_task_for_ever() {
    let world = World::new();
    world.server.script([Step::status(503), Step::status(503), Step::status(503)]);
    assert_eq!(world.scan_one(at(10_000_000)).0, "held");
    assert_eq!(world.scan_one(at(0)).0, "delegated");
}

#[test]
fn while_a_retry_is_under_way_the_marker_says_that_a_job_may_exist() {
    let world = World::new();
    world.server.script([Step::status(503), Step::status(503), Step::status(503)]);
    world.scan(at(0));
    let is_ambiguous = || match world.marker("T.md").phase {
        DelegationPhase::Submitting { ambiguous, .. } => ambiguous,
        DelegationPhase::Submitted { .. } => panic!("nobody has accepted it"),
    };
    assert!(!is_ambiguous());
    let before = world.server.requests().len();
    world.break_server(&Step::Silence { create: true });
    thread::scope(|scope| {
        let pass = scope.spawn(|| world.scan_one(at(120)));
        while world.server.requests().len() == before {
            assert!(!pass.is_finished(), "no request was made");
            thread::yield_now();
        }
        // Were the pass killed here, nothing but the marker would know.
        assert!(is_ambiguous());
        assert_eq!(pass.join().unwrap().0, "held");
    });
    assert!(is_ambiguous());
    assert_eq!(world.server.jobs().len(), 1);
}

#[test]
fn a_submission_that_was_killed_is_repeated_at_once_with_the_same_key() {
    // Before anything was sent, and after the job was made.
    for sent in [false, true] {
        let world = World::new();
        if sent {
            world.break_server(&Step::Silence { create: true });
        } else {
            world.break_server(&Step::DropUnread);
        }
        world.scan(at(0));
        // What the marker held before the pass could write down what came of it.
        let mut marker = world.marker("T.md");
        if let DelegationPhase::Submitting { tries, not_before, reason, .. } = &mut marker.phase {
            (*tries, *not_before, *reason) = (0, None, None);
        }
        let path = world.path("inbox/T.md.delegated");
        std::fs::write(&path, serde_json::to_vec(&marker).unwrap()).unwrap();
        world.mend_server();
        assert_eq!(world.scan_one(at(1)).0, "delegated");
        let jobs = world.server.jobs();
        assert_eq!(jobs.len(), 1);
        assert_eq!(jobs[0].key, format!("\"{}\"", marker.key));
    }
}

#[test]
fn a_task_that_was_deleted_while_it_was_submitted_comes_back_done() {
    let world = World::new();
    world.server.otherwise(Step::Say(Answer::new(500, "")));
    world.scan(at(0));
    std::fs::remove_file(world.path("inbox/T.md")).unwrap();
    world.server.otherwise(Step::Behave);
    assert_eq!(world.scan_one(at(120)).0, "delegated");
    world.server.finish("job-1", "Good.", &Value::Null);
    assert_eq!(world.reap_one(at(130)).0, "done");
    assert_eq!(world.files(), ["done/T.md"]);
}
