//! One request and its answer over HTTP, and what is known about the request when no answer came.

use std::io::{self, ErrorKind as IoErrorKind, Read};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use ureq::http::{HeaderValue, Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Body, Error, RequestBuilder, SendBody, Timeout};
use uuid::Uuid;

use super::error::ErrorKind;
use crate::config::ServerUrl;

/// The most that is read of an error's body, in bytes: only an excerpt is shown.
const LONGEST_ERROR: u64 = 64 * 1024;

/// Time limits of requests, and how often a submission is tried.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For looking up the name, and again for the connection, TLS included.
    pub connect: Duration,
    /// For one request from its start to the last byte of its answer.
    pub answer: Duration,
    /// No new try of a submission starts later than this after its start. Not more than `connect`,
    /// so that a try that timed out is the last one.
    pub retrying: Duration,
    /// The longest pause before the second try; it doubles with every further one.
    pub backoff: Duration,
    /// How often a submission is tried.
    pub tries: u32,
    /// No answer may be longer, in bytes.
    pub longest_answer: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            retrying: Duration::from_secs(5),
            backoff: Duration::from_millis(500),
            tries: 3,
            longest_answer: 8 << 20,
        }
    }
}

/// The parts of a server's answer that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub retry_after: Option<Duration>,
    /// Where a redirect points to; it is not followed.
    pub location: Option<String>,
    /// Whole for a 2xx. Otherwise what could be read of it: the status alone decides.
    pub body: String,
}

impl Reply {
    pub(super) fn is_success(&self) -> bool {
        (200..=299).contains(&self.status)
    }
}

/// A request without a usable answer.
pub(super) struct TransportError {
    pub(super) kind: ErrorKind,
    /// What happened, as the end of a sentence that begins with the server's name.
    pub(super) text: String,
}

/// The connections to one server. Threads may share it: connections are reused.
pub(super) struct Http {
    agent: ureq::Agent,
    pub(super) url: ServerUrl,
    authorization: Option<HeaderValue>,
    pub(super) limits: Limits,
}

impl Http {
    /// Connections to `url` with the key `key`, where the server asks for one. `proxy` is the URL of an
    /// http(s) proxy, as [`ServerUrl::proxy`] finds it; it never applies to a server on this machine.
    /// No connection is made yet. Certificates are checked against the system's trust store.
    ///
    /// Errors: a key that cannot stand in a header, or a proxy that cannot be used. The error repeats
    /// neither.
    pub(super) fn new(
        url: ServerUrl,
        key: Option<&str>,
        proxy: Option<&str>,
        limits: Limits,
    ) -> anyhow::Result<Http> {
        let authorization = key.map(authorization).transpose()?;
        let proxy = proxy.filter(|_| !url.is_loopback()).map(usable_proxy).transpose()?;
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = ureq::Agent::config_builder()
            .user_agent(concat!("ccl/", env!("CARGO_PKG_VERSION")))
            .accept("application/json, application/problem+json")
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            .tls_config(tls)
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_global(Some(limits.answer))
            // One for each thread that may send requests at once; ureq keeps three by default.
            .max_idle_connections(64)
            .max_idle_connections_per_host(64)
            .build();
        Ok(Http { agent: config.into(), url, authorization, limits })
    }

    /// Posts JSON, under an idempotency key where the server knows those.
    pub(super) fn post(
        &self,
        path: &str,
        body: &[u8],
        key: Option<Uuid>,
    ) -> Result<Reply, TransportError> {
        let mut tracked = TrackedBody { rest: body, is_begun: false };
        let mut request = self
            .request(self.agent.post(self.address(path)))
            .header(header::CONTENT_TYPE, "application/json")
            // Without it ureq would send a body from a reader chunked.
            .header(header::CONTENT_LENGTH, body.len());
        if let Some(key) = key {
            // RFC 8941 asks for the quotes: the header's value is a string.
            request = request.header("Idempotency-Key", format!("\"{key}\""));
        }
        let answer = request.send(SendBody::from_reader(&mut tracked));
        self.reply(answer, tracked.is_begun)
    }

    /// Posts without a body.
    pub(super) fn post_empty(&self, path: &str) -> Result<Reply, TransportError> {
        self.reply(self.request(self.agent.post(self.address(path))).send_empty(), true)
    }

    /// Gets `path`: one request, and a second one at once where the server broke off: it may have
    /// closed an idle connection just as it was used again.
    pub(super) fn get(&self, path: &str) -> Result<Reply, TransportError> {
        let get = || self.reply(self.request(self.agent.get(self.address(path))).call(), true);
        match get() {
            Err(error) if error.kind == ErrorKind::Garbled => get(),
            first => first,
        }
    }

    /// Reads the answer to a request of which a byte `may_be_sent`.
    fn reply(
        &self,
        answer: Result<Response<Body>, Error>,
        may_be_sent: bool,
    ) -> Result<Reply, TransportError> {
        let response = answer.map_err(|error| self.transport_error(error, may_be_sent))?;
        let (head, mut body) = response.into_parts();
        let field = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        // Not the pass's clock: the answer may have come half a minute after the pass began.
        let wait =
            field(header::RETRY_AFTER).and_then(|value| retry_after(value, Timestamp::now()));
        let location = field(header::LOCATION).map(str::to_owned);
        let bytes = if head.status.is_success() {
            let bytes = body.with_config().limit(self.limits.longest_answer).read_to_vec();
            bytes.map_err(|error| self.transport_error(error, true))?
        } else {
            let mut bytes = Vec::new();
            // What was read before an error is kept, and the error ignored: nothing depends on the body.
            let _ = body.as_reader().take(LONGEST_ERROR).read_to_end(&mut bytes);
            bytes
        };
        let body = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Reply { status: head.status.as_u16(), retry_after: wait, location, body })
    }

    /// What an error says about a request of which a byte `may_be_sent`.
    fn transport_error(&self, error: Error, may_be_sent: bool) -> TransportError {
        let Limits { connect, answer, .. } = self.limits;
        // Whatever the error: as long as ureq has not asked for the body, the request was not sent.
        let silent = if may_be_sent { ErrorKind::Silent } else { ErrorKind::NotSent };
        let unreachable = |why: String| (silent, format!("could not be reached: {why}"));
        let late = || (silent, format!("did not answer within {answer:?}"));
        let (kind, text) = match error {
            Error::Timeout(phase)
                if !may_be_sent || matches!(phase, Timeout::Resolve | Timeout::Connect) =>
            {
                unreachable(format!("no connection within {connect:?}"))
            }
            Error::Timeout(_) => late(),
            Error::BodyExceedsLimit(most) => {
                (ErrorKind::TooLong, format!("answered with more than {} MiB", most >> 20))
            }
            // The inner error's text: ureq's own begins with the kind of error.
            Error::Io(error) if !may_be_sent => unreachable(error.to_string()),
            error if !may_be_sent => unreachable(error.to_string()),
            Error::Io(error) => match error.kind() {
                IoErrorKind::TimedOut | IoErrorKind::WouldBlock => late(),
                IoErrorKind::UnexpectedEof
                | IoErrorKind::ConnectionReset
                | IoErrorKind::ConnectionAborted
                | IoErrorKind::BrokenPipe => {
                    (ErrorKind::Garbled, format!("broke off its answer: {error}"))
                }
                _ => unreachable(error.to_string()),
            },
            Error::Protocol(error) => {
                (ErrorKind::Garbled, format!("sent an answer that is not HTTP/1.1: {error}"))
            }
            error @ (Error::LargeResponseHeader(..) | Error::BodyStalled) => {
                (ErrorKind::Garbled, error.to_string())
            }
            error => unreachable(error.to_string()),
        };
        TransportError { kind, text }
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url.as_str())
    }

    fn request<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.authorization {
            Some(authorization) => request.header(header::AUTHORIZATION, authorization.clone()),
            None => request,
        }
    }
}

/// The one header that carries the key.
fn authorization(key: &str) -> anyhow::Result<HeaderValue> {
    ensure!(
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()),
        "the API key is empty or holds blanks or characters other than ASCII"
    );
    let mut authorization = HeaderValue::try_from(format!("Bearer {key}"))
        .context("the API key cannot stand in a header")?;
    authorization.set_sensitive(true);
    Ok(authorization)
}

/// A request's body that notes whether ureq has asked for it. ureq does so only once there is a
/// connection, TLS included, and the header is written: until then no server can have seen the
/// request. That holds whatever kind of error is returned.
struct TrackedBody<'a> {
    rest: &'a [u8],
    is_begun: bool,
}

impl Read for TrackedBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.is_begun = true;
        self.rest.read(buffer)
    }
}

/// A proxy that ureq can use. Its text is kept out of errors: it may hold a password.
fn usable_proxy(text: &str) -> anyhow::Result<ureq::Proxy> {
    let hint =
        "the proxy in https_proxy or all_proxy must be http://HOST:PORT or https://HOST:PORT";
    let Ok(proxy) = ureq::Proxy::new(text) else {
        bail!("{hint}");
    };
    match proxy.protocol() {
        ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https => Ok(proxy),
        other => bail!("{hint}; {other} is not supported"),
    }
}

/// `Retry-After`: seconds, or a date of RFC 9110, which is counted from `now`; clamped to 1 s … 1 h.
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
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_within_an_hour() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (value, want) in [
            ("7", Some(7)),
            (" 0 ", Some(1)),
            ("99999", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Fri, 02 Jan 2026 03:04:35 GMT", Some(30)),
            ("Fri, 02 Jan 2026 03:00:00 GMT", Some(1)),
            ("Sat, 03 Jan 2026 03:04:05 GMT", Some(3600)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Fri, 32 Jan 2026", None),
        ] {
            assert_eq!(retry_after(value, now), want.map(Duration::from_secs), "{value}");
        }
    }
}
