//! What a session has on disk, in `STATE/sessions/`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::agent::{CheckFiles, Files};
use crate::durable;
use crate::lock::{self, Lock};
use crate::marker::{self, Cooldown, Dispatched};

/// One session's name and files in `STATE/sessions/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    pub(super) name: String,
    directory: PathBuf,
}

impl Session {
    /// The session of this name.
    pub fn new(state_dir: &Path, name: &str) -> Self {
        Self { name: name.to_owned(), directory: state_dir.join("sessions") }
    }

    /// The tmux session's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn file(&self, suffix: &str) -> PathBuf {
        self.directory.join(format!("{}.{suffix}", self.name))
    }

    pub(super) fn marker_path(&self) -> PathBuf {
        self.file("dispatched")
    }

    pub(super) fn cooldown_path(&self) -> PathBuf {
        self.file("cooldown")
    }

    pub(super) fn signs_path(&self) -> PathBuf {
        self.file("signs")
    }

    /// The ticket that was taken away from an agent.
    pub(super) fn taken_path(&self) -> PathBuf {
        self.file("taken")
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.file("lock")
    }

    pub(super) fn files(&self) -> Files {
        Files {
            run: self.file("run"),
            prompt: self.file("prompt"),
            ticket: self.file("ticket"),
            exit: self.file("exit"),
            hook: self.file("hook"),
            stop: self.file("stop"),
            check: CheckFiles {
                script: self.file("check"),
                ticket: self.file("check-ticket"),
                exit: self.file("check-exit"),
            },
        }
    }

    /// The task it has, by its marker.
    pub(crate) fn dispatched(&self) -> Result<Option<Dispatched>, marker::Unreadable> {
        marker::read(&self.marker_path())
    }

    /// Whether it has a marker, readable or not.
    pub(super) fn is_marked(&self) -> Result<bool> {
        durable::exists(&self.marker_path())
    }

    /// Its cooldown, if that has not ended by `now`. A cooldown that begins in the future was written while the clock
    /// was wrong, so its end is wrong as well, and it does not count.
    pub(crate) fn cooldown(&self, now: Timestamp) -> Result<Option<Cooldown>, marker::Unreadable> {
        let cooldown: Option<Cooldown> = marker::read(&self.cooldown_path())?;
        Ok(cooldown.filter(|it| it.until > now && it.stamp.at <= now + marker::CLOCK_SKEW))
    }

    /// Ends its cooldown, if it has one: a person has mended what it was for.
    pub(crate) fn end_cooldown(&self) -> Result<()> {
        durable::remove(&self.cooldown_path()).map(drop)
    }

    /// Whether another process is at work on it.
    pub(crate) fn is_locked(&self) -> Result<bool> {
        lock::is_held(&self.lock_path())
    }

    pub(super) fn try_lock(&self) -> Result<Option<Lock>> {
        self.make_directory()?;
        lock::try_exclusive(&self.lock_path())
    }

    /// Whether the agent has not started, and cannot: its ticket lies there, or was taken away from it.
    pub(super) fn is_unstarted(&self) -> Result<bool> {
        Ok(durable::exists(&self.files().ticket)? || durable::exists(&self.taken_path())?)
    }

    /// Takes the ticket away from the agent; false where the agent was faster. One rename: if the pass is killed after
    /// it, the taken ticket shows the next pass that nothing was started.
    pub(super) fn take_ticket(&self) -> Result<bool> {
        let ticket = self.files().ticket;
        match fs::rename(&ticket, self.taken_path()) {
            Ok(()) => Ok(true),
            // An earlier pass that was killed may have taken it.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                durable::exists(&self.taken_path())
            }
            Err(error) => Err(error).with_context(|| format!("cannot rename {}", ticket.display())),
        }
    }

    /// Waits up to `limit` for another pass that is at work on it.
    pub(super) fn lock_within(&self, limit: Duration) -> Result<Option<Lock>> {
        self.make_directory()?;
        lock::within(&self.lock_path(), limit)
    }

    pub(super) fn make_directory(&self) -> Result<()> {
        durable::make_dirs(&self.directory)
    }
}

/// The sessions with a marker, by name, also those that no configuration names
/// any more. One walk of `STATE/sessions/`.
pub(crate) fn marked(state_dir: &Path) -> Result<Vec<Session>> {
    let directory = state_dir.join("sessions");
    let mut sessions = Vec::new();
    for entry in durable::list_dir(&directory)? {
        let entry = entry?;
        if let Some(name) =
            entry.file_name().to_str().and_then(|name| name.strip_suffix(".dispatched"))
        {
            sessions.push(Session::new(state_dir, name));
        }
    }
    sessions.sort();
    Ok(sessions)
}

/// The sessions whose cooldown ends only once a person has acted. One that cannot be read is left alone.
pub(crate) fn attention_cooldowns(state_dir: &Path) -> Result<Vec<Session>> {
    let mut sessions = Vec::new();
    for entry in durable::list_dir(&state_dir.join("sessions"))? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".cooldown")) else {
            continue;
        };
        let session = Session::new(state_dir, name);
        let cooldown: Option<Cooldown> = marker::read(&session.cooldown_path()).unwrap_or(None);
        if cooldown.is_some_and(|cooldown| cooldown.needs_attention) {
            sessions.push(session);
        }
    }
    sessions.sort();
    Ok(sessions)
}

/// Removes what killed processes left unfinished in `STATE`, a day later.
pub(crate) fn sweep(state_dir: &Path, now: Timestamp) -> Result<()> {
    let now = SystemTime::try_from(now).context("the clock is out of range")?;
    durable::sweep(state_dir, now)?;
    durable::sweep(&state_dir.join("agents"), now)?;
    durable::sweep(&state_dir.join("sessions"), now)
}
