//! Reading what secutools answered. Pure.

use crate::money::Cost;
use crate::remote::answer::{Answers, Object, inner};
use crate::remote::http::Reply;
use crate::remote::{Accepted, EngineError, Job, JobId, JobStatus};

/// Reads the answers to one client's requests, and keeps the client's API key out of every text.
#[derive(Clone, Copy)]
pub struct Reader<'a>(pub(super) Answers<'a>);

impl<'a> Reader<'a> {
    pub fn new(server: &'a str, key: &'a str) -> Reader<'a> {
        Reader(Answers::new("secutools", server, Some(key)))
    }

    /// Reads the answer to a submission. Everything but a 2xx with a usable job id is an error.
    pub fn submission(self, reply: &Reply) -> Result<Accepted, EngineError> {
        self.0.check_success(reply)?;
        let object: Object = serde_json::from_str(&reply.body).unwrap_or_default();
        let id = self.0.id(&object, "id");
        let id = id.ok_or_else(|| self.0.garbled(reply, "without a usable job id"))?;
        let status =
            self.0.string(&object, "status").map_or(JobStatus::Queued, |word| status(&word));
        Ok(Accepted { id, status })
    }

    /// Reads the answer to a GET of the job `id`. Everything but a 2xx that holds the state of this
    /// very job is an error.
    pub fn job(self, reply: &Reply, id: &JobId) -> Result<Job, EngineError> {
        self.0.check_success(reply)?;
        self.state(&reply.body, id).map_err(|what| self.0.garbled(reply, &format!("with {what}")))
    }

    /// What an answer says about the job `id`, or what is wrong with it.
    fn state(self, body: &str, id: &JobId) -> Result<Job, &'static str> {
        let object: Object = serde_json::from_str(body).map_err(|_| "no JSON object")?;
        if object.contains_key("id") && self.0.id(&object, "id").as_ref() != Some(id) {
            return Err("another job than the one that was asked for");
        }
        let word = self.0.string(&object, "status").ok_or("a job without a status")?;
        let result = inner(&object, "result").unwrap_or_default();
        let problem = inner(&object, "error").and_then(|error| self.0.problem(&error));
        Ok(Job {
            id: id.clone(),
            status: status(&word),
            provider: self.0.string(&object, "provider"),
            output: self.0.text(&result, "output"),
            cost: result.get("cost").and_then(|raw| Cost::from_json(raw)),
            error: problem.or_else(|| self.0.text(&object, "error")),
        })
    }
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
