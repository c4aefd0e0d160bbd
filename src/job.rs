//! A job, as an engine describes it and as reports show it. Pure.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use crate::money::Cost;
use crate::task::Provider;

/// The start of the names of `ccl`'s jobs at Ray; the key follows.
const RAY_PREFIX: &str = "ccl-";

/// The engines that run jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    #[default]
    Secutools,
    Ray,
}

impl EngineKind {
    pub(crate) fn of(provider: Provider) -> Self {
        match provider {
            Provider::Remote => Self::Ray,
            _ => Self::Secutools,
        }
    }

    /// Its name in sentences.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Secutools => "secutools",
            Self::Ray => "Ray",
        }
    }
}

/// A job's name at its engine: 1 to 128 of `A-Z a-z 0-9 . _ -`, and neither `.` nor `..`, so
/// that it cannot lead to another path when it becomes part of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    /// An id that no job has.
    pub(crate) fn unused() -> JobId {
        JobId(format!("ccl-doctor-{}", Uuid::new_v4()))
    }

    /// The id of Ray's job with this key.
    pub(crate) fn of_key(key: Uuid) -> JobId {
        JobId(format!("{RAY_PREFIX}{key}"))
    }

    /// The key in the id of one of our jobs at Ray; `None` for any other id.
    pub(crate) fn key(&self) -> Option<Uuid> {
        self.0.strip_prefix(RAY_PREFIX).and_then(|key| Uuid::try_parse(key).ok())
    }

    /// The engine whose job it is: Ray gets its ids from us, secutools chooses its own.
    pub(crate) fn engine(&self) -> EngineKind {
        if self.key().is_some() { EngineKind::Ray } else { EngineKind::Secutools }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for JobId {
    type Error = String;

    fn try_from(text: String) -> Result<JobId, String> {
        let fits = (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !matches!(text.as_str(), "." | "..");
        if fits {
            Ok(JobId(text))
        } else {
            Err("a job id is 1 to 128 letters, digits, `.`, `_` or `-`".into())
        }
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> String {
        id.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobStatus {
    Queued,
    Running,
    Succeeded,
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// The engine gave it up.
    Expired,
    /// A status that the contract does not know, its first 64 characters: it counts as not finished.
    Unknown(String),
}

impl JobStatus {
    pub fn is_final(&self) -> bool {
        !matches!(self, JobStatus::Queued | JobStatus::Running | JobStatus::Unknown(_))
    }

    /// The status as a word; for an unknown one the server's own, which may hold anything.
    pub fn as_str(&self) -> &str {
        match self {
            JobStatus::Queued => "queued",
            JobStatus::Running => "running",
            JobStatus::Succeeded => "succeeded",
            JobStatus::Failed => "failed",
            JobStatus::Cancelled => "cancelled",
            JobStatus::Expired => "expired",
            JobStatus::Unknown(word) => word,
        }
    }
}

impl Serialize for JobStatus {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.as_str())
    }
}

/// A job that the engine has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub id: JobId,
    /// Its status; queued where the server did not say.
    pub status: JobStatus,
}

/// What the engine says about a job. Texts are as the server wrote them, API key aside: they may
/// hold control characters, and `ccl`'s own ending line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Job {
    pub id: JobId,
    pub status: JobStatus,
    /// Who works on it, in the server's words.
    pub provider: Option<String>,
    /// The result; JSON that is not a string is here as JSON text.
    pub output: Option<String>,
    /// `None`: not known, which is not the same as zero.
    pub cost: Option<Cost>,
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_cannot_lead_to_another_path() {
        let longest = "a".repeat(128);
        for text in ["job_1", "0", "...", "a..b", "-", &longest] {
            assert_eq!(JobId::try_from(text.to_owned()).unwrap().as_str(), text);
        }
        let too_long = "a".repeat(129);
        for text in ["", ".", "..", "../x", "a/b", "a b", "a%2f", "ä", "a\n", &too_long] {
            assert!(JobId::try_from(text.to_owned()).is_err(), "{text:?}");
            assert!(serde_json::from_value::<JobId>(text.into()).is_err(), "{text:?}");
        }
    }
}
