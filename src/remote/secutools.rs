//! The job API of secutools over HTTP: DESIGN section 7, "The HTTP contract".

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ureq::http::HeaderValue;
use ureq::tls::{RootCerts, TlsConfig};
use uuid::Uuid;

pub mod answer;

use super::http::Lost;
use super::{Accepted, GetError, Job, JobId, Meaning, ServerUrl, SubmitError, Talk};
use answer::{Reader, Reply};

/// How long the client waits, and how often it tries.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the name, and again for the connection, TLS included.
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

/// Connections to one secutools server. Threads may share it: connections are reused.
pub struct Client {
    pub(super) agent: ureq::Agent,
    pub(super) url: ServerUrl,
    key: String,
    pub(super) authorization: HeaderValue,
    pub(super) limits: Limits,
}

impl Client {
    /// A client for `url` with the API key `key`. `proxy` is the URL of an http(s) proxy, as
    /// [`ServerUrl::proxy`] finds it; it never applies to a server on this machine. No connection
    /// is made yet. Certificates are checked against the system's trust store.
    ///
    /// Errors: a key that cannot stand in a header, or a proxy that cannot be used. Neither is
    /// repeated in the error.
    pub fn new(
        url: ServerUrl,
        key: &str,
        proxy: Option<&str>,
        limits: Limits,
    ) -> anyhow::Result<Client> {
        ensure!(
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()),
            "the secutools API key is empty or holds blanks or characters other than ASCII"
        );
        let mut authorization = HeaderValue::try_from(format!("Bearer {key}"))
            .context("the secutools API key cannot stand in a header")?;
        authorization.set_sensitive(true);
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
            // As many as threads may be at work at once; ureq keeps three by default.
            .max_idle_connections(64)
            .max_idle_connections_per_host(64)
            .build();
        let key = key.to_owned();
        Ok(Client { agent: config.into(), url, key, authorization, limits })
    }

    /// Asks for a job. `body` is sent as it is, at every try; `key` makes sure that several tries,
    /// also of several passes, come to one job. At most three tries, none begun later than 5 s
    /// after the first; none after a timeout.
    ///
    /// The error's [`Meaning`] regards this call only: one that regards earlier passes too is
    /// `error.meaning.after(earlier)`.
    pub fn submit(&self, body: &[u8], key: Uuid) -> Result<Accepted, SubmitError> {
        let start = Instant::now();
        let mut earlier = None;
        let mut tries = 0;
        loop {
            let error = match self.try_submit(body, key) {
                Ok(accepted) => return Ok(accepted),
                Err(error) => error,
            };
            tries += 1;
            let pause = self.pause(tries, &error);
            let error = error.after(earlier);
            match pause {
                Some(pause) if start.elapsed() + pause < self.limits.retrying => {
                    thread::sleep(pause);
                }
                _ => return Err(error),
            }
            earlier = Some(error);
        }
    }

    /// Asks how far a job is. One request, and a second one at once where the server broke off:
    /// it may have closed an idle connection at that very moment.
    pub fn get(&self, id: &JobId) -> Result<Job, GetError> {
        let reply = match self.fetch(id) {
            Err(lost) if !lost.silent && !lost.too_long => self.fetch(id),
            first => first,
        };
        self.reader().state(&self.received(reply)?, id)
    }

    /// Asks the server to cancel a job: `POST {url}/v1/jobs/ID/cancel`, without a body, as job APIs
    /// commonly have it. The contract of DESIGN section 7 says nothing of it: a server that does not
    /// offer it answers 404 or 405, and the job goes on. What has become of the job,
    /// [`Client::get`] tells. One request; to ask twice does no harm.
    pub fn cancel(&self, id: &JobId) -> Result<(), GetError> {
        let reply = self.received(self.post_cancel(id))?;
        self.reader().success(&reply)
    }

    fn received(&self, reply: Result<Reply, Lost>) -> Result<Reply, GetError> {
        reply.map_err(|lost| {
            let text = self.reader().sentence(&lost.text);
            match lost {
                Lost { silent: true, .. } => GetError::Unreachable(text),
                Lost { too_long: true, .. } => GetError::TooLong(text),
                _ => GetError::Bad(text),
            }
        })
    }

    /// One try.
    fn try_submit(&self, body: &[u8], key: Uuid) -> Result<Accepted, SubmitError> {
        let reply = self.post(body, key).map_err(|lost| self.no_answer(&lost))?;
        self.reader().submission(&reply)
    }

    fn no_answer(&self, lost: &Lost) -> SubmitError {
        let (meaning, silent) = match lost.sent {
            true => (Meaning::Ambiguous, lost.silent),
            false => (Meaning::NeverReached, true),
        };
        SubmitError {
            meaning,
            talk: if silent { Talk::Silent } else { Talk::GoesOn },
            status: None,
            retry_after: None,
            text: self.reader().sentence(&lost.text),
        }
    }

    /// How long to wait before the next try after `tries` of them; `None`: there is to be none.
    fn pause(&self, tries: u32, error: &SubmitError) -> Option<Duration> {
        if tries >= self.limits.tries || error.meaning == Meaning::Refused {
            return None;
        }
        let longest = self.limits.backoff * 2_u32.saturating_pow(tries - 1);
        Some(error.retry_after.unwrap_or_else(|| random_up_to(longest)))
    }

    fn reader(&self) -> Reader<'_> {
        Reader::new(self.url.as_str(), &self.key)
    }
}

/// Does not show the API key.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.url).finish_non_exhaustive()
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

/// Evenly spread between nothing and `longest`, so that many that failed together do not come
/// back together.
fn random_up_to(longest: Duration) -> Duration {
    // 62 of a random UUID's lower 64 bits are random.
    let random = Uuid::new_v4().as_u64_pair().1 & (u64::MAX >> 2);
    let nanoseconds = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random % nanoseconds.max(1))
}
