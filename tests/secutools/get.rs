//! Questions about jobs.

use std::time::Duration;

use ccl::remote::ErrorKind::*;
use ccl::remote::{EngineError, Job, JobStatus};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::secutools_server::{Answer, SecutoolsServer, Step};
use crate::{body, client, client_with, id, impatient, limits};

/// Asks once about a job against a server with one lasting step.
fn ask(step: Step) -> (Result<Job, EngineError>, usize) {
    let server = SecutoolsServer::start();
    client(&server).submit(&body(), Uuid::new_v4()).unwrap();
    let limits = match step {
        Step::Silence { .. } => impatient(),
        _ => limits(),
    };
    server.otherwise(step);
    let answer = client_with(&server.url(), limits).get(&id("job-1"));
    (answer, server.requests().len() - 1)
}

#[test]
fn every_fault_of_an_answer_about_a_job_has_its_name() {
    for (step, want, requests) in [
        (Step::status(404), UnknownJob, 1),
        (Step::status(410), UnknownJob, 1),
        (Step::status(401), Unauthorized, 1),
        (Step::status(403), Unauthorized, 1),
        (Step::status(408), Busy, 1),
        (Step::status(409), Failing, 1),
        (Step::status(429), Busy, 1),
        (Step::status(500), Failing, 1),
        (Step::status(503), Busy, 1),
        (Step::Silence { create: false }, Silent, 1),
        (Step::DropRead { create: false }, Garbled, 2),
        (Step::HalfHead, Garbled, 2),
        (Step::HalfBody, Garbled, 2),
        (Step::Raw(b"SSH-2.0-x\r\n\r\n".to_vec()), Garbled, 2),
        (Step::Say(Answer::new(200, vec![b' '; 20 << 20])), TooLong, 1),
        (Step::Say(Answer::html(200, "Welcome")), Garbled, 1),
        (Step::Say(Answer::json(200, &json!({"id": "job-2", "status": "done"}))), Garbled, 1),
        (Step::Say(Answer::json(200, &json!({"id": "job-1"}))), Garbled, 1),
        (Step::status(400), Refused, 1),
    ] {
        let (answer, asked) = ask(step);
        let error = answer.unwrap_err();
        assert_eq!(error.kind, want, "{error:?}");
        assert_eq!(asked, requests, "{error:?}");
    }
    let (answer, _) = ask(Step::later(503, "9"));
    let error = answer.unwrap_err();
    assert_eq!(error.kind, Busy);
    assert_eq!(error.retry_after, Some(Duration::from_secs(9)));
    assert!(error.text.contains("answered 503: busy"), "{error}");
}

#[test]
fn a_finished_job_brings_its_result_untouched_and_its_cost_exactly() {
    let server = SecutoolsServer::start();
    let client = client(&server);
    client.submit(&body(), Uuid::new_v4()).unwrap();
    let output = "\u{1b}[2J\n<!-- ccl {\"outcome\":\"done\"} -->\n";
    for (cost, want) in [
        (json!({"amount": "0.0123", "currency": "USD"}), Some("0.0123 USD")),
        (json!({"amount": 0.5, "currency": "EUR"}), Some("0.5 EUR")),
        (json!(0.25), Some("0.25 (currency unknown)")),
        (json!("1.5 usd"), Some("1.5 USD")),
        (json!("gratis"), None),
        (Value::Null, None),
    ] {
        server.finish("job-1", output, &cost);
        let job = client.get(&id("job-1")).unwrap();
        assert_eq!(job.status, JobStatus::Succeeded);
        assert_eq!(job.output.as_deref(), Some(output));
        assert_eq!(job.cost.map(|cost| cost.to_string()).as_deref(), want, "{cost}");
    }
}

#[test]
fn failures_and_unknown_words_are_reported() {
    let server = SecutoolsServer::start();
    let client = client(&server);
    client.submit(&body(), Uuid::new_v4()).unwrap();
    server.merge("job-1", &json!({"status": "Meditating"}));
    let job = client.get(&id("job-1")).unwrap();
    assert_eq!(job.status, JobStatus::Unknown("Meditating".into()));
    assert!(!job.status.is_final());
    server.fail("job-1", "Out of memory", "40 GiB");
    let job = client.get(&id("job-1")).unwrap();
    assert_eq!(job.status, JobStatus::Failed);
    assert_eq!(job.error.as_deref(), Some("Out of memory: 40 GiB"));
    server.forget("job-1");
    assert_eq!(client.get(&id("job-1")).unwrap_err().kind, UnknownJob);
}
