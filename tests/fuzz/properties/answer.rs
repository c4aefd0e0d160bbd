//! secutools' answers: nothing but a plain yes is one, and the API key is in nothing that is read.

use ccl::money::{Cost, Totals};
use ccl::remote::http::{Reply, retry_after};
use ccl::remote::secutools::answer::Reader;
use ccl::remote::{Accepted, Certainty, EngineError, ErrorKind, Job, JobId, ServerState};
use ccl::task::{Ending, Outcome};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

const KEY: &str = "sk-secret";
const SERVER: &str = "https://secutools.example";

/// All of it, for an answer: the status, header lines, an empty line, the body.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let reply = reply(&text);
    let reader = Reader::new(SERVER, KEY);
    if let Some(wait) = reply.retry_after {
        assert!((1..=3600).contains(&wait.as_secs()) && wait.subsec_nanos() == 0);
    }
    let body: Option<Value> = serde_json::from_str(&reply.body).ok();

    let submission = reader.submission(&reply);
    assert!(!format!("{submission:?}").contains(KEY), "{submission:?}");
    match submission {
        Ok(accepted) => is_a_plain_yes(&accepted, &reply, body.as_ref()),
        Err(error) => a_refusal_means_what_the_contract_says(&error, &reply),
    }
    let id = JobId::try_from("j1".to_owned()).expect("an id");
    let state = reader.job(&reply, &id);
    assert!(!format!("{state:?}").contains(KEY), "{state:?}");
    match state {
        Ok(job) => {
            is_about_the_job(&job, &id, &reply, body.as_ref());
            is_filed_as_it_ended(&job);
        }
        Err(error) => no_answer_is_of_the_right_kind(&error, &reply),
    }
    money(&reply.body);
}

/// What a client has read of an answer.
fn reply(text: &str) -> Reply {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.trim().parse().ok());
    let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let field = |wanted: &str| {
        let found = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| *value)
    };
    let now = Timestamp::from_second(1_795_435_200).expect("a time");
    Reply {
        status: status.filter(|status| (100..=999).contains(status)).unwrap_or(200),
        retry_after: field("Retry-After").and_then(|value| retry_after(value, now)),
        location: field("Location").map(str::to_owned),
        body: body.to_owned(),
    }
}

fn is_success(reply: &Reply) -> bool {
    (200..=299).contains(&reply.status)
}

/// One line of at most 300 characters, with the server's name.
fn is_fit_to_be_shown(text: &str) {
    assert!(text.starts_with("secutools at https://secutools.example"), "{text}");
    assert!(text.chars().count() <= 301, "{text}");
    assert!(!text.contains(char::is_control), "{text}");
    assert!(!text.contains(['\u{2028}', '\u{2029}']), "{text}");
}

fn is_a_plain_yes(accepted: &Accepted, reply: &Reply, body: Option<&Value>) {
    assert!(is_success(reply));
    cannot_lead_elsewhere(&accepted.id);
    // The plain reader refuses a number that no float can hold; ours does not look into it.
    if let Some(body) = body {
        assert_eq!(body["id"].as_str(), Some(accepted.id.as_str()));
    }
}

fn cannot_lead_elsewhere(id: &JobId) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    assert!((1..=128).contains(&id.as_str().len()) && id.as_str().bytes().all(plain));
    assert!(![".", ".."].contains(&id.as_str()));
}

fn a_refusal_means_what_the_contract_says(error: &EngineError, reply: &Reply) {
    is_fit_to_be_shown(&error.text);
    let means = match reply.status {
        408 | 425 | 429 | 503 => Certainty::Later,
        409 => Certainty::Ambiguous,
        300..=499 => Certainty::Refused,
        _ => Certainty::Ambiguous,
    };
    assert_eq!(error.kind.certainty(), means, "{}", reply.status);
    assert_eq!(error.retry_after, reply.retry_after);
    let state = match reply.status {
        401 | 403 => ServerState::Unauthorized,
        _ => ServerState::Answering,
    };
    assert_eq!(error.kind.server_state(), state);
}

fn is_about_the_job(job: &Job, id: &JobId, reply: &Reply, body: Option<&Value>) {
    assert!(is_success(reply));
    assert_eq!(&job.id, id);
    let Some(body) = body else { return };
    let said = body.get("id");
    assert!(said.is_none_or(|said| said.as_str() == Some(id.as_str())));
    let word = body["status"].as_str().expect("a status");
    let is_final = [
        "succeeded",
        "completed",
        "done",
        "failed",
        "error",
        "cancelled",
        "canceled",
        "expired",
        "timed_out",
    ];
    let known = is_final.contains(&word.trim().to_ascii_lowercase().as_str());
    assert_eq!(job.status.is_final(), known, "{word}");
    let result = &body["result"];
    match &result["output"] {
        Value::String(text) if !text.contains(KEY) => {
            assert_eq!(job.output.as_ref(), Some(text));
        }
        Value::Null => assert_eq!(job.output, None),
        _ => assert!(job.output.is_some()),
    }
    if result["cost"].is_null() {
        assert_eq!(job.cost, None);
    }
    if let Some(cost) = &job.cost {
        is_canonical(cost);
    }
}

/// Whatever secutools says, the filed task tells its true end.
fn is_filed_as_it_ended(job: &Job) {
    let error = job.error.clone().unwrap_or_default();
    let end = Ending {
        outcome: Outcome::Done,
        job_id: Some(job.id.to_string()),
        cost: job.cost.clone(),
        reason: Some(error.chars().take(2000).collect()),
        ..Ending::unworked(Timestamp::UNIX_EPOCH, String::new())
    };
    super::task::ending_comes_back(&end);
    let output = job.output.clone().unwrap_or_default();
    super::task::filed_tells_its_true_end("Do it.\n", &end, &output);
}

fn no_answer_is_of_the_right_kind(error: &EngineError, reply: &Reply) {
    is_fit_to_be_shown(&error.text);
    let kinds: &[ErrorKind] = match reply.status {
        404 | 410 => &[ErrorKind::UnknownJob],
        401 | 403 => &[ErrorKind::Unauthorized],
        408 | 409 | 425 | 429 | 500..=599 => &[ErrorKind::Busy, ErrorKind::Failing],
        _ => &[ErrorKind::Refused, ErrorKind::Garbled],
    };
    assert!(kinds.contains(&error.kind), "{}: {error:?}", reply.status);
    assert_eq!(error.retry_after, reply.retry_after);
}

/// A body that is a cost by itself.
fn money(body: &str) {
    let raw: Option<&RawValue> = serde_json::from_str(body).ok();
    if let Some(cost) = raw.and_then(Cost::from_json) {
        is_canonical(&cost);
    }
}

/// An amount has one form, which is read as itself and adds up to itself.
fn is_canonical(cost: &Cost) {
    let json = to_raw_value(cost).expect("a cost is JSON");
    assert_eq!(Cost::from_json(&json).as_ref(), Some(cost));
    assert!(!cost.amount.contains(['e', 'E', '-', '+']), "{cost}");
    let (whole, fraction) = cost.amount.split_once('.').unwrap_or((&cost.amount, "1"));
    assert!(!fraction.ends_with('0'), "{cost}");
    assert!(whole == "0" || !whole.starts_with('0'), "{cost}");
    let mut totals = Totals::default();
    totals.add(cost);
    assert_eq!(totals.costs(), std::slice::from_ref(cost));
}
