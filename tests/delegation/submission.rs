//! One submission: what is sent, what is written, and what every fault of the server comes to.

use std::fs;
use std::time::{Duration, Instant};

use ccl::remote::DelegationPhase;
use serde_json::{Value, json};

use crate::secutools_server::{Answer, Step};
use crate::world::{KEY, TASK, World, at, is_about};

#[test]
fn an_accepted_task_stays_in_the_inbox_beside_its_marker() {
    let world = World::new();
    assert_eq!(world.scan_one(at(0)).0, "delegated");
    assert_eq!(world.files(), ["inbox/T.md", "inbox/T.md.delegated"]);
    assert_eq!(world.read("inbox/T.md"), TASK);
    let marker = world.marker("T.md");
    assert_eq!((marker.stamp.version, marker.stamp.host.as_str()), (1, "box"));
    assert!(is_about(marker.started_at, at(0)), "{marker:?}");
    assert!(
        matches!(&marker.phase, DelegationPhase::Submitted { job_id, .. } if job_id.as_str() == "job-1")
    );
    let [job] = &world.server.jobs()[..] else { panic!("one job") };
    assert_eq!(job.key, format!("\"{}\"", marker.key));
    assert_eq!(
        serde_json::from_slice::<Value>(&job.body).unwrap(),
        json!({
            "provider": "gpu",
            "priority": "default",
            "input": {"prompt": "Do it.", "title": "It"},
            "metadata": {"task": "T.md", "project": "app", "host": "box", "tags": []},
        })
    );
    let log = world.log();
    assert!(log.contains("DELEGATED task=T.md provider=gpu job=job-1 rule=preferred-ai"), "{log}");
    // Later passes have nothing to do with it.
    assert_eq!(world.scan_one(at(60)).0, "nothing");
    assert_eq!(world.server.requests().len(), 1);
}

#[test]
fn a_task_of_a_title_only_is_asked_for_by_its_title() {
    let world = World::empty();
    let header = "---\nallow_delegation: true\npreferred_ai: gpu\n";
    world.put("a.md", &format!("{header}title: Sum up\n---\n"));
    world.put("b.md", &format!("{header}---\n"));
    world.scan(at(0));
    let prompts: Vec<Value> = world
        .server
        .jobs()
        .iter()
        .map(|job| serde_json::from_slice::<Value>(&job.body).unwrap()["input"].clone())
        .collect();
    assert_eq!(prompts[0], json!({"prompt": "Sum up", "title": "Sum up"}));
    assert_eq!(prompts[1], json!({"prompt": "b", "title": "b"}));
}

/// A fault that stays: what becomes of the task, and a word that has to be said about it.
fn lasting_faults() -> Vec<(Step, &'static str, &'static str)> {
    let redirect = Answer::new(307, "").header("Location", "http://127.0.0.1:9/x");
    let odd_id = Answer::json(202, &json!({"id": "../../etc", "status": "queued"}));
    vec![
        (Step::DropUnread, "held", "broke off"),
        (Step::DropRead { create: false }, "held", "broke off"),
        (Step::DropRead { create: true }, "held", "broke off"),
        (Step::HalfHead, "held", "broke off"),
        (Step::HalfBody, "held", "broke off"),
        (Step::Silence { create: false }, "held", "did not answer"),
        (Step::Silence { create: true }, "held", "did not answer"),
        (Step::Drip, "held", "did not answer"),
        (Step::Raw(b"nonsense\r\n\r\n".to_vec()), "held", "HTTP/1.1"),
        (Step::status(408), "held", "408"),
        (Step::status(409), "held", "409"),
        (Step::later(425, "1"), "held", "425"),
        (Step::later(429, "Fri, 31 Dec 2100 00:00:00 GMT"), "held", "429"),
        (Step::later(429, "9999"), "held", "429"),
        (Step::later(503, "soon"), "held", "503"),
        (Step::status(500), "held", "500"),
        (Step::CreateAndSay(Answer::new(500, "after all")), "held", "after all"),
        (Step::CreateAndSay(Answer::html(502, "Bad Gateway")), "held", "Bad Gateway"),
        (Step::CreateAndSay(odd_id), "held", "without a usable job id"),
        (Step::CreateAndSay(Answer::new(202, vec![b' '; 20 << 20])), "held", "8 MiB"),
        (Step::Say(Answer::html(200, "Welcome")), "held", "without a usable job id"),
        (Step::status(401), "local", "401"),
        (Step::status(403), "local", "403"),
        (Step::status(404), "local", "404"),
        (Step::Say(Answer::problem(422, "No such provider", "gpu")), "local", "No such provider"),
        (Step::Say(Answer::html(400, "Bad Request")), "local", "Bad Request"),
        (Step::Say(Answer::new(413, vec![b'x'; 20 << 20])), "local", "413"),
        (Step::Say(redirect), "local", "not followed"),
    ]
}

#[test]
fn every_lasting_fault_has_its_end_in_bounded_time_and_a_word() {
    for (fault, end, word) in lasting_faults() {
        let name: String = format!("{fault:?}").chars().take(100).collect();
        let world = World::new();
        world.break_server(&fault);
        let start = Instant::now();
        let (said, reason) = world.scan_one(at(0));
        assert!(start.elapsed() < Duration::from_secs(15), "{name}");
        assert_eq!(said, end, "{name}: {reason}");
        assert!(reason.contains(word), "{name}: {reason}");
        assert!(end == "local" || world.log().contains(word), "{name}: {}", world.log());
        let files = match end {
            "local" => vec!["inbox/T.md"],
            _ => vec!["inbox/T.md", "inbox/T.md.delegated"],
        };
        assert_eq!(world.files(), files, "{name}");
        assert_eq!(world.read("inbox/T.md"), TASK, "{name}");
        assert!(world.server.jobs().len() <= usize::from(end == "held"), "{name}");
    }
}

#[test]
fn when_a_fault_has_passed_there_is_one_job_and_the_task_is_done() {
    for (fault, end, _) in lasting_faults() {
        let name: String = format!("{fault:?}").chars().take(100).collect();
        let world = World::new();
        world.break_server(&fault);
        world.scan(at(0));
        // Dropped or edited: what was sent goes on being sent.
        if end == "held" {
            world.put("T.md", "something else");
        }
        world.mend_server();
        assert_eq!(world.scan(at(3601))[0].0, "delegated", "{name}");
        assert_eq!(world.server.jobs().len(), 1, "{name}");
        let posts: Vec<_> = world
            .server
            .requests()
            .into_iter()
            .map(|request| (request.header("idempotency-key").map(str::to_owned), request.body))
            .collect();
        if end == "held" {
            assert!(posts.iter().all(|post| *post == posts[0]), "{name}");
        }
        world.server.finish("job-1", "All good.", &Value::Null);
        assert_eq!(world.reap_one(at(3700)).0, "done", "{name}");
        let done = world.read("done/T.md");
        assert!(done.starts_with(TASK), "{name}: {done}");
    }
}

#[test]
fn a_fault_that_passes_within_the_pass_is_not_even_noticed() {
    for (fault, end, _) in lasting_faults() {
        if end == "local" || matches!(fault, Step::Silence { .. } | Step::Drip) {
            continue;
        }
        let name: String = format!("{fault:?}").chars().take(100).collect();
        let world = World::new();
        if name.contains("Retry-After") && !name.contains("soon") {
            continue;
        }
        world.server.script([fault]);
        assert_eq!(world.scan_one(at(0)).0, "delegated", "{name}");
        assert_eq!(world.server.jobs().len(), 1, "{name}");
    }
}

#[test]
fn nothing_is_submitted_on_the_strength_of_an_unreadable_marker() {
    let world = World::new();
    for text in ["", "{", r#"{"version":2}"#, r#"{"version":1,"phase":"submitting"}"#] {
        fs::write(world.path("inbox/T.md.delegated"), text).unwrap();
        let (said, reason) = world.scan_one(at(0));
        assert_eq!(said, "error");
        assert!(reason.contains("T.md.delegated is left alone"), "{reason}");
        assert_eq!(world.reap_one(at(0)).0, "error");
        assert_eq!(world.read("inbox/T.md.delegated"), text);
    }
    assert!(world.server.requests().is_empty());
}

#[test]
fn a_task_that_changed_since_it_was_read_is_not_submitted() {
    let world = World::new();
    let submissions = world.submissions();
    // The router allowed what is not there any more.
    world.put("T.md", "Keep this at home.");
    let outcomes = world.pass(at(0), |delegation| delegation.submit(submissions));
    assert_eq!(crate::world::said(&outcomes)[0].0, "nothing");
    assert_eq!(world.files(), ["inbox/T.md"]);
    assert!(world.server.requests().is_empty());
}

#[test]
fn a_task_whose_name_is_at_work_is_not_submitted() {
    let world = World::new();
    fs::write(world.path("inbox/T.md.dispatched"), "the old one").unwrap();
    let submissions = {
        fs::remove_file(world.path("inbox/T.md.dispatched")).unwrap();
        let submissions = world.submissions();
        fs::write(world.path("inbox/T.md.dispatched"), "the old one").unwrap();
        submissions
    };
    let outcomes = world.pass(at(0), |delegation| delegation.submit(submissions));
    assert_eq!(crate::world::said(&outcomes)[0].0, "nothing");
    assert!(world.server.requests().is_empty());
}

#[test]
fn the_key_is_nowhere() {
    for status in [200, 401, 422, 500] {
        let world = World::new();
        world.server.otherwise(Step::Echo(status));
        let (_, reason) = world.scan_one(at(0));
        assert!(!reason.contains(KEY), "{reason}");
        assert!(!world.log().contains(KEY), "{}", world.log());
        for file in world.files() {
            assert!(!world.read(&file).contains(KEY), "{file}");
        }
    }
}
