//! Reading what secutools answered. Pure.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::money::Cost;
use crate::remote::http::Reply;
use crate::remote::{Accepted, EngineError, ErrorKind, Job, JobId, JobStatus};
use crate::text;

/// How much of a server's error text is shown, in characters.
const EXCERPT: usize = 300;
/// Stands where the API key stood.
const REDACTED: &str = "[API key]";

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
    pub fn new(server: &'a str, key: &'a str) -> Reader<'a> {
        Reader { server, key }
    }

    /// The answer to the first submission of a key: all but a 2xx with a usable job id is an error.
    pub fn submission(self, reply: &Reply) -> Result<Accepted, EngineError> {
        self.check_success(reply)?;
        let object: Object = serde_json::from_str(&reply.body).unwrap_or_default();
        let id = self.id(&object).ok_or_else(|| self.garbled(reply, "without a usable job id"))?;
        let status = self.string(&object, "status").map_or(JobStatus::Queued, |word| status(&word));
        Ok(Accepted { id, status })
    }

    /// The answer to the question about the job `id`: all but a 2xx that holds the state of this
    /// very job is an error.
    pub fn job(self, reply: &Reply, id: &JobId) -> Result<Job, EngineError> {
        self.check_success(reply)?;
        self.state(&reply.body, id).map_err(|what| self.garbled(reply, &format!("with {what}")))
    }

    /// All but a 2xx is an error, which quotes what the server says.
    pub(super) fn check_success(self, reply: &Reply) -> Result<(), EngineError> {
        if reply.is_success() {
            return Ok(());
        }
        let mut text = format!("answered {}", reply.status);
        if let Some(location) = &reply.location {
            text.push_str(&format!(", a redirect to {location}, which is not followed"));
        }
        let excerpt = self.excerpt(&reply.body);
        if !excerpt.is_empty() {
            text.push_str(&format!(": {excerpt}"));
        }
        Err(EngineError {
            kind: ErrorKind::of_status(reply.status),
            retry_after: reply.retry_after,
            text: self.sentence(&text),
        })
    }

    /// A 2xx of which nothing can be made.
    fn garbled(self, reply: &Reply, what: &str) -> EngineError {
        EngineError {
            kind: ErrorKind::Garbled,
            retry_after: reply.retry_after,
            text: self.sentence(&format!("answered {} {what}", reply.status)),
        }
    }

    /// `what` with the server's name in front, fit to be shown.
    pub(super) fn sentence(self, what: &str) -> String {
        self.line(&format!("secutools at {} {what}", self.server))
    }

    /// What an answer says about the job `id`, or what is wrong with it.
    fn state(self, body: &str, id: &JobId) -> Result<Job, &'static str> {
        let object: Object = serde_json::from_str(body).map_err(|_| "no JSON object")?;
        if object.contains_key("id") && self.id(&object).as_ref() != Some(id) {
            return Err("another job than the one that was asked for");
        }
        let word = self.string(&object, "status").ok_or("a job without a status")?;
        let result = inner(&object, "result").unwrap_or_default();
        let problem = inner(&object, "error").and_then(|error| self.problem(&error));
        Ok(Job {
            id: id.clone(),
            status: status(&word),
            provider: self.string(&object, "provider"),
            output: self.text(&result, "output"),
            cost: result.get("cost").and_then(|raw| Cost::from_json(raw)),
            error: problem.or_else(|| self.text(&object, "error")),
        })
    }

    /// A problem's title and detail, or else what the body says, on one line; may be empty.
    fn excerpt(self, body: &str) -> String {
        let problem = serde_json::from_str(body).ok().and_then(|body| self.problem(&body));
        self.line(problem.as_deref().unwrap_or(body))
    }

    /// `text` as one line of at most 300 characters, without control characters and the key.
    fn line(self, text: &str) -> String {
        text::excerpt(&self.hide(text.to_owned()), EXCERPT)
    }

    fn hide(self, text: String) -> String {
        if text.contains(self.key) { text.replace(self.key, REDACTED) } else { text }
    }

    fn id(self, object: &Object) -> Option<JobId> {
        JobId::try_from(self.string(object, "id")?).ok()
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

    /// The title and detail of an object in the manner of `application/problem+json`.
    fn problem(self, object: &Object) -> Option<String> {
        let parts: Vec<String> = ["title", "detail"]
            .iter()
            .filter_map(|name| self.string(object, name))
            .filter(|part| !part.trim().is_empty())
            .collect();
        (!parts.is_empty()).then(|| parts.join(": "))
    }
}

fn inner<'a>(object: &Object<'a>, name: &str) -> Option<Object<'a>> {
    serde_json::from_str(object.get(name)?.get()).ok()
}

/// The contract's words for a job's status and their synonyms, in any case.
fn status(word: &str) -> JobStatus {
    match word.trim().to_ascii_lowercase().as_str() {
        "queued" | "pending" => JobStatus::Queued,
        "running" | "in_progress" | "processing" => JobStatus::Running,
        "succeeded" | "completed" | "done" => JobStatus::Succeeded,
        "failed" | "error" => JobStatus::Failed,
        "cancelled" | "canceled" => JobStatus::Cancelled,
        "expired" | "timed_out" => JobStatus::Expired,
        _ => JobStatus::Unknown(word.chars().take(64).collect()),
    }
}

#[cfg(test)]
mod tests;
