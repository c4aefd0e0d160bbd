//! Submissions: every fault has its meaning, and none makes a second job.

use std::time::{Duration, Instant};

use ccl::remote::{Certainty, ErrorKind, Limits, NotAccepted, ServerState};
use serde_json::json;
use uuid::Uuid;

use crate::secutools_server::{Answer, SecutoolsServer, Step};
use crate::{KEY, body, client_with, impatient, limits, meaning};

/// Submits once against a server with these steps.
fn submit(
    steps: impl IntoIterator<Item = Step>,
    limits: Limits,
) -> (Result<String, NotAccepted>, SecutoolsServer) {
    let server = SecutoolsServer::start();
    server.expect_key(KEY);
    server.script(steps);
    let outcome = client_with(&server.url(), limits).submit(&body(), Uuid::new_v4());
    (outcome.map(|accepted| accepted.id.to_string()), server)
}

#[test]
fn a_job_is_submitted_as_the_contract_says() {
    let (outcome, server) = submit([], limits());
    assert_eq!(outcome.unwrap(), "job-1");
    let [request] = &server.requests()[..] else {
        panic!("one request");
    };
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/jobs"));
    assert_eq!(request.body, body());
    assert_eq!(request.header("authorization").unwrap(), format!("Bearer {KEY}"));
    assert_eq!(request.header("content-type").unwrap(), "application/json");
    assert_eq!(request.header("user-agent").unwrap(), concat!("ccl/", env!("CARGO_PKG_VERSION")));
    let key = request.header("idempotency-key").unwrap();
    let uuid = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap();
    Uuid::parse_str(uuid).unwrap();
    assert_eq!(request.header("transfer-encoding"), None);
}

#[test]
fn what_passes_is_retried_with_the_same_bytes_and_key_and_comes_to_one_job() {
    for fault in [
        Step::DropUnread,
        Step::DropRead { create: false },
        Step::DropRead { create: true },
        Step::HalfHead,
        Step::HalfBody,
        Step::Raw(b"nonsense\r\n\r\n".to_vec()),
        Step::Raw(b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec()),
        Step::status(408),
        Step::status(409),
        Step::status(425),
        Step::status(429),
        Step::status(500),
        Step::status(502),
        Step::status(503),
        Step::status(504),
        Step::CreateAndSay(Answer::new(500, "after all")),
        Step::CreateAndSay(Answer::new(202, "")),
        Step::later(503, "soon"),
    ] {
        let (outcome, server) = submit([fault.clone(), fault.clone()], limits());
        assert_eq!(outcome.unwrap(), "job-1", "{fault:?}");
        assert_eq!(server.jobs().len(), 1, "{fault:?}");
        let requests = server.requests();
        let unread = if matches!(fault, Step::DropUnread) { 2 } else { 0 };
        assert_eq!(requests.len() + unread, 3, "{fault:?}");
        for request in &requests {
            assert_eq!(request.body, body(), "{fault:?}");
            assert_eq!(request.header("idempotency-key"), requests[0].header("idempotency-key"));
        }
    }
}

/// What a fault that does not go away means, how many requests it takes, and what is said.
#[test]
fn every_lasting_fault_has_its_meaning() {
    use Certainty::{Ambiguous, Later, Refused};
    let problem = Answer::problem(422, "Bad provider", "no\nsuch \u{1b}[2Jthing");
    let redirect = Answer::new(307, "").header("Location", "http://127.0.0.1:9/x");
    let huge = Answer::new(202, vec![b' '; 20 << 20]);
    let huge_error = Answer::new(422, vec![b'x'; 20 << 20]);
    let odd_id = Answer::json(202, &json!({"id": "../../etc", "status": "queued"}));
    for (fault, meaning, tries, said) in [
        (Step::DropRead { create: false }, Ambiguous, 3, "broke off"),
        (Step::DropRead { create: true }, Ambiguous, 3, "broke off"),
        (Step::HalfHead, Ambiguous, 3, "broke off"),
        (Step::HalfBody, Ambiguous, 3, "broke off"),
        (Step::Raw(b"SSH-2.0-x\r\n\r\n".to_vec()), Ambiguous, 3, "HTTP/1.1"),
        (Step::Say(huge), Ambiguous, 3, "more than 8 MiB"),
        (Step::Say(odd_id), Ambiguous, 3, "answered 202 without a usable job id"),
        (Step::Say(Answer::html(200, "Welcome")), Ambiguous, 3, "without a usable job id"),
        (Step::status(204), Ambiguous, 3, "answered 204 without a usable job id"),
        (Step::status(409), Ambiguous, 3, "answered 409"),
        (Step::Silence { create: false }, Ambiguous, 1, "did not answer within 300ms"),
        (Step::Silence { create: true }, Ambiguous, 1, "did not answer within 300ms"),
        (Step::Drip, Ambiguous, 1, "did not answer within 300ms"),
        (Step::status(408), Later, 3, "answered 408"),
        (Step::status(425), Later, 3, "answered 425"),
        (Step::status(429), Later, 3, "answered 429"),
        (Step::Say(Answer::html(503, "Down")), Later, 3, "answered 503: <html><head><title>Down"),
        (Step::status(500), Ambiguous, 3, "answered 500"),
        (Step::status(502), Ambiguous, 3, "answered 502"),
        (Step::status(504), Ambiguous, 3, "answered 504"),
        (Step::Say(problem), Refused, 1, r"answered 422: Bad provider: no such \u{1b}[2Jthing"),
        (
            Step::Say(Answer::html(400, "Bad <Request>")),
            Refused,
            1,
            "answered 400: <html><head><title>Bad",
        ),
        (Step::Say(huge_error), Refused, 1, "answered 422: xxx"),
        (Step::status(404), Refused, 1, "answered 404"),
        (
            Step::Say(redirect),
            Refused,
            1,
            "a redirect to http://127.0.0.1:9/x, which is not followed",
        ),
    ] {
        let server = SecutoolsServer::start();
        server.otherwise(fault.clone());
        let silent = matches!(fault, Step::Silence { .. } | Step::Drip);
        let limits = if silent { impatient() } else { limits() };
        let error = client_with(&server.url(), limits).submit(&body(), Uuid::new_v4()).unwrap_err();
        let name = format!("{error:?}").chars().take(400).collect::<String>();
        assert_eq!(error.certainty, meaning, "{name}");
        assert_eq!(server.requests().len(), tries, "{name}");
        assert!(error.error.text.contains(said), "{name}");
        assert!(error.error.text.starts_with(&format!("secutools at {}", server.url())), "{name}");
        let state = if silent { ServerState::Silent } else { ServerState::Answering };
        assert_eq!(error.error.kind.server_state(), state, "{name}");
    }
}

#[test]
fn what_an_earlier_try_left_open_a_later_answer_does_not_decide() {
    let server_error = || Step::status(503);
    let lost = || Step::DropRead { create: true };
    let no = || Step::status(422);
    let silence = || Step::Silence { create: false };
    for (steps, certainty, state) in [
        (vec![lost(), no()], Certainty::Ambiguous, ServerState::Answering),
        (
            vec![lost(), server_error(), server_error()],
            Certainty::Ambiguous,
            ServerState::Answering,
        ),
        (vec![server_error(), no()], Certainty::Ambiguous, ServerState::Answering),
        (vec![server_error(), Step::status(401)], Certainty::Ambiguous, ServerState::Unauthorized),
        (vec![server_error(), silence()], Certainty::Ambiguous, ServerState::Silent),
    ] {
        let limits = match state {
            ServerState::Silent => {
                Limits { answer: Duration::from_millis(300), tries: 2, ..limits() }
            }
            _ => limits(),
        };
        let requests = steps.len();
        let (outcome, server) = submit(steps, limits);
        let error = outcome.unwrap_err();
        assert_eq!(meaning(&error), (certainty, state), "{error:?}");
        assert_eq!(server.requests().len(), requests);
        assert!(error.error.text.contains("before that"), "{error:?}");
    }
}

#[test]
fn retry_after_is_kept_to_or_reported() {
    let far = "Fri, 31 Dec 2100 00:00:00 GMT";
    for (value, seconds) in [("7", 7), ("0", 1), ("999999", 3600), (far, 3600)] {
        // Too short for another try, and long enough for a busy machine to connect.
        let limits = Limits { retrying: Duration::from_millis(300), ..limits() };
        let (outcome, server) = submit([Step::later(429, value)], limits);
        let error = outcome.unwrap_err();
        assert_eq!(
            (error.certainty, error.error.kind),
            (Certainty::Later, ErrorKind::Busy),
            "{value}"
        );
        assert_eq!(error.error.retry_after, Some(Duration::from_secs(seconds)), "{value}");
        assert_eq!(server.requests().len(), 1, "{value}: it is too far off for this pass");
    }
}

#[test]
fn a_short_retry_after_is_waited_for() {
    let server = SecutoolsServer::start();
    server.expect_key(KEY);
    server.script([Step::later(503, "1")]);
    let start = Instant::now();
    client_with(&server.url(), limits()).submit(&body(), Uuid::new_v4()).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
}
