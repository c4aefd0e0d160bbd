//! The engine secutools: its requests, and how its answers are read.
//!
//! ```text
//! POST {url}/v1/jobs      Authorization: Bearer KEY     Idempotency-Key: "UUID"
//!   {"provider","priority","input":{"prompt","title"},"metadata":{"task","project","host","tags"}}
//!   -> 200, 201, 202 {"id","status"}
//! GET  {url}/v1/jobs/ID
//!   -> 200 {"id","status","provider","result":{"output","cost":{"amount","currency"},"usage"},
//!           "error":{"title","detail"}}
//! POST {url}/v1/jobs/ID/cancel       without a body
//! ```

use std::fmt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

pub mod answer;

use super::error::{EngineError, NotAccepted};
use super::http::{Http, Limits};
use super::{Accepted, Certainty, Job, JobId};
use crate::config::ServerUrl;
use crate::task::{Provider, Task};
use answer::Reader;

/// A secutools server. Threads may share it.
pub struct Client {
    http: Http,
    key: String,
}

impl Client {
    /// For the errors see [`Http::new`].
    pub fn new(
        url: ServerUrl,
        key: &str,
        proxy: Option<&str>,
        limits: Limits,
    ) -> anyhow::Result<Client> {
        let http = Http::new(url, Some(key), proxy, limits)?;
        Ok(Client { http, key: key.to_owned() })
    }

    /// Asks for a job. Every try sends `body` as it is; `key` makes sure that several tries,
    /// also of several passes, make one job. At most three tries, none begun later than 5 s
    /// after the first; none after a timeout.
    ///
    /// The error's certainty covers this call only: one that covers earlier passes too is
    /// `certainty.after(earlier)`.
    pub fn submit(&self, body: &[u8], key: Uuid) -> Result<Accepted, NotAccepted> {
        let start = Instant::now();
        let mut earlier = Vec::new();
        let mut tries = 0;
        loop {
            let reply = self.http.post("/v1/jobs", body, Some(key));
            let answer =
                self.reader().0.received(reply).and_then(|reply| self.reader().submission(&reply));
            let error = match answer {
                Ok(accepted) => return Ok(accepted),
                Err(error) => error,
            };
            let longest = self.http.limits.backoff * 2_u32.saturating_pow(tries);
            let pause = error.retry_after.unwrap_or_else(|| random_up_to(longest));
            let is_final = error.kind.certainty() == Certainty::Refused;
            tries += 1;
            // A longer `Retry-After` is not waited for here: a later pass tries again at that time.
            if is_final
                || tries >= self.http.limits.tries
                || start.elapsed() + pause >= self.http.limits.retrying
            {
                return Err(NotAccepted::new(error, &earlier));
            }
            thread::sleep(pause);
            earlier.push(error);
        }
    }

    pub fn get(&self, id: &JobId) -> Result<Job, EngineError> {
        let reply = self.reader().0.received(self.http.get(&format!("/v1/jobs/{id}")))?;
        self.reader().job(&reply, id)
    }

    /// Asks the server to cancel a job, without a body, as job APIs commonly have it. The contract
    /// does not mention it: a server that does not offer it answers 404 or 405, and the job goes on.
    /// [`Client::get`] says what has become of the job. One request; idempotent.
    pub(crate) fn cancel(&self, id: &JobId) -> Result<(), EngineError> {
        let reply = self.http.post_empty(&format!("/v1/jobs/{id}/cancel"));
        let answers = self.reader().0;
        answers.check_success(&answers.received(reply)?)
    }

    fn reader(&self) -> Reader<'_> {
        Reader::new(self.http.url.as_str(), &self.key)
    }
}

/// Does not show the API key.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.http.url).finish_non_exhaustive()
    }
}

/// The body of the request for `task`, whose file has this name: compact JSON, the same for the
/// same task. Only the name of the project's directory leaves this machine, not its path.
pub fn request_body(
    task: &Task,
    file_name: &str,
    project: &Path,
    provider: Provider,
    host: &str,
) -> String {
    let stem = file_name.strip_suffix(".md").unwrap_or(file_name);
    let title = task.header.title.as_deref().unwrap_or(stem);
    // A task may have a title and no body.
    let prompt = if task.body.is_empty() { title } else { &task.body };
    let project = project.file_name().unwrap_or_default().to_string_lossy();
    let body = json!({
        "provider": provider,
        "priority": task.header.priority,
        "input": {"prompt": prompt, "title": title},
        "metadata": {"task": file_name, "project": project, "host": host, "tags": task.header.tags},
    });
    body.to_string()
}

/// A pause evenly spread between zero and `longest` (full jitter), so that requests that failed
/// together do not come back together.
fn random_up_to(longest: Duration) -> Duration {
    // 62 of a random UUID's lower 64 bits are random.
    let random = Uuid::new_v4().as_u64_pair().1 & (u64::MAX >> 2);
    let nanoseconds = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random % nanoseconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task;

    #[test]
    fn the_body_has_the_contracts_shape() {
        let body = |text: &str| {
            let path = Path::new("/srv/app");
            request_body(&task::parse(text), "T.md", path, Provider::ClaudeApi, "box")
        };
        let header = "---\ntitle: Speak\npriority: high\ntags: [web]\n---\n";
        let text = format!("{header}Say \"é\"\n");
        let sent: serde_json::Value = serde_json::from_str(&body(&text)).unwrap();
        let want = json!({
            "provider": "claude-api",
            "priority": "high",
            "input": {"prompt": "Say \"é\"", "title": "Speak"},
            "metadata": {"task": "T.md", "project": "app", "host": "box", "tags": ["web"]},
        });
        assert_eq!(sent, want);
        assert_eq!(body(&text), body(&text));
        let all_title: serde_json::Value = serde_json::from_str(&body(header)).unwrap();
        assert_eq!(all_title["input"], json!({"prompt": "Speak", "title": "Speak"}));
    }
}
