//! What can go wrong in talking with secutools, in the terms in which `ccl` decides. Pure.

use std::fmt;
use std::time::Duration;

/// What a submission that was not accepted means for the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Not a byte of the body has left this machine: there is no job.
    NeverReached,
    /// The server said no, for good: there is no job.
    Refused,
    /// The server has not taken it and asks to come back later (408, 425, 429, 503).
    Later,
    /// There may be a job: the request was sent and no usable answer came back, or what came back
    /// does not tell (409; a 5xx other than 503, behind which a proxy or the server itself may have
    /// failed after the job was made).
    Ambiguous,
}

impl Meaning {
    /// What the answer to a status other than 2xx means, to the first request with its key.
    pub(super) fn of_status(status: u16) -> Meaning {
        match status {
            408 | 425 | 429 | 503 => Meaning::Later,
            // Another request with this key is under way, or so a server may put it.
            409 => Meaning::Ambiguous,
            300..=499 => Meaning::Refused,
            _ => Meaning::Ambiguous,
        }
    }

    /// What a try means when an earlier one with the same key meant `earlier`. A refusal of a key
    /// that was sent before does not tell what became of it then.
    pub fn after(self, earlier: Meaning) -> Meaning {
        match (earlier, self) {
            (Meaning::NeverReached, now) => now,
            (Meaning::Later, Meaning::NeverReached | Meaning::Later) => Meaning::Later,
            _ => Meaning::Ambiguous,
        }
    }
}

/// What an error means for everything else that a pass has to say to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// Other requests may fare better.
    GoesOn,
    /// The server could not be reached or did not answer in time: no other request in this pass.
    Silent,
    /// 401 or 403: no other request in this pass, and the pass has failed.
    Unauthorized,
}

/// Why a job was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitError {
    /// For the task, all tries of this submission considered.
    pub meaning: Meaning,
    /// For the rest of the pass.
    pub talk: Talk,
    /// The last answer's status, if there was one.
    pub status: Option<u16>,
    /// When the server wants to be asked again, from now; 1 s to 1 h.
    pub retry_after: Option<Duration>,
    /// One line, without the API key and without control characters.
    pub text: String,
}

impl SubmitError {
    /// This error as the end of a submission of which an earlier try ended in `earlier`.
    pub(super) fn after(mut self, earlier: Option<SubmitError>) -> SubmitError {
        if let Some(earlier) = earlier {
            self.meaning = self.meaning.after(earlier.meaning);
            self.retry_after = self.retry_after.or(earlier.retry_after);
            if !self.text.starts_with(&earlier.text) {
                self.text = format!("{} (before that: {})", self.text, earlier.text);
            }
        }
        self
    }
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for SubmitError {}

/// Why there is no word about a job. Each holds one line, without the API key and without control
/// characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GetError {
    /// The server does not know the job (404, 410).
    Unknown(String),
    /// 401 or 403: no other request in this pass, and the pass has failed.
    Unauthorized(String),
    /// The server asks to come back later (408, 409, 425, 429, 5xx).
    Later {
        /// How long from now; 1 s to 1 h.
        retry_after: Option<Duration>,
        /// The line.
        text: String,
    },
    /// The server could not be reached or did not answer in time: no other request in this pass.
    Unreachable(String),
    /// It broke off, or what it said cannot be understood.
    Bad(String),
    /// The answer is longer than [`Limits::longest_answer`](super::Limits).
    TooLong(String),
}

impl GetError {
    /// What it means for the rest of the pass.
    pub fn talk(&self) -> Talk {
        match self {
            GetError::Unauthorized(_) => Talk::Unauthorized,
            GetError::Unreachable(_) => Talk::Silent,
            GetError::Unknown(_)
            | GetError::Later { .. }
            | GetError::Bad(_)
            | GetError::TooLong(_) => Talk::GoesOn,
        }
    }
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GetError::Unknown(text)
            | GetError::Unauthorized(text)
            | GetError::Later { text, .. }
            | GetError::Unreachable(text)
            | GetError::Bad(text)
            | GetError::TooLong(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for GetError {}

#[cfg(test)]
mod tests {
    use super::Meaning::{Ambiguous, Later, NeverReached, Refused};
    use super::*;

    #[test]
    fn statuses_mean_what_the_contract_says() {
        for (statuses, want) in [
            (vec![408, 425, 429, 503], Later),
            (vec![409, 100, 101, 200, 204, 299, 500, 501, 502, 504, 599, 600, 999], Ambiguous),
            (vec![300, 301, 302, 307, 308, 400, 401, 403, 404, 410, 413, 422, 499], Refused),
        ] {
            for status in statuses {
                assert_eq!(Meaning::of_status(status), want, "{status}");
            }
        }
    }

    #[test]
    fn what_may_have_been_taken_is_never_taken_back() {
        for (earlier, now, want) in [
            (NeverReached, NeverReached, NeverReached),
            (NeverReached, Refused, Refused),
            (NeverReached, Later, Later),
            (NeverReached, Ambiguous, Ambiguous),
            (Later, NeverReached, Later),
            (Later, Later, Later),
            (Later, Refused, Ambiguous),
            (Later, Ambiguous, Ambiguous),
            (Ambiguous, NeverReached, Ambiguous),
            (Ambiguous, Refused, Ambiguous),
            (Ambiguous, Later, Ambiguous),
            (Ambiguous, Ambiguous, Ambiguous),
        ] {
            assert_eq!(now.after(earlier), want, "{now:?} after {earlier:?}");
        }
    }
}
