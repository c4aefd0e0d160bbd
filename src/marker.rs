//! Markers: small JSON files that say what happened to a task or what a
//! session is doing.
//!
//! Every marker carries its version, the host and the time it was written.
//! One that cannot be read, or is of another version, is reported and left
//! alone: nothing is ever submitted, launched or deleted on its strength.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use rustix::process::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::durable::{self, Staged, open_if_there, read_at_most};
use crate::money::Cost;
use crate::monotonic::{MonotonicTime, WorkTime};
pub use crate::next_step::{CheckTarget, HoldCause, Phase, Round};
use crate::task::{CheckEnding, GitEnding, TaskRules, Timeout};

/// The version of every marker that this program writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// A marker with a prompt in it is the longest: its request is up to 1 MiB of
/// text, which JSON may write with six characters for one.
const MAX_BYTES: u64 = 16 << 20;

/// A marker may be newer than the pass that reads it, since another pass may have written it meanwhile. If it is newer
/// by more than this, the clock was wrong.
pub(crate) const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What every marker begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub version: u32,
    pub host: String,
    pub at: Timestamp,
}

impl Stamp {
    pub fn new(host: &str, at: Timestamp) -> Self {
        Self { version: VERSION, host: host.to_owned(), at }
    }
}

/// `inbox/.T.md.claim`: who has the task `T.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimMarker {
    #[serde(flatten)]
    pub stamp: Stamp,
    /// The pool that has it: the UUID in `STATE/owner`.
    pub owner: Uuid,
    pub session: String,
    /// This attempt's UUID; it is also in the agent's environment, as `CCL_RUN`.
    pub run: Uuid,
    pub phase: Phase,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    pub started_at: Timestamp,
    pub agent: StartedAgent,
    #[serde(flatten)]
    pub work: Work,
}

/// How the task is worked on, and how far that has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    /// The rules of this run, frozen when it was claimed: later changes of the files do not count.
    pub rules: TaskRules,
    /// Where the agent works; none outside of a git repository. Noted before git is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkout: Option<ClaimedCheckout>,
    pub rounds: Rounds,
    /// The check that runs, or has run; noted before it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckRun>,
    /// What the last red check of the work said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub red: Option<RedCheck>,
    /// What the last check of the work said, red or green.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked: Option<CheckEnding>,
    /// The place of its branch among those that land in the same base; none before it is about to land.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub landing: Option<LandingPlace>,
    /// What the run left in its repository, once that is known. From then on only two things remain: to remove the
    /// worktree, and to file the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitEnding>,
    /// How long its agent has worked; counted where `max_duration` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worked: Option<WorkTime>,
    /// The time limit for which an agent of the task was ended in an earlier attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// What earlier attempts at the task have cost, by currency.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cost_before: Vec<Cost>,
}

impl Work {
    /// The agent begins, or goes on: its working time is counted from here. `now` is none where it is not counted.
    pub(crate) fn begin(&mut self, now: Option<MonotonicTime>) {
        if let Some(now) = now {
            self.worked.get_or_insert_default().begin(now);
        }
    }

    /// The turn of its agent is over, and the counting of its working time stops.
    pub(crate) fn end(&mut self, now: Option<MonotonicTime>) {
        if let (Some(worked), Some(now)) = (&mut self.worked, now) {
            worked.end(now);
        }
    }
}

impl ClaimMarker {
    /// The place of its branch in the landing order, while the branch is on its way into its base.
    pub(crate) fn landing_place(&self) -> Option<&LandingPlace> {
        // Once `git` is noted, its branch has landed or stays: nobody has to wait for it any more.
        let place = self.work.landing.as_ref().filter(|_| self.work.git.is_none())?;
        let counts = match (self.phase, &place.behind) {
            (Phase::Landing, _) | (Phase::Checking, None) => true,
            // Something has changed it: it comes back once its check is green.
            (Phase::Checking, Some(_)) => false,
            (Phase::Claimed | Phase::Launching | Phase::Working, _) => false,
        };
        counts.then_some(place)
    }

    /// The task that its branch waits for before it lands.
    pub(crate) fn lands_behind(&self) -> Option<&str> {
        self.landing_place()?.behind.as_deref()
    }
}

/// A branch's place among those that land in the same base, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandingPlace {
    /// Since when it is on its way.
    pub since: Timestamp,
    /// The task that it waits for; none where it has the turn: it was rebased, and is being checked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
}

/// Where an agent works in a git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimedCheckout {
    /// In the project's own checkout; this was its state before the run.
    Shared { head: Option<String>, dirty: u32 },
    /// In a worktree of its own; `fresh` as long as no agent of any attempt was started in it.
    Own { worktree: Worktree, fresh: bool },
}

impl Rounds {
    /// Counts a round: the agent is given something back. Its conversation has `transcript_from` bytes by now.
    pub(crate) fn begin(&mut self, round: Round, transcript_from: u64) {
        *self.count(round) += 1;
        self.last = Some(round);
        self.transcript_from = Some(transcript_from);
    }

    /// Takes back a round that never reached the agent: it does not count.
    pub(crate) fn undo(&mut self, round: Round) {
        let count = self.count(round);
        *count = count.saturating_sub(1);
        self.last = None;
    }

    fn count(&mut self, round: Round) -> &mut u32 {
        match round {
            Round::Red => &mut self.red,
            Round::Conflict => &mut self.conflicts,
        }
    }
}

/// One run of the check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRun {
    /// The id of this one run of the check, so that what an earlier run writes late is not taken for its end.
    pub id: Uuid,
    pub of: CheckTarget,
    pub started_at: Timestamp,
    /// How often it was started for the same verdict: a check that could not be run is started again.
    pub tries: u32,
    /// The tree object that it judges, in a worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
    /// The last commit of the work that it judges; none where not all of that could be committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
}

/// What a red check of the work said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedCheck {
    pub id: Uuid,
    pub exit: i32,
    pub seconds: u64,
    /// The last of its output, as plain text.
    pub tail: String,
    /// The tree object that it judged, in a worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
}

/// What the agent of a run was given back after its turn, in the same conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rounds {
    /// How often it was given the conflicts with what its base had become.
    pub conflicts: u32,
    pub red: u32,
    /// How often its branch was rebased onto what its base had become, since it has its turn to land; not a round, but
    /// a reason to check again.
    pub rebased: u32,
    /// How often its branch was found to be another than the one that was green; no round either.
    pub changed: u32,
    /// The kind of the last round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Round>,
    /// Whether the base was red, too; `None` where nobody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub red_before: Option<bool>,
    /// How many bytes of its conversation are older than the last round; `None` where there was no round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transcript_from: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentKind {
    /// Claude Code: stays when its turn is over, and leaves a transcript.
    Claude,
    /// Any program that takes a prompt and exits.
    Command,
}

impl AgentKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Command => "command",
        }
    }
}

/// The agent of a run, as it was when it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedAgent {
    /// Its name in the configuration; claims of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub kind: AgentKind,
    /// Where its Claude Code keeps its files, as configured when it started; claims of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claude_dir: Option<PathBuf>,
    pub model: Option<String>,
    /// Claude Code's session id: new, or the one that is resumed.
    pub session: Option<Uuid>,
    /// How many bytes of that session's transcript are older than this run.
    pub transcript_from: u64,
}

impl StartedAgent {
    /// Its name in the configuration. A claim without one is from the agent under `agent:`, which is named by its kind.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.kind.as_str())
    }
}

/// The worktree that a task has for itself. The claim names it before git is called, and the ending line after the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worktree {
    /// `PROJECT/.agent-queue/worktrees/T`, absolute.
    pub path: PathBuf,
    /// `ccl/T`.
    pub branch: String,
    /// The commit that the branch started from, or that it was rebased onto since.
    pub base: String,
    /// The branch that it started from, which is the one to land in; none for a commit, a tag or another's branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<String>,
    /// Where the project lies in its repository; empty where it is the repository.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub subdirectory: PathBuf,
}

impl Worktree {
    /// Where the agent works: what the project's directory is in the project's own checkout.
    pub(crate) fn directory(&self) -> PathBuf {
        // Joined with an empty path, the path would end with a slash.
        if is_empty(&self.subdirectory) {
            self.path.clone()
        } else {
            self.path.join(&self.subdirectory)
        }
    }
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// `.agent-queue/.setup-failed`: no task of the project gets a worktree until what its set-up depends on has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SetupHold {
    #[serde(flatten)]
    pub stamp: Stamp,
    pub reason: String,
    /// The commit that the worktree started from.
    pub head: Option<String>,
    pub rules: TaskRules,
}

/// `.agent-queue/to-land/T`: the branch `ccl/T` is done, and a person has to decide on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToLand {
    #[serde(flatten)]
    pub stamp: Stamp,
    pub task: String,
    pub branch: String,
    /// Why it did not land by itself.
    pub reason: String,
}

/// `STATE/sessions/NAME.dispatched`: which task and run the session has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatched {
    #[serde(flatten)]
    pub stamp: Stamp,
    pub project: PathBuf,
    /// The task's name in the inbox, `T.md`.
    pub task: String,
    /// The run that the claim beside the task must name.
    pub run: Uuid,
    /// Where its agent was started; none before that, and none where the pass was killed before it could note the pane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pane: Option<AgentPane>,
}

/// `STATE/sessions/NAME.signs`: the last signs of life of Claude Code, and since when no pass has seen newer ones.
/// Written where `stall` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signs {
    #[serde(flatten)]
    pub(crate) stamp: Stamp,
    pub(crate) run: Uuid,
    /// Length and time of all that it writes, in one line.
    pub(crate) seen: String,
    pub(crate) since: MonotonicTime,
}

/// A pane's id, `%12`: unique for the life of its server, and never reused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PaneId(String);

impl TryFrom<String> for PaneId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a pane's id is a % and a number")
    }
}

impl From<PaneId> for String {
    fn from(id: PaneId) -> Self {
        id.0
    }
}

impl PaneId {
    /// Reads `%12`; anything else is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('%')?;
        // tmux numbers panes with 32 bits: ten digits at most.
        let fits = (1..=10).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The pane of an agent's window, by what does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPane {
    pub id: PaneId,
    /// The process that tmux started in it, which the agent becomes.
    #[serde(with = "pid")]
    pub pid: Pid,
    /// The tmux server it is in; not known of what an older version started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
}

/// A tmux server, by what distinguishes it from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    #[serde(with = "pid")]
    pub pid: Pid,
    /// Its socket, as `tmux -S` takes it.
    pub socket: PathBuf,
}

mod pid {
    use rustix::process::Pid;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(pid: &Pid, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_i32(pid.as_raw_pid())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Pid, D::Error> {
        let raw = i32::deserialize(from)?;
        let pid = if raw > 0 { Pid::from_raw(raw) } else { None };
        pid.ok_or_else(|| D::Error::custom("a process id is above 0"))
    }
}

/// `STATE/sessions/NAME.cooldown`: the session gets no task for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cooldown {
    #[serde(flatten)]
    pub stamp: Stamp,
    pub until: Timestamp,
    /// What happened, and what a person can do about it.
    pub reason: String,
    /// Whether it goes on only after a person has acted (login, billing).
    // The key stays as earlier versions wrote it.
    #[serde(rename = "needs_person")]
    pub needs_attention: bool,
    /// Whether `ccl doctor` can see that it is mended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_program: bool,
    /// The agent whose launch failed; `None` where an earlier version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

/// `STATE/agents/NAME.hold`: the agent gets no task for a while; `NAME@MODEL.hold`: none for that model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AgentHold {
    #[serde(flatten)]
    pub stamp: Stamp,
    /// From then on one task may go as a probe, to find out whether the hold has ended.
    pub until: Timestamp,
    /// The one model that it is about, by a word that the names of such models contain (`opus`); `None`: all.
    pub model: Option<String>,
    pub cause: HoldCause,
    /// What happened, and what a person can do about it.
    pub reason: String,
    /// When it began.
    pub since: Timestamp,
    /// How often a run has met the same cause since then.
    pub tries: u32,
    /// Whether `until` comes from the account, and was not chosen by `ccl`.
    pub has_reset: bool,
    /// The probe that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// The tasks that were probes and have met the same cause again. Others go first, since it may be the task itself
    /// that looks like a limit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
}

/// A run that was sent to find out whether its agent's hold has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probe {
    pub run: Uuid,
    pub session: String,
    /// Project and name of its task.
    #[serde(default)]
    pub task: String,
    #[serde(default)]
    pub since: Timestamp,
}

/// Why a marker was not read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is there but says nothing that this version understands.
    #[error(
        "{} is left alone: {why}; look at it, and remove it once you know what became of its task",
        path.display()
    )]
    Nonsense { path: PathBuf, why: String },
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Reads a marker; `None` if there is none.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Unreadable> {
    match open_if_there(path) {
        Ok(Some(file)) => read_file(&file, path).map(Some),
        Ok(None) => Ok(None),
        Err(source) => Err(Unreadable::Io { path: path.to_owned(), source }),
    }
}

/// Reads a marker from an open file; `path` is for messages.
pub(crate) fn read_file<T: DeserializeOwned>(file: &File, path: &Path) -> Result<T, Unreadable> {
    // One byte more shows that it is too long.
    let bytes = read_at_most(file, MAX_BYTES + 1)
        .map_err(|source| Unreadable::Io { path: path.to_owned(), source })?;
    parse(&bytes).map_err(|why| Unreadable::Nonsense { path: path.to_owned(), why })
}

/// The marker in `bytes`, or what is wrong with it.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err("it is longer than any marker of ours".to_owned());
    }
    // The version first: a marker of another version may have other fields.
    let version = serde_json::from_slice::<Versioned>(bytes).map_err(not_a_marker)?.version;
    if version != u64::from(VERSION) {
        return Err(format!("it is of version {version}, and this ccl knows version {VERSION}"));
    }
    serde_json::from_slice(bytes).map_err(not_a_marker)
}

/// The library quotes an unknown word whole, and a word may be as long as the file.
fn not_a_marker(error: serde_json::Error) -> String {
    const LONG: usize = 200;
    let mut why = error.to_string();
    if let Some((end, _)) = why.char_indices().nth(LONG) {
        why.truncate(end);
        why.push('…');
    }
    format!("it is not a marker ({why})")
}

/// Writes a marker, replacing an older one.
pub fn write<T: Serialize>(path: &Path, marker: &T) -> Result<()> {
    durable::write(path, &to_json(path, marker)?, durable::SHARED)
}

/// Writes a marker without syncing it: one that is useless after a crash of the machine.
pub(crate) fn write_unsynced<T: Serialize>(path: &Path, marker: &T) -> Result<()> {
    durable::write_unsynced(path, &to_json(path, marker)?, durable::SHARED)
}

pub(crate) fn stage<T: Serialize>(path: &Path, marker: &T) -> Result<Staged> {
    durable::stage(path, &to_json(path, marker)?, durable::SHARED)
}

fn to_json<T: Serialize>(path: &Path, marker: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(marker).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
