use super::*;

const KEY: &str = "sk-secret";

fn reader() -> Reader<'static> {
    Reader::new("https://x", KEY)
}

fn job(body: &str) -> Result<Job, &'static str> {
    reader().state(body, &JobId::try_from("j1".to_owned()).unwrap())
}

fn accepted(body: &str) -> Option<Accepted> {
    let reply = Reply { status: 202, retry_after: None, location: None, body: body.to_owned() };
    reader().submission(&reply).ok()
}

#[test]
fn a_whole_job_is_read() {
    let job = job(r#"{"id":"j1","status":"DONE","provider":"gpu","new":{"field":1},
        "result":{"output":"hello","cost":{"amount":0.10,"currency":"USD"},"usage":{"tokens":3}}}"#);
    let job = job.unwrap();
    assert_eq!(job.status, JobStatus::Succeeded);
    assert_eq!(job.provider.as_deref(), Some("gpu"));
    assert_eq!(job.output.as_deref(), Some("hello"));
    assert_eq!(job.cost.unwrap().to_string(), "0.1 USD");
    assert_eq!(job.error, None);
}

#[test]
fn a_field_of_the_wrong_kind_spoils_no_other() {
    let job = job(r#"{"status":"failed","provider":7,"error":{"title":4,"detail":"no memory"},
        "result":{"output":{"a": [1.10, null]},"cost":"much","usage":null}}"#);
    let job = job.unwrap();
    assert_eq!(job.id.as_str(), "j1");
    assert_eq!(job.provider, None);
    assert_eq!(job.output.as_deref(), Some(r#"{"a": [1.10, null]}"#));
    assert_eq!(job.cost, None);
    assert_eq!(job.error.as_deref(), Some("no memory"));
}

#[test]
fn errors_come_in_many_forms() {
    for (error, want) in [
        (r#"{"title":"Out of memory","detail":"40 GiB"}"#, Some("Out of memory: 40 GiB")),
        (r#"{"title":"Out of memory","detail":""}"#, Some("Out of memory")),
        (r#""just text""#, Some("just text")),
        (r#"{"code":7}"#, Some(r#"{"code":7}"#)),
        ("null", None),
    ] {
        let job = job(&format!(r#"{{"status":"failed","error":{error},"result":null}}"#));
        assert_eq!(job.unwrap().error.as_deref(), want, "{error}");
    }
}

#[test]
fn what_is_no_word_about_this_job_is_an_error() {
    for body in [
        "",
        "null",
        "[]",
        "<html>",
        "{",
        "{}",
        r#"{"status":null}"#,
        r#"{"status":1}"#,
        r#"{"id":"j2","status":"done"}"#,
        r#"{"id":7,"status":"done"}"#,
    ] {
        assert!(job(body).is_err(), "{body}");
    }
}

#[test]
fn a_job_is_accepted_only_with_a_usable_id() {
    let running = accepted(r#"{"id":"j1","status":"running"}"#).unwrap();
    assert_eq!((running.id.as_str(), running.status), ("j1", JobStatus::Running));
    assert_eq!(accepted(r#"{"id":"j1"}"#).unwrap().status, JobStatus::Queued);
    for body in [
        "",
        "{}",
        r#"{"id":null}"#,
        r#"{"id":7}"#,
        r#"{"id":""}"#,
        r#"{"id":"../x"}"#,
        r#"{"id":"sk-secret"}"#,
        r#"["j1"]"#,
        r#"{"id":"j1"#,
    ] {
        assert_eq!(accepted(body), None, "{body}");
    }
}

#[test]
fn the_key_is_hidden_wherever_the_server_echoes_it() {
    let body = r#"{"status":"sk-secret","provider":"sk-secret","error":"bad sk\u002dsecret",
        "result":{"output":"sk-secret","usage":{"x":"sk\u002dsecret"}}}"#;
    assert!(!format!("{:?}", job(body).unwrap()).contains(KEY));
}

#[test]
fn status_words_are_those_of_the_contract() {
    for (words, want, is_final) in [
        ("queued pending QUEUED", JobStatus::Queued, false),
        ("running in_progress Processing", JobStatus::Running, false),
        ("succeeded completed DONE", JobStatus::Succeeded, true),
        ("failed error", JobStatus::Failed, true),
        ("cancelled canceled", JobStatus::Cancelled, true),
        ("expired timed_out", JobStatus::Expired, true),
    ] {
        for word in words.split(' ') {
            assert_eq!(status(word), want, "{word}");
            assert_eq!(want.is_final(), is_final, "{word}");
        }
    }
    for word in ["", "finished", "success"] {
        assert_eq!(status(word), JobStatus::Unknown(word.into()));
        assert!(!status(word).is_final());
    }
}
