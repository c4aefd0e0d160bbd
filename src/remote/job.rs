//! Jobs: what is asked of secutools and what it says about it. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::money::Cost;

/// The name secutools gave a job: 1 to 128 of `A-Z a-z 0-9 . _ -`, and neither `.` nor `..`, so
/// that it cannot lead to another path when it becomes part of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    /// The id as text.
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

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It waits.
    Queued,
    /// It is worked on.
    Running,
    /// It has ended, and there is a result.
    Succeeded,
    /// It has ended in an error.
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// secutools gave it up.
    Expired,
    /// A word that the contract does not know, its first 64 characters: not finished, and worth a
    /// warning.
    Unknown(String),
}

impl Status {
    /// Reads the contract's words and their synonyms, in any case.
    pub fn parse(word: &str) -> Status {
        match word.trim().to_ascii_lowercase().as_str() {
            "queued" | "pending" => Status::Queued,
            "running" | "in_progress" | "processing" => Status::Running,
            "succeeded" | "completed" | "done" => Status::Succeeded,
            "failed" | "error" => Status::Failed,
            "cancelled" | "canceled" => Status::Cancelled,
            "expired" | "timed_out" => Status::Expired,
            _ => Status::Unknown(word.chars().take(64).collect()),
        }
    }

    /// Whether nothing more will happen to the job.
    pub fn is_final(&self) -> bool {
        !matches!(self, Status::Queued | Status::Running | Status::Unknown(_))
    }

    /// The word for it; for an unknown one the server's own, which may hold anything.
    pub fn as_str(&self) -> &str {
        match self {
            Status::Queued => "queued",
            Status::Running => "running",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Expired => "expired",
            Status::Unknown(word) => word,
        }
    }
}

/// A job that secutools has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its name.
    pub id: JobId,
    /// How far it is; queued where the server did not say.
    pub status: Status,
}

/// What secutools says about a job. Texts are as the server wrote them, API key aside: they may
/// hold control characters, and `ccl`'s own ending line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// How far it is.
    pub status: Status,
    /// Who works on it, in the server's words.
    pub provider: Option<String>,
    /// The result; JSON that is not a string is here as JSON text.
    pub output: Option<String>,
    /// `None`: not known, which is not the same as nothing.
    pub cost: Option<Cost>,
    /// Why it failed.
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

    #[test]
    fn status_words_are_those_of_the_contract() {
        for (words, status, is_final) in [
            ("queued pending QUEUED", Status::Queued, false),
            ("running in_progress Processing", Status::Running, false),
            ("succeeded completed DONE", Status::Succeeded, true),
            ("failed error", Status::Failed, true),
            ("cancelled canceled", Status::Cancelled, true),
            ("expired timed_out", Status::Expired, true),
        ] {
            for word in words.split(' ') {
                assert_eq!(Status::parse(word), status, "{word}");
                assert_eq!(status.is_final(), is_final, "{word}");
            }
        }
        for word in ["", "finished", "success"] {
            assert_eq!(Status::parse(word), Status::Unknown(word.into()));
            assert!(!Status::parse(word).is_final());
        }
    }
}
