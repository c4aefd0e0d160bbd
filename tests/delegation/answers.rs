//! What the server says about a job, and what it comes to.

use serde_json::{Value, json};

use crate::secutools_server::{Answer, Step};
use crate::world::{TASK, World, at, is_about};

/// A world whose task is job-1.
fn delegated() -> World {
    let world = World::new();
    assert_eq!(world.scan_one(at(0)).0, "delegated");
    world
}

#[test]
fn a_job_that_goes_on_is_left_alone_whatever_its_word() {
    let world = delegated();
    for word in ["queued", "PENDING", "running", "in_progress", "processing"] {
        world.server.merge("job-1", &json!({"status": word}));
        assert_eq!(world.reap_one(at(60)).0, "nothing", "{word}");
    }
    assert!(!world.log().contains("warning"), "{}", world.log());
    world.server.merge("job-1", &json!({"status": "half\u{1b}[2Jdone"}));
    assert_eq!(world.reap_one(at(60)).0, "nothing");
    let log = world.log();
    assert!(
        log.contains(r"job job-1 has the status `half\u{1b}[2Jdone`, which this ccl does not know"),
        "{log}"
    );
    assert_eq!(world.files(), ["inbox/T.md", "inbox/T.md.delegated"]);
}

#[test]
fn every_way_to_end_has_its_folder_and_reason() {
    for (word, folder, reason) in [
        ("succeeded", "done", ""),
        ("Completed", "done", ""),
        ("done", "done", ""),
        ("failed", "failed", "secutools: job failed: Out of memory: 40 GiB"),
        ("error", "failed", "secutools: job failed: Out of memory: 40 GiB"),
        ("cancelled", "failed", "secutools: job cancelled: Out of memory: 40 GiB"),
        ("canceled", "failed", "secutools: job cancelled: Out of memory: 40 GiB"),
        ("expired", "failed", "secutools: job expired: Out of memory: 40 GiB"),
        ("timed_out", "failed", "secutools: job expired: Out of memory: 40 GiB"),
    ] {
        let world = delegated();
        let error = match folder {
            "failed" => json!({"title": "Out of memory", "detail": "40 GiB"}),
            _ => Value::Null,
        };
        world.server.merge("job-1", &json!({"status": word, "error": error}));
        assert_eq!(world.reap_one(at(75)), (folder.to_owned(), reason.to_owned()));
        let file = format!("{folder}/T.md");
        assert_eq!(world.files(), [file.as_str()], "{word}");
        assert!(world.read(&file).starts_with(TASK), "{word}");
        let ending = world.ending(&file);
        assert_eq!(ending.job_id.as_deref(), Some("job-1"));
        assert_eq!(ending.reason.as_deref().unwrap_or_default(), reason);
        assert_eq!(ending.attempt, 1);
        assert!(is_about(ending.started_at.unwrap(), at(0)), "{ending:?}");
        assert!(is_about(ending.ended_at.unwrap(), at(75)), "{ending:?}");
    }
}

#[test]
fn a_done_task_holds_the_result_and_one_line_for_people() {
    let world = delegated();
    let cost = json!({"amount": "0.0123", "currency": "USD"});
    world.server.finish("job-1", "# Good\n\nIt is **done**.\n", &cost);
    world.reap(at(75));
    let done = world.read("done/T.md");
    let (text, last) = done.trim_end().rsplit_once('\n').unwrap();
    let (text, footer) = text.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(text, format!("{TASK}\n## Result\n\n# Good\n\nIt is **done**.\n"));
    assert!(footer.starts_with("*gpu · 1m 1"), "{footer}");
    assert!(footer.ends_with("s · 0.0123 USD · job job-1*"), "{footer}");
    assert!(last.starts_with("<!-- ccl {"), "{last}");
}

#[test]
fn every_form_of_cost_is_kept_exactly_and_unknown_stays_unknown() {
    for (cost, text) in [
        (json!({"amount": "0.10", "currency": "USD"}), "0.1 USD"),
        (json!({"amount": 0.3, "currency": "eur"}), "0.3 EUR"),
        (json!(12), "12 (currency unknown)"),
        (json!("0.5 GBP"), "0.5 GBP"),
        (json!(0), "0 (currency unknown)"),
        (json!("free"), "cost unknown"),
        (json!(-1), "cost unknown"),
        (Value::Null, "cost unknown"),
    ] {
        let world = delegated();
        world.server.finish("job-1", "ok", &cost);
        world.reap(at(1));
        let done = world.read("done/T.md");
        assert!(done.contains(&format!(" · {text} · ")), "{cost}: {done}");
        let noted = world.ending("done/T.md").cost.map(|cost| cost.to_string());
        assert_eq!(noted.unwrap_or("cost unknown".to_owned()), text);
    }
}

#[test]
fn a_result_cannot_forge_an_ending_or_reach_the_terminal() {
    let world = delegated();
    let forged = r#"<!-- ccl {"run":"00000000-0000-0000-0000-000000000000","outcome":"failed","attempt":9} -->"#;
    let output = format!("ok \u{1b}]0;x\u{7}\n{forged}");
    world.server.merge(
        "job-1",
        &json!({"status": "succeeded", "provider": "evil\n<!-- ccl {} -->\u{1b}[2J", "result": {"output": output}}),
    );
    assert_eq!(world.reap_one(at(1)).0, "done");
    let done = world.read("done/T.md");
    assert!(done.contains(&output), "the result is kept as it is");
    assert_eq!(world.ending("done/T.md").job_id.as_deref(), Some("job-1"));
    assert!(done.contains(r"*evil <!-- ccl {} -->\u{1b}[2J · "), "{done}");
    assert!(!world.log().contains('\u{1b}'), "{}", world.log());

    let world = delegated();
    world.server.fail("job-1", "no\n-->\u{1b}[2J", forged);
    let (said, reason) = world.reap_one(at(1));
    assert_eq!(said, "failed");
    assert!(!reason.contains(['\u{1b}', '\n']), "{reason}");
    assert!(!world.log().contains('\u{1b}'), "{}", world.log());
    let ending = world.ending("failed/T.md");
    assert_eq!((ending.attempt, ending.job_id.as_deref()), (1, Some("job-1")));
}

#[test]
fn no_output_is_said_and_partial_output_is_kept() {
    let world = delegated();
    world.server.merge("job-1", &json!({"status": "succeeded"}));
    world.reap(at(1));
    assert!(world.read("done/T.md").contains("secutools returned no output"));

    let world = delegated();
    world.server.merge("job-1", &json!({"status": "failed", "result": {"output": "half of it"}}));
    let (_, reason) = world.reap_one(at(1));
    assert_eq!(reason, "secutools: job failed, without a reason");
    assert!(world.read("failed/T.md").contains("## Result\n\nhalf of it\n"));
}

#[test]
fn a_job_that_nobody_knows_is_given_up_at_the_second_denial() {
    let world = delegated();
    world.server.forget("job-1");
    assert_eq!(world.reap_one(at(60)).0, "nothing");
    assert!(world.log().contains("if that stays so, the task is given up"));
    assert_eq!(world.reap_one(at(100)).0, "nothing", "less than a minute");
    let (said, reason) = world.reap_one(at(180));
    assert_eq!(said, "failed");
    assert!(reason.contains("does not know the job"), "{reason}");
    assert_eq!(world.files(), ["failed/T.md"]);
}

#[test]
fn a_denial_in_between_is_forgotten_when_the_job_is_known_again() {
    let world = delegated();
    world.server.script([Step::status(404), Step::Behave, Step::status(404)]);
    for minute in 1..=3 {
        assert_eq!(world.reap_one(at(minute * 300)).0, "nothing", "{minute}");
    }
    assert_eq!(world.files(), ["inbox/T.md", "inbox/T.md.delegated"]);
}

#[test]
fn a_poll_that_goes_wrong_loses_nothing_and_is_reported() {
    let other = Answer::json(200, &json!({"id": "job-2", "status": "succeeded"}));
    let redirect = Answer::new(302, "").header("Location", "http://127.0.0.1:9/x");
    for (fault, word) in [
        (Step::DropUnread, "broke off"),
        (Step::DropRead { create: false }, "broke off"),
        (Step::HalfHead, "broke off"),
        (Step::HalfBody, "broke off"),
        (Step::Silence { create: false }, "did not answer"),
        (Step::Drip, "did not answer"),
        (Step::Raw(b"\x00\x01\r\n\r\n".to_vec()), "HTTP/1.1"),
        (Step::Say(Answer::new(200, vec![b'{'; 20 << 20])), "8 MiB"),
        (Step::Say(Answer::html(200, "Welcome")), "no JSON object"),
        (Step::Say(Answer::new(200, "{}")), "a job without a status"),
        (Step::Say(other), "another job"),
        (Step::Say(redirect), "not followed"),
        (Step::later(429, "7"), "429"),
        (Step::status(409), "409"),
        (Step::status(500), "500"),
        (Step::Say(Answer::html(503, "Down")), "Down"),
        (Step::status(401), "check the secutools API key"),
    ] {
        let name: String = format!("{fault:?}").chars().take(100).collect();
        let world = delegated();
        world.server.finish("job-1", "ok", &Value::Null);
        world.break_server(&fault);
        assert_eq!(world.reap_one(at(60)).0, "nothing", "{name}");
        assert!(world.log().contains(word), "{name}: {}", world.log());
        assert_eq!(world.files(), ["inbox/T.md", "inbox/T.md.delegated"], "{name}");
        world.mend_server();
        assert_eq!(world.reap_one(at(120)).0, "done", "{name}");
        assert_eq!(world.server.jobs().len(), 1, "{name}");
    }
}

#[test]
fn a_job_whose_answer_stays_too_long_is_given_up_with_the_way_to_read_it() {
    let world = delegated();
    world.server.finish("job-1", &"x".repeat(9 << 20), &Value::Null);
    for (seconds, said) in [(60, "nothing"), (90, "nothing"), (180, "failed")] {
        assert_eq!(world.reap_one(at(seconds)).0, said, "{seconds}");
    }
    assert_eq!(world.files(), ["failed/T.md"]);
    let reason = world.ending("failed/T.md").reason.unwrap();
    assert!(reason.contains("answered with more than 8 MiB"), "{reason}");
    assert!(reason.contains("`ccl job result job-1`"), "{reason}");
    // Each look was one request.
    assert_eq!(world.server.requests().len(), 4);
}

#[test]
fn a_dry_run_asks_and_changes_nothing() {
    let world = delegated();
    world.server.finish("job-1", "ok", &Value::Null);
    let before = world.read("inbox/T.md.delegated");
    let outcomes = world.dry_run(at(60), |delegation| delegation.poll(world.delegated()));
    assert_eq!(crate::world::said(&outcomes)[0].0, "done");
    assert_eq!(world.files(), ["inbox/T.md", "inbox/T.md.delegated"]);
    assert_eq!(world.read("inbox/T.md.delegated"), before);
    assert!(world.server.requests().iter().skip(1).all(|r| r.method == "GET"));
}
