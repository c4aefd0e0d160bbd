//! Sending what is queued: all entries of `notify:` at once, within a few seconds, whatever the other side does.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use ureq::tls::{RootCerts, TlsConfig};

use super::{LIFE, Notice, Outbox, read};
use crate::concurrent;
use crate::config::{KEY_VARIABLES, NoticeFormat, Notifier, Receiver};
use crate::durable;
use crate::lock;
use crate::subprocess::Call;
use crate::text::excerpt;

/// All that sending may cost one pass.
pub(crate) const BUDGET: Duration = Duration::from_secs(5);
/// A header file is no longer than this.
const MAX_HEADERS: u64 = 16 << 10;

impl Outbox<'_> {
    /// Sends what waits, within `budget`. What is not taken waits for the next pass; after a day it is given up.
    pub(crate) fn send(&self, budget: Duration) {
        if self.notifiers.is_empty() {
            return;
        }
        let deadline = Instant::now() + budget;
        if let Err(error) = self.send_until(deadline) {
            self.log.warn(format_args!("notifications wait for the next pass: {error:#}"));
        }
    }

    fn send_until(&self, deadline: Instant) -> Result<()> {
        // First without the lock: nearly always nothing waits, and then no lock file is made.
        if self.waiting()?.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let lock = lock::within(&self.directory.join(".lock"), left(deadline))?;
        let Some(_lock) = lock else {
            return Ok(());
        };
        // Another pass may have sent some of it meanwhile.
        let waiting = self.waiting()?;
        let work = self.notifiers.iter().zip(waiting).filter(|(_, files)| !files.is_empty());
        concurrent::map(work.collect(), |(notifier, files)| {
            let mut is_reported = false;
            for file in files {
                // A try without time for it would say nothing about the receiver.
                if left(deadline) < Duration::from_millis(50) {
                    return;
                }
                if let Err(error) = self.send_one(notifier, &file, deadline)
                    && !std::mem::replace(&mut is_reported, true)
                {
                    self.log.warn(format_args!(
                        "cannot notify {}: {error:#}; the next pass tries again",
                        notifier.target.name()
                    ));
                }
            }
        });
        Ok(())
    }

    fn send_one(&self, notifier: &Notifier, file: &Path, deadline: Instant) -> Result<()> {
        let notice = match read(file) {
            Ok(Some(notice)) => notice,
            Ok(None) => return Ok(()),
            Err(error) => {
                let found = file.symlink_metadata().ok();
                let age = found.and_then(|found| durable::age(&found, SystemTime::now()));
                if age.is_some_and(|age| age > LIFE) {
                    durable::remove(file)?;
                }
                return Err(error.into());
            }
        };
        if !notifier.on.contains(&notice.event) {
            // The configuration has changed: this entry does not want the event any more.
            durable::remove(file)?;
            return Ok(());
        }
        if self.is_undecided(&notice)? {
            if Timestamp::now().duration_since(notice.time).unsigned_abs() > LIFE {
                durable::remove(file)?;
            }
            return Ok(());
        }
        let sent = deliver(notifier, &notice, deadline);
        if sent.is_ok() {
            durable::remove(file)?;
        } else if Timestamp::now().duration_since(notice.time).unsigned_abs() > LIFE {
            durable::remove(file)?;
            self.log.warn(format_args!(
                "gave up notifying {} after a day: {}",
                notifier.target.name(),
                notice.line()
            ));
        } else if let Ok(opened) = File::options().write(true).open(file) {
            // Its time orders what waits: next time the others go first.
            opened
                .set_modified(SystemTime::now())
                .with_context(|| format!("cannot set the time of {}", file.display()))?;
        }
        sent
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn deliver(notifier: &Notifier, notice: &Notice, deadline: Instant) -> Result<()> {
    // Queued under another configuration, it may have a body that may not be sent now.
    let notice = Notice { body: notice.body.clone().filter(|_| notifier.body), ..notice.clone() };
    match &notifier.target {
        Receiver::Command(words) => run(words, &notice, left(deadline)),
        Receiver::Address { address, format, header_file, proxy } => {
            let (content_type, body) = match format {
                NoticeFormat::Text => ("text/plain; charset=utf-8", text(&notice)),
                NoticeFormat::Json => ("application/json", serde_json::to_string(&notice)?),
                NoticeFormat::Slack => {
                    let message = serde_json::json!({"text": text(&notice)});
                    ("application/json", message.to_string())
                }
            };
            let mut headers = header_file.as_deref().map_or_else(|| Ok(Vec::new()), headers)?;
            headers.push(("content-type".to_owned(), content_type.to_owned()));
            post(address.as_str(), proxy.as_deref(), &headers, body, left(deadline))
        }
    }
}

fn text(notice: &Notice) -> String {
    match &notice.body {
        Some(body) => format!("{}\n\n{body}\n", notice.line()),
        None => notice.line() + "\n",
    }
}

/// Runs a command with the event on its standard input; no secret of ours is in its environment.
fn run(words: &[String], notice: &Notice, limit: Duration) -> Result<()> {
    let (program, arguments) = words.split_first().context("there is no program")?;
    // A file, not a pipe: a program that does not read cannot keep us waiting.
    let mut input = tempfile::tempfile().context("cannot make a temporary file")?;
    serde_json::to_writer(&input, notice)?;
    input.write_all(b"\n").and_then(|()| input.rewind()).context("cannot write for a program")?;
    let mut call = Call::new(program, limit).with_input(input);
    call.command.args(arguments);
    for variable in KEY_VARIABLES {
        call.command.env_remove(variable);
    }
    let output = call.run()?;
    let said = excerpt(&String::from_utf8_lossy(&output.stderr), 200);
    ensure!(output.status.success(), "`{program}` ended with {}: {said}", output.status);
    Ok(())
}

/// One request; only a 2xx says that the event was taken. The address stands in no error: it may be a secret.
fn post(
    address: &str,
    proxy: Option<&str>,
    headers: &[(String, String)],
    body: String,
    limit: Duration,
) -> Result<()> {
    let proxy = proxy.map(|text| {
        ureq::Proxy::new(text).ok().context("the proxy in https_proxy or all_proxy cannot be used")
    });
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = ureq::Agent::config_builder()
        .user_agent(concat!("ccl/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(proxy.transpose()?)
        .tls_config(tls)
        .timeout_global(Some(limit))
        .build();
    let agent: ureq::Agent = config.into();
    let mut request = agent.post(address);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    match request.send(body) {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => bail!("it answered with {}", answer.status()),
        Err(ureq::Error::Timeout(_)) => bail!("it did not answer within {limit:.1?}"),
        Err(ureq::Error::Io(error)) => bail!("it could not be reached: {error}"),
        // Without the library's words, which would quote the address.
        Err(ureq::Error::BadUri(_)) => bail!("its address is not one that can be asked"),
        Err(error) => bail!("it could not be reached: {error}"),
    }
}

/// Reads lines `Name: value` from a file that others may not read.
fn headers(path: &Path) -> Result<Vec<(String, String)>> {
    let failed = || format!("header_file {}", path.display());
    let file = File::open(path).with_context(failed)?;
    let metadata = file.metadata().with_context(failed)?;
    ensure!(metadata.is_file(), "header_file {} is not a regular file", path.display());
    let mode = metadata.mode() & 0o7777;
    ensure!(
        mode & 0o077 == 0,
        "header_file {}: other users may read it (mode {mode:04o}); run `chmod 600 {}`",
        path.display(),
        path.display()
    );
    let bytes = durable::read_at_most(file, MAX_HEADERS).with_context(failed)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
        .with_context(failed)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let (name, value) = line.split_once(':').with_context(|| {
                format!("header_file {}:{}: not a line `Name: value`", path.display(), number + 1)
            })?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}
