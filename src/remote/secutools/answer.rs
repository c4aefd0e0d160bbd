//! Reading what secutools answered. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::value::RawValue;

use crate::money::Cost;
use crate::remote::{Accepted, GetError, Job, JobId, Meaning, Status, SubmitError, Talk};

/// How much of a server's error text is shown, in characters.
const EXCERPT: usize = 300;
/// Stands where the API key stood.
const REDACTED: &str = "[API key]";

/// A server's answer, as far as anything is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, as [`retry_after`] reads it.
    pub retry_after: Option<Duration>,
    /// Where a redirect points to; it is not followed.
    pub location: Option<String>,
    /// Whole for a 2xx. Otherwise what could be read of it: the status alone decides.
    pub body: String,
}

impl Reply {
    fn is_success(&self) -> bool {
        (200..=299).contains(&self.status)
    }
}

/// Reads the answers to one client's requests, and keeps its API key out of all that is read.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    server: &'a str,
    key: &'a str,
}

/// A JSON object, its values still as JSON text: so an amount keeps its digits, and a field that is
/// not as it should be spoils no other.
type Object<'a> = BTreeMap<String, &'a RawValue>;

impl<'a> Reader<'a> {
    /// A reader of what the server of this name says; it hides `key`.
    pub fn new(server: &'a str, key: &'a str) -> Reader<'a> {
        Reader { server, key }
    }

    /// The answer to the first submission of a key.
    ///
    /// # Errors
    /// All but a 2xx with a usable job id.
    pub fn submission(self, reply: &Reply) -> Result<Accepted, SubmitError> {
        let success = reply.is_success();
        let accepted = self.accepted(&reply.body).filter(|_| success);
        accepted.ok_or_else(|| SubmitError {
            meaning: Meaning::of_status(reply.status),
            talk: match reply.status {
                401 | 403 => Talk::Unauthorized,
                _ => Talk::GoesOn,
            },
            status: Some(reply.status),
            retry_after: reply.retry_after,
            text: match success {
                true => {
                    self.sentence(&format!("answered {} without a usable job id", reply.status))
                }
                false => self.refusal(reply),
            },
        })
    }

    /// The answer to the question about the job `id`.
    ///
    /// # Errors
    /// All but a 2xx that holds the state of this very job.
    pub fn state(self, reply: &Reply, id: &JobId) -> Result<Job, GetError> {
        self.success(reply)?;
        self.job(&reply.body, id).map_err(|what| {
            GetError::Bad(self.sentence(&format!("answered {} with {what}", reply.status)))
        })
    }

    /// Whether the answer is a 2xx, and otherwise what it means.
    pub(in crate::remote) fn success(self, reply: &Reply) -> Result<(), GetError> {
        if reply.is_success() {
            return Ok(());
        }
        let text = self.refusal(reply);
        Err(match reply.status {
            404 | 410 => GetError::Unknown(text),
            401 | 403 => GetError::Unauthorized(text),
            408 | 409 | 425 | 429 | 500..=599 => {
                GetError::Later { retry_after: reply.retry_after, text }
            }
            _ => GetError::Bad(text),
        })
    }

    /// `what` with the server's name in front, fit to be shown.
    pub(in crate::remote) fn sentence(self, what: &str) -> String {
        self.line(&format!("secutools at {} {what}", self.server))
    }

    /// What the server answered instead of what was asked for.
    fn refusal(self, reply: &Reply) -> String {
        let excerpt = self.excerpt(&reply.body);
        let mut text = format!("answered {}", reply.status);
        if let Some(location) = &reply.location {
            text.push_str(&format!(", a redirect to {location}, which is not followed"));
        }
        if !excerpt.is_empty() {
            text.push_str(&format!(": {excerpt}"));
        }
        self.sentence(&text)
    }

    /// What a submission's answer holds; `None` without a usable job id.
    fn accepted(self, body: &str) -> Option<Accepted> {
        let object: Object = serde_json::from_str(body).ok()?;
        let id = self.id(&object)?;
        let status =
            self.string(&object, "status").map_or(Status::Queued, |word| Status::parse(&word));
        Some(Accepted { id, status })
    }

    /// What an answer says about the job `id`, or what is wrong with it.
    fn job(self, body: &str, id: &JobId) -> Result<Job, &'static str> {
        let object: Object = serde_json::from_str(body).map_err(|_| "no JSON object")?;
        if object.contains_key("id") && self.id(&object).as_ref() != Some(id) {
            return Err("another job than the one that was asked for");
        }
        let status = self.string(&object, "status").ok_or("a job without a status")?;
        let result = self.object(&object, "result").unwrap_or_default();
        Ok(Job {
            id: id.clone(),
            status: Status::parse(&status),
            provider: self.string(&object, "provider"),
            output: self.text(&result, "output"),
            cost: result.get("cost").and_then(|raw| Cost::from_json(raw)),
            error: self.problem(&object, "error"),
        })
    }

    /// One line that says what an error's body says: a problem's title and detail, an HTML page's
    /// title, or else the text. Empty if there is nothing.
    fn excerpt(self, body: &str) -> String {
        let object: Option<Object> = serde_json::from_str(body).ok();
        let said = object.and_then(|object| self.said(&object));
        self.line(&said.unwrap_or_else(|| without_markup(body)))
    }

    /// `text` as one line of at most 300 characters, without control characters and the key.
    fn line(self, text: &str) -> String {
        let text = self.hide(text.to_owned());
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut line = String::new();
        for character in words.join(" ").chars().take(EXCERPT + 1) {
            if character.is_control() {
                line.extend(character.escape_default());
            } else {
                line.push(character);
            }
        }
        if let Some((end, _)) = line.char_indices().nth(EXCERPT) {
            line.truncate(end);
            line.push('…');
        }
        line
    }

    fn hide(self, text: String) -> String {
        if text.contains(self.key) { text.replace(self.key, REDACTED) } else { text }
    }

    fn id(self, object: &Object) -> Option<JobId> {
        JobId::try_from(self.string(object, "id")?).ok()
    }

    fn object<'b>(self, object: &Object<'b>, name: &str) -> Option<Object<'b>> {
        serde_json::from_str(object.get(name)?.get()).ok()
    }

    /// The field, if it is a string.
    fn string(self, object: &Object, name: &str) -> Option<String> {
        serde_json::from_str(object.get(name)?.get()).ok().map(|text| self.hide(text))
    }

    /// The field, be it a string or other JSON (then as it was written); null is nothing.
    fn text(self, object: &Object, name: &str) -> Option<String> {
        let raw = object.get(name)?.get();
        match raw {
            "null" => None,
            _ => self.string(object, name).or_else(|| Some(self.hide(raw.to_owned()))),
        }
    }

    /// The field as an error's text: an object's title and detail, or whatever else it is.
    fn problem(self, object: &Object, name: &str) -> Option<String> {
        let inner = self.object(object, name);
        inner.and_then(|inner| self.said(&inner)).or_else(|| self.text(object, name))
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
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
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
mod tests;
