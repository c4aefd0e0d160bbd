//! One request and its answer, and what is known when there is none.

use std::io::{self, ErrorKind, Read};

use jiff::Timestamp;
use ureq::http::{Response, header};
use ureq::{Body, Error, SendBody, Timeout};
use uuid::Uuid;

use super::secutools::answer::{Reply, retry_after};
use super::{Client, JobId, Limits};

/// Of an error's body no more is read than this: only an excerpt is shown, in bytes.
const LONGEST_ERROR: u64 = 64 * 1024;

/// A request without a usable answer.
pub(super) struct Lost {
    /// Whether a byte of the request's body may have left this machine.
    pub(super) sent: bool,
    /// Whether the server could not be reached or did not answer in time; otherwise it broke off.
    pub(super) silent: bool,
    /// Whether it answered at too great a length.
    pub(super) too_long: bool,
    /// What happened, to be read behind the server's name.
    pub(super) text: String,
}

impl Client {
    /// Posts `body` to the jobs.
    pub(super) fn post(&self, body: &[u8], key: Uuid) -> Result<Reply, Lost> {
        let mut noted = Noted { rest: body, begun: false };
        let request = self
            .agent
            .post(format!("{}/v1/jobs", self.url.as_str()))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, body.len())
            // RFC 8941 asks for the quotes: the header's value is a string.
            .header("Idempotency-Key", format!("\"{key}\""));
        let answer = request.send(SendBody::from_reader(&mut noted));
        self.reply(answer, noted.begun)
    }

    /// Gets the job `id`.
    pub(super) fn fetch(&self, id: &JobId) -> Result<Reply, Lost> {
        let request = self
            .agent
            .get(format!("{}/v1/jobs/{id}", self.url.as_str()))
            .header(header::AUTHORIZATION, self.authorization.clone());
        self.reply(request.call(), true)
    }

    /// Asks to cancel the job `id`.
    pub(super) fn post_cancel(&self, id: &JobId) -> Result<Reply, Lost> {
        let request = self
            .agent
            .post(format!("{}/v1/jobs/{id}/cancel", self.url.as_str()))
            .header(header::AUTHORIZATION, self.authorization.clone());
        self.reply(request.send_empty(), true)
    }

    /// Reads the answer to a request of which a byte may have been `sent`.
    fn reply(&self, answer: Result<Response<Body>, Error>, sent: bool) -> Result<Reply, Lost> {
        let response = answer.map_err(|error| lost(error, sent, &self.limits))?;
        let (head, mut body) = response.into_parts();
        let field = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        // Not the pass's clock: the answer may have come half a minute after the pass began.
        let wait =
            field(header::RETRY_AFTER).and_then(|value| retry_after(value, Timestamp::now()));
        let location = field(header::LOCATION).map(str::to_owned);
        let text = if head.status.is_success() {
            let bytes = body.with_config().limit(self.limits.longest_answer).read_to_vec();
            let bytes = bytes.map_err(|error| lost(error, true, &self.limits))?;
            String::from_utf8_lossy(&bytes).into_owned()
        } else {
            let mut bytes = Vec::new();
            // Whatever comes is welcome, and nothing depends on it.
            let _ = body.as_reader().take(LONGEST_ERROR).read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok(Reply { status: head.status.as_u16(), retry_after: wait, location, body: text })
    }
}

/// A request's body that notes whether it was asked for. ureq asks for it only once there is a
/// connection, TLS included, and the header is written: as long as nobody has, no server can have
/// seen the request. That holds whatever kind of error is returned.
struct Noted<'a> {
    rest: &'a [u8],
    begun: bool,
}

impl Read for Noted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.begun = true;
        self.rest.read(buffer)
    }
}

/// What an error says about the server.
fn lost(error: Error, sent: bool, limits: &Limits) -> Lost {
    let unreachable = |why: &dyn std::fmt::Display| (true, format!("could not be reached: {why}"));
    let late = || (true, format!("did not answer within {:?}", limits.answer));
    let too_long = matches!(error, Error::BodyExceedsLimit(_));
    let (silent, text) = match error {
        Error::Timeout(phase) if !sent || matches!(phase, Timeout::Resolve | Timeout::Connect) => {
            unreachable(&format!("no connection within {:?}", limits.connect))
        }
        Error::Timeout(_) => late(),
        Error::BodyExceedsLimit(most) => {
            let most = most >> 20;
            (false, format!("answered with more than {most} MiB"))
        }
        error if !sent => unreachable(&plain(error)),
        Error::Io(error) => match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => late(),
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe => (false, format!("broke off its answer: {error}")),
            _ => unreachable(&error),
        },
        Error::Protocol(error) => (false, format!("does not speak HTTP/1.1 rightly: {error}")),
        error @ (Error::LargeResponseHeader(..) | Error::BodyStalled) => (false, error.to_string()),
        error => unreachable(&error),
    };
    Lost { sent, silent, too_long, text }
}

/// The error without ureq's word for its kind.
fn plain(error: Error) -> String {
    match error {
        Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}
