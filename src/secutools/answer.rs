//! Reading what secutools answered. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::value::RawValue;

use super::job::{Accepted, Job, JobId, Status};
use crate::money::Cost;

/// How much of a server's error text is shown, in characters.
const EXCERPT: usize = 300;
/// Stands where the API key stood.
const REDACTED: &str = "[API key]";

/// Reads the answers to one client's requests, and keeps its API key out of all that is read.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    key: &'a str,
}

/// A JSON object, its values still as JSON text: so an amount keeps its digits, and a field that is
/// not as it should be spoils no other.
type Object<'a> = BTreeMap<String, &'a RawValue>;

impl<'a> Reader<'a> {
    /// A reader that hides `key`.
    pub(super) fn hiding(key: &'a str) -> Reader<'a> {
        Reader { key }
    }

    /// The answer to a submission; `None` if it holds no usable job id.
    pub(super) fn accepted(self, body: &str) -> Option<Accepted> {
        let object: Object = serde_json::from_str(body).ok()?;
        let id = self.id(&object)?;
        let status = self
            .string(&object, "status")
            .map_or(Status::Queued, |word| Status::parse(&word));
        Some(Accepted { id, status })
    }

    /// The answer to the question about the job `id`, or what is wrong with it.
    pub(super) fn job(self, body: &str, id: &JobId) -> Result<Job, &'static str> {
        let object: Object = serde_json::from_str(body).map_err(|_| "no JSON object")?;
        if object.contains_key("id") && self.id(&object).as_ref() != Some(id) {
            return Err("another job than the one that was asked for");
        }
        let status = self
            .string(&object, "status")
            .ok_or("a job without a status")?;
        let result = self.object(&object, "result").unwrap_or_default();
        Ok(Job {
            id: id.clone(),
            status: Status::parse(&status),
            provider: self.string(&object, "provider"),
            output: self.text(&result, "output"),
            cost: result.get("cost").and_then(|raw| Cost::from_json(raw)),
            usage: self
                .text(&result, "usage")
                .and_then(|text| serde_json::from_str(&text).ok()),
            error: self.problem(&object, "error"),
        })
    }

    /// One line that says what an error's body says: a problem's title and detail, an HTML page's
    /// title, or else the text. Empty if there is nothing.
    pub(super) fn excerpt(self, body: &str) -> String {
        let object: Option<Object> = serde_json::from_str(body).ok();
        let said = object.and_then(|object| self.said(&object));
        self.line(&said.unwrap_or_else(|| without_markup(body)))
    }

    /// `text` as one line of at most 300 characters, without control characters and the key.
    pub(super) fn line(self, text: &str) -> String {
        let text = self.hide(text.to_owned());
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut line = String::new();
        for (position, character) in words.join(" ").chars().enumerate() {
            if position == EXCERPT {
                line.push('…');
                break;
            }
            if character.is_control() {
                line.extend(character.escape_default());
            } else {
                line.push(character);
            }
        }
        line
    }

    fn hide(self, text: String) -> String {
        if text.contains(self.key) {
            text.replace(self.key, REDACTED)
        } else {
            text
        }
    }

    fn id(self, object: &Object) -> Option<JobId> {
        JobId::try_from(self.string(object, "id")?).ok()
    }

    fn object<'b>(self, object: &Object<'b>, name: &str) -> Option<Object<'b>> {
        serde_json::from_str(object.get(name)?.get()).ok()
    }

    /// The field, if it is a string.
    fn string(self, object: &Object, name: &str) -> Option<String> {
        serde_json::from_str(object.get(name)?.get())
            .ok()
            .map(|text| self.hide(text))
    }

    /// The field, be it a string or other JSON (then as it was written); null is nothing.
    fn text(self, object: &Object, name: &str) -> Option<String> {
        let raw = object.get(name)?.get();
        match raw {
            "null" => None,
            _ => self
                .string(object, name)
                .or_else(|| Some(self.hide(raw.to_owned()))),
        }
    }

    /// The field as an error's text: an object's title and detail, or whatever else it is.
    fn problem(self, object: &Object, name: &str) -> Option<String> {
        let inner = self.object(object, name);
        inner
            .and_then(|inner| self.said(&inner))
            .or_else(|| self.text(object, name))
    }

    /// What an object in the manner of `application/problem+json` says.
    fn said(self, object: &Object) -> Option<String> {
        let parts: Vec<String> = ["title", "detail"]
            .iter()
            .filter_map(|name| self.string(object, name))
            .filter(|part| !part.trim().is_empty())
            .collect();
        (!parts.is_empty()).then(|| parts.join(": "))
    }
}

/// An HTML page's title, or its text without tags; other text as it is.
fn without_markup(body: &str) -> String {
    if !body.trim_start().starts_with('<') {
        return body.to_owned();
    }
    // Small letters of the same length: positions found in one hold in the other.
    let small = body.to_ascii_lowercase();
    if let Some((_, rest)) = small.split_once("<title>")
        && let Some((title, _)) = rest.split_once("</title>")
    {
        let start = small.len() - rest.len();
        return body[start..start + title.len()].to_owned();
    }
    let mut text = String::new();
    for piece in body.split('<') {
        text.push_str(piece.split_once('>').map_or("", |(_, text)| text));
        text.push(' ');
    }
    text
}

/// `Retry-After`: seconds, or the date of RFC 9110 as seen from `now`; brought into 1 s … 1 h.
/// `None`: it is neither.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let seconds = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are more than an hour.
        value.parse().unwrap_or(i64::MAX)
    } else {
        let then = rfc2822::parse(value).ok()?.timestamp();
        then.as_second() - now.as_second()
    };
    Some(Duration::from_secs(seconds.clamp(1, 3600).unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-secret";

    fn reader() -> Reader<'static> {
        Reader::hiding(KEY)
    }

    fn job(body: &str) -> Result<Job, &'static str> {
        reader().job(body, &JobId::try_from("j1".to_owned()).unwrap())
    }

    #[test]
    fn a_whole_job_is_read() {
        let job = job(
            r#"{"id":"j1","status":"DONE","provider":"gpu","new":{"field":1},
            "result":{"output":"hello","cost":{"amount":0.10,"currency":"USD"},"usage":{"tokens":3}}}"#,
        );
        let job = job.unwrap();
        assert_eq!(job.status, Status::Succeeded);
        assert_eq!(job.provider.as_deref(), Some("gpu"));
        assert_eq!(job.output.as_deref(), Some("hello"));
        assert_eq!(job.cost.unwrap().to_string(), "0.1 USD");
        assert_eq!(job.usage, Some(serde_json::json!({"tokens": 3})));
        assert_eq!(job.error, None);
    }

    #[test]
    fn a_field_of_the_wrong_kind_spoils_no_other() {
        let job = job(
            r#"{"status":"failed","provider":7,"error":{"title":4,"detail":"no memory"},
            "result":{"output":{"a": [1.10, null]},"cost":"much","usage":null}}"#,
        );
        let job = job.unwrap();
        assert_eq!(job.id.as_str(), "j1");
        assert_eq!(job.provider, None);
        assert_eq!(job.output.as_deref(), Some(r#"{"a": [1.10, null]}"#));
        assert_eq!((job.cost, job.usage), (None, None));
        assert_eq!(job.error.as_deref(), Some("no memory"));
    }

    #[test]
    fn errors_come_in_many_forms() {
        for (error, want) in [
            (
                r#"{"title":"Out of memory","detail":"40 GiB"}"#,
                Some("Out of memory: 40 GiB"),
            ),
            (
                r#"{"title":"Out of memory","detail":""}"#,
                Some("Out of memory"),
            ),
            (r#""just text""#, Some("just text")),
            (r#"{"code":7}"#, Some(r#"{"code":7}"#)),
            ("null", None),
        ] {
            let job = job(&format!(
                r#"{{"status":"failed","error":{error},"result":null}}"#
            ));
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
        let accepted = reader()
            .accepted(r#"{"id":"j1","status":"running"}"#)
            .unwrap();
        assert_eq!(
            (accepted.id.as_str(), accepted.status),
            ("j1", Status::Running)
        );
        assert_eq!(
            reader().accepted(r#"{"id":"j1"}"#).unwrap().status,
            Status::Queued
        );
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
            assert_eq!(reader().accepted(body), None, "{body}");
        }
    }

    #[test]
    fn the_key_is_hidden_wherever_the_server_echoes_it() {
        let body = r#"{"status":"sk-secret","provider":"sk-secret","error":"bad sk\u002dsecret",
            "result":{"output":"sk-secret","usage":{"x":"sk-secret"}}}"#;
        assert!(!format!("{:?}", job(body).unwrap()).contains(KEY));
        assert_eq!(reader().excerpt("Bearer sk-secret?"), "Bearer [API key]?");
        let cut = format!("{}sk-secret", "x".repeat(EXCERPT - 4));
        assert!(!reader().excerpt(&cut).contains("sk-s"));
    }

    #[test]
    fn an_excerpt_is_one_short_harmless_line() {
        for (body, want) in [
            (
                r#"{"title":"Bad","detail":"no\nsuch \u001b[2Jprovider"}"#,
                r"Bad: no such \u{1b}[2Jprovider",
            ),
            (r#"{"message":"x"}"#, r#"{"message":"x"}"#),
            (
                "<html><head><TITLE>502\nBad</TITLE></head><body>x</body>",
                "502 Bad",
            ),
            ("<p>İ<b>Busy</b><br>again", "İ Busy again"),
            ("  \r\n", ""),
            ("\u{9b}31m", r"\u{9b}31m"),
        ] {
            assert_eq!(reader().excerpt(body), want, "{body}");
        }
        assert_eq!(
            reader().excerpt(&"ä".repeat(5000)).chars().count(),
            EXCERPT + 1
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_within_an_hour() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (value, want) in [
            ("7", Some(7)),
            (" 0 ", Some(1)),
            ("99999", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Fri, 02 Jan 2026 03:04:35 GMT", Some(30)),
            ("Fri, 02 Jan 2026 03:00:00 GMT", Some(1)),
            ("Sat, 03 Jan 2026 03:04:05 GMT", Some(3600)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Fri, 32 Jan 2026", None),
        ] {
            assert_eq!(
                retry_after(value, now),
                want.map(Duration::from_secs),
                "{value}"
            );
        }
    }
}
