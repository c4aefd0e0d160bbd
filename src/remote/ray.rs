//! The engine Ray Jobs: its requests, and how its answers are read. Measured on 2.60.
//!
//! ```text
//! POST {url}/api/jobs/        Authorization: Bearer TOKEN
//!   {"entrypoint","submission_id":"ccl-KEY","entrypoint_resources","metadata"} -> 200 {"submission_id"}
//!   the same id again                                                          -> 500 "already exists"
//! GET  {url}/api/jobs/ID      -> 200 {"submission_id","status","entrypoint","message","error_type"}, 404 with the id in its text
//! POST {url}/api/jobs/ID/stop -> 200
//! GET  {url}/api/version      -> 200 {"ray_version"}
//! ```
//!
//! `ccl` chooses the job's id, so it can ask about a job whose submission got no answer. Ray forgets its ids when its
//! head is restarted without Redis: its status is a hint, and the exchange's ref decides.

use std::collections::HashSet;
use std::fmt;

use super::answer::{Answers, Object};
use super::error::{EngineError, NotAccepted};
use super::http::{Http, Limits, Reply};
use super::{Accepted, Certainty, ErrorKind, Job, JobId, JobStatus};
use crate::config::ServerUrl;

/// A Ray head. Threads may share it.
pub(crate) struct RayClient {
    http: Http,
    token: Option<String>,
}

impl RayClient {
    /// For the errors see [`Http::new`].
    pub(crate) fn new(
        url: ServerUrl,
        token: Option<&str>,
        proxy: Option<&str>,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let http = Http::new(url, token, proxy, limits)?;
        Ok(Self { http, token: token.map(str::to_owned) })
    }

    /// Asks for the job `id`, which `body` names. Where the answer is no success, Ray is asked whether the job exists.
    ///
    /// If it does not, the task waits for a later try: what a user's own engine refuses, a person mends there.
    pub(crate) fn submit(&self, id: &JobId, body: &[u8]) -> Result<Accepted, NotAccepted> {
        let reply = self.answers().received(self.http.post("/api/jobs/", body, None));
        let Err(error) = reply.and_then(|reply| self.answers().check_success(&reply)) else {
            return Ok(Accepted { id: id.clone(), status: JobStatus::Queued });
        };
        // Nothing arrived, or the token was refused: there is no job from this request to ask about.
        let no_job = matches!(error.kind, ErrorKind::NotSent | ErrorKind::Unauthorized);
        let certainty = match no_job {
            true => Certainty::Later,
            false => match self.get(id) {
                Ok(job) => return Ok(Accepted { id: id.clone(), status: job.status }),
                Err(asked) if asked.kind == ErrorKind::UnknownJob => Certainty::Later,
                Err(_) => Certainty::Ambiguous,
            },
        };
        Err(NotAccepted { certainty, error })
    }

    pub(crate) fn get(&self, id: &JobId) -> Result<Job, EngineError> {
        let reply = self.http.get(&format!("/api/jobs/{id}"));
        job(self.answers(), &self.answers().received(reply)?, id)
    }

    /// Asks Ray to end a job; idempotent.
    pub(crate) fn cancel(&self, id: &JobId) -> Result<(), EngineError> {
        let reply = self.http.post_empty(&format!("/api/jobs/{id}/stop"));
        self.answers().check_success(&self.answers().received(reply)?)
    }

    /// Ray's own version.
    pub(crate) fn version(&self) -> Result<String, EngineError> {
        let reply = self.answers().received(self.http.get("/api/version"))?;
        self.answers().check_success(&reply)?;
        let object: Object = serde_json::from_str(&reply.body).unwrap_or_default();
        let version = self.answers().string(&object, "ray_version");
        version.ok_or_else(|| self.answers().garbled(&reply, "without a version of Ray"))
    }

    fn answers(&self) -> Answers<'_> {
        Answers::new("Ray", self.http.url.as_str(), self.token.as_deref())
    }
}

/// Does not show the token.
impl fmt::Debug for RayClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RayClient").field("url", &self.http.url).finish_non_exhaustive()
    }
}

/// Reads the answer to a GET of the job `id`.
fn job(answers: Answers<'_>, reply: &Reply, id: &JobId) -> Result<Job, EngineError> {
    answers.check_success(reply).map_err(|error| match error.kind {
        // Ray's own 404 names the job. Another server's 404 must not count as "unknown".
        ErrorKind::UnknownJob if !reply.body.contains(id.as_str()) => {
            EngineError { kind: ErrorKind::Failing, ..error }
        }
        _ => error,
    })?;
    let object: Object = serde_json::from_str(&reply.body)
        .map_err(|_| answers.garbled(reply, "with no JSON object"))?;
    if answers.id(&object, "submission_id").as_ref() != Some(id) {
        return Err(answers.garbled(reply, "with another job than the one that was asked for"));
    }
    let word = answers.string(&object, "status");
    let word = word.ok_or_else(|| answers.garbled(reply, "with a job without a status"))?;
    let status = status(&word, answers.string(&object, "error_type").as_deref());
    let is_bad = status.is_final() && status != JobStatus::Succeeded;
    let entrypoint = answers.string(&object, "entrypoint").unwrap_or_default();
    let message = answers.text(&object, "message").filter(|_| is_bad);
    let error = message.map(|message| without_echo(&message, &entrypoint));
    Ok(Job { id: id.clone(), status, provider: None, output: None, cost: None, error })
}

/// The message without the lines of the entrypoint. Ray writes the entrypoint into the job's log, and quotes the log's
/// last ten lines: the end of a long script would stand before the few words that say what went wrong.
fn without_echo(message: &str, entrypoint: &str) -> String {
    let echo: HashSet<&str> = entrypoint.lines().collect();
    message.lines().filter(|line| !echo.contains(line)).collect::<Vec<_>>().join("\n")
}

/// Ray's words for a job's status.
fn status(word: &str, error_type: Option<&str>) -> JobStatus {
    let never_began = ["JOB_SUPERVISOR_ACTOR_START_TIMEOUT", "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE"];
    match word {
        "PENDING" => JobStatus::Queued,
        "RUNNING" => JobStatus::Running,
        "SUCCEEDED" => JobStatus::Succeeded,
        "FAILED" if error_type.is_some_and(|it| never_began.contains(&it)) => JobStatus::Expired,
        "FAILED" => JobStatus::Failed,
        "STOPPED" => JobStatus::Cancelled,
        _ => JobStatus::Unknown(word.chars().take(64).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Result<Job, ErrorKind> {
        let reply = Reply { status, retry_after: None, location: None, body: body.to_owned() };
        let id = JobId::try_from("ccl-1".to_owned()).unwrap();
        job(Answers::new("Ray", "http://x", Some("t0ken")), &reply, &id).map_err(|error| error.kind)
    }

    #[test]
    fn every_word_of_ray_has_its_meaning() {
        for (word, error_type, want) in [
            ("PENDING", "null", JobStatus::Queued),
            ("RUNNING", "null", JobStatus::Running),
            ("SUCCEEDED", "null", JobStatus::Succeeded),
            ("STOPPED", "null", JobStatus::Cancelled),
            ("FAILED", "null", JobStatus::Failed),
            ("FAILED", "\"JOB_ENTRYPOINT_COMMAND_ERROR\"", JobStatus::Failed),
            ("FAILED", "\"JOB_SUPERVISOR_ACTOR_START_TIMEOUT\"", JobStatus::Expired),
            ("FAILED", "\"JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE\"", JobStatus::Expired),
            ("PAUSED", "null", JobStatus::Unknown("PAUSED".to_owned())),
        ] {
            let body = format!(
                r#"{{"submission_id":"ccl-1","status":"{word}","error_type":{error_type},"message":"why t0ken"}}"#
            );
            let job = read(200, &body).unwrap();
            let is_bad = want.is_final() && want != JobStatus::Succeeded;
            assert_eq!(job.error, is_bad.then(|| "why [API key]".to_owned()), "{body}");
            assert_eq!(job.status, want, "{body}");
        }
    }

    #[test]
    fn what_went_wrong_is_not_hidden_by_the_script_that_ran() {
        // As Ray 2.60 quotes a log: the end of the entrypoint, then what it printed.
        let body = r#"{"submission_id":"ccl-1","status":"FAILED","entrypoint":"sh -c 'g fetch\nkeep\n' ccl x",
            "message":"Job entrypoint command failed with exit code 75, last available logs (truncated to 20,000 chars):\nkeep\n' ccl x\nfatal: no\n"}"#;
        let want = "Job entrypoint command failed with exit code 75, last available logs (truncated to 20,000 chars):\nfatal: no";
        assert_eq!(read(200, body).unwrap().error.as_deref(), Some(want));
    }

    #[test]
    fn only_ray_itself_says_that_it_does_not_know_a_job() {
        assert_eq!(read(404, "Job ccl-1 does not exist").unwrap_err(), ErrorKind::UnknownJob);
        assert_eq!(read(404, "<h1>Not Found</h1>").unwrap_err(), ErrorKind::Failing);
        assert_eq!(read(403, "Forbidden").unwrap_err(), ErrorKind::Unauthorized);
        assert_eq!(read(500, "Traceback").unwrap_err(), ErrorKind::Failing);
        for body in ["", "[]", r#"{"status":"RUNNING"}"#, r#"{"submission_id":"ccl-1"}"#] {
            assert_eq!(read(200, body).unwrap_err(), ErrorKind::Garbled, "{body}");
        }
        let other = r#"{"submission_id":"ccl-2","status":"FAILED"}"#;
        assert_eq!(read(200, other).unwrap_err(), ErrorKind::Garbled);
    }
}
