//! What can go wrong between `ccl` and an engine, in the terms by which callers decide. Pure.

use std::time::Duration;

/// Why an engine has not done what it was asked to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct EngineError {
    pub kind: ErrorKind,
    /// How long from now the server wants to be left alone; 1 s to 1 h.
    pub retry_after: Option<Duration>,
    /// One line, without the API key and without control characters.
    pub text: String,
}

/// The kinds of [`EngineError`] that callers distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There was no connection: not a byte of the request's body has left this machine.
    NotSent,
    /// The server could not be reached or did not answer in time. A submission may have arrived.
    Silent,
    /// It refuses our key (401, 403).
    Unauthorized,
    /// It does not know the job (404, 410).
    UnknownJob,
    /// It has done nothing and asks to come back later (408, 425, 429, 503).
    Busy,
    /// It failed, or does not say whether it did what was asked for: a 5xx other than 503, behind
    /// which a proxy or the server itself may have failed after the job was made; 409, by which a
    /// server may mean that another request with the same key is under way.
    Failing,
    /// It refuses for good (any other 3xx or 4xx).
    Refused,
    /// It broke off its answer, or the answer cannot be understood.
    Garbled,
    /// The exchange did not take the commit that the job starts from: the engine was not asked.
    NoExchange,
    /// The answer is longer than [`Limits::longest_answer`](super::Limits).
    TooLong,
}

/// What is known of a job after a submission that was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// Not a byte of the request's body has left this machine: there is no job.
    NeverReached,
    /// The server refused for good: there is no job.
    Refused,
    /// The server has not taken it and asks to come back later: there is no job yet.
    Later,
    /// There may be a job: the request was sent, and no answer says what came of it.
    Ambiguous,
}

/// What an exchange says about the server, for the rest of the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// It answers: other requests may succeed.
    Answering,
    /// It could not be reached or did not answer in time: no further request in this pass.
    Silent,
    /// It refuses our key: no further request in this pass, and the pass has failed.
    Unauthorized,
}

/// Why a job was not accepted, after all tries of one submission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct NotAccepted {
    pub certainty: Certainty,
    /// The last try's error. Its text names those of earlier tries too.
    pub error: EngineError,
}

impl ErrorKind {
    /// The kind of error that an HTTP status stands for; a 2xx here is one that was not understood.
    pub(super) fn of_status(status: u16) -> ErrorKind {
        match status {
            401 | 403 => ErrorKind::Unauthorized,
            404 | 410 => ErrorKind::UnknownJob,
            408 | 425 | 429 | 503 => ErrorKind::Busy,
            409 | 500..=599 => ErrorKind::Failing,
            300..=499 => ErrorKind::Refused,
            _ => ErrorKind::Garbled,
        }
    }

    /// What is known of a job after the first submission with its key.
    pub fn certainty(self) -> Certainty {
        match self {
            ErrorKind::NotSent => Certainty::NeverReached,
            ErrorKind::Unauthorized | ErrorKind::UnknownJob | ErrorKind::Refused => {
                Certainty::Refused
            }
            ErrorKind::Busy | ErrorKind::NoExchange => Certainty::Later,
            ErrorKind::Silent | ErrorKind::Failing | ErrorKind::Garbled | ErrorKind::TooLong => {
                Certainty::Ambiguous
            }
        }
    }

    pub fn server_state(self) -> ServerState {
        match self {
            ErrorKind::NotSent | ErrorKind::Silent => ServerState::Silent,
            ErrorKind::Unauthorized => ServerState::Unauthorized,
            ErrorKind::UnknownJob
            | ErrorKind::Busy
            | ErrorKind::NoExchange
            | ErrorKind::Failing
            | ErrorKind::Refused
            | ErrorKind::Garbled
            | ErrorKind::TooLong => ServerState::Answering,
        }
    }
}

impl Certainty {
    /// What is known after a try whose key was tried before, with the certainty `earlier`. A refusal
    /// of a key that was sent before does not show what became of the first try.
    pub(super) fn after(self, earlier: Certainty) -> Certainty {
        match (earlier, self) {
            (Certainty::NeverReached, now) => now,
            (Certainty::Later, Certainty::NeverReached | Certainty::Later) => Certainty::Later,
            _ => Certainty::Ambiguous,
        }
    }
}

impl NotAccepted {
    /// A submission whose tries ended in `earlier`, in this order, and the last one in `error`.
    pub(super) fn new(mut error: EngineError, earlier: &[EngineError]) -> NotAccepted {
        let kinds = earlier.iter().map(|it| it.kind).chain([error.kind]);
        let certainty =
            kinds.fold(Certainty::NeverReached, |earlier, kind| kind.certainty().after(earlier));
        // Tries that fail alike are quoted once.
        let mut before: Vec<&str> = Vec::new();
        for it in earlier.iter().rev() {
            error.retry_after = error.retry_after.or(it.retry_after);
            if it.text != error.text && !before.contains(&it.text.as_str()) {
                before.push(&it.text);
            }
        }
        if !before.is_empty() {
            error.text = format!("{} (before that: {})", error.text, before.join("; "));
        }
        NotAccepted { certainty, error }
    }
}

#[cfg(test)]
mod tests {
    use super::Certainty::{Ambiguous, Later, NeverReached, Refused};
    use super::*;

    #[test]
    fn statuses_mean_what_the_contract_says() {
        for (statuses, want) in [
            (vec![408, 425, 429, 503], Later),
            (vec![409, 100, 101, 200, 204, 299, 500, 501, 502, 504, 599, 600, 999], Ambiguous),
            (vec![300, 301, 302, 307, 308, 400, 401, 403, 404, 410, 413, 422, 499], Refused),
        ] {
            for status in statuses {
                assert_eq!(ErrorKind::of_status(status).certainty(), want, "{status}");
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

    #[test]
    fn the_last_error_names_each_other_one_once() {
        let error = |text: &&str| EngineError {
            kind: ErrorKind::Busy,
            retry_after: None,
            text: (*text).to_owned(),
        };
        for (earlier, last, want) in [
            (vec![], "A", "A"),
            (vec!["A", "A"], "A", "A"),
            (vec!["A"], "B", "B (before that: A)"),
            (vec!["A", "B"], "B", "B (before that: A)"),
            (vec!["A", "B"], "A", "A (before that: B)"),
            (vec!["A", "B"], "C", "C (before that: B; A)"),
            (vec!["A"], "AB", "AB (before that: A)"),
        ] {
            let tries = earlier.iter().map(error).collect::<Vec<_>>();
            assert_eq!(NotAccepted::new(error(&last), &tries).error.text, want, "{earlier:?}");
        }
    }
}
