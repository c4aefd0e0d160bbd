//! The one line in which `ccl` notes inside a task file what became of it.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Provider;
use crate::money::{Cost, Totals};
use crate::text::is_unprintable;

const OPEN: &str = "<!-- ccl ";
const CLOSE: &str = " -->";

/// A longer reason is cut when it is written: it may quote a server's whole answer.
const MAX_REASON_CHARS: usize = 2000;

/// How a task ended, or one attempt at it: the file's last line, `<!-- ccl {json} -->`.
///
/// Fields that are `None` are left out of the JSON; when read, a missing field and `null` are the same, and
/// unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The run that came to this end; nil where the task was filed without one.
    pub run: Uuid,
    pub outcome: Outcome,
    /// This attempt's number, from 1; 0 where none has counted.
    pub attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The agent of this machine that worked on it, by its name in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The agent's own name for its session, by which it can be resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// What all attempts at the task have cost up to and with this one, by currency, as far as it is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cost_of_task: Vec<Cost>,
    /// When the agent was launched or the job submitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the end was noticed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitEnding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckEnding>,
    /// How many of the agent's calls and questions were refused because nobody was there to be asked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u32,
    /// Why an agent of the task was ended before its turn was over, in this attempt or in an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What ends an agent that is at work. The task's conversation is resumed after the first; each further one is a failed
/// attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timeout {
    /// It has worked for longer than it may.
    MaxDuration,
    /// It has shown no sign of life for too long.
    Stall,
}

/// What judged the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckEnding {
    pub command: String,
    /// The exit status of its last run; 0 is green.
    pub exit: i32,
    pub seconds: u64,
    /// How often the agent got a red check back.
    pub rounds: u32,
    /// The tree object that was judged; `None` where the agent had no worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
    /// Whether the base was red, too; `None` where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub red_before: Option<bool>,
}

/// What a run left in its git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum GitEnding {
    /// A branch of its own.
    Branch(BranchEnding),
    /// Something in the project's own checkout, where others may work, too.
    Checkout(CheckoutEnding),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchEnding {
    #[serde(flatten)]
    pub summary: Summary,
    /// The branch that it started from, which is the one to land in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<String>,
    /// Whether it has landed in its base; `None` where nobody asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed: Option<bool>,
    /// Why it has not landed, or why its worktree stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a branch brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub branch: String,
    pub base: String,
    /// The branch's last commit.
    pub head: String,
    /// How many commits it has beyond the base.
    pub commits: u64,
    pub files: u64,
    /// Lines; a binary file has none.
    pub insertions: u64,
    pub deletions: u64,
}

/// `ccl/fix: 2 commits, 3 files, +10 -2; look with `git diff 0123456789ab...ccl/fix``
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { branch, base, commits, files, insertions, deletions, .. } = self;
        let short = base.get(..12).unwrap_or(base);
        write!(
            f,
            "{branch}: {commits} commits, {files} files, +{insertions} -{deletions}; \
             look with `git diff {short}...{branch}`"
        )
    }
}

impl Summary {
    /// The summary of a branch of which only the start is known.
    pub(crate) fn of_nothing(branch: &str, base: &str) -> Self {
        Self {
            branch: branch.to_owned(),
            base: base.to_owned(),
            head: base.to_owned(),
            commits: 0,
            files: 0,
            insertions: 0,
            deletions: 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckoutEnding {
    /// `None` before the first commit.
    pub head_before: Option<String>,
    pub head_after: Option<String>,
    /// How many files were not committed, before and after.
    pub dirty: [u32; 2],
}

impl Ending {
    /// The branch of its own that the run had.
    pub(crate) fn branch(&self) -> Option<&BranchEnding> {
        match &self.git {
            Some(GitEnding::Branch(branch)) => Some(branch),
            Some(GitEnding::Checkout(_)) | None => None,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Done,
    Failed,
    /// The attempt is over, the task waits for the next one.
    Released,
}

impl Ending {
    pub fn new(run: Uuid, outcome: Outcome, attempt: u32) -> Self {
        Self {
            run,
            outcome,
            attempt,
            provider: None,
            agent: None,
            model: None,
            session: None,
            agent_session: None,
            job_id: None,
            cost: None,
            cost_of_task: Vec::new(),
            started_at: None,
            ended_at: None,
            reason: None,
            git: None,
            check: None,
            refused: 0,
            timeout: None,
        }
    }

    /// Notes what the attempt has cost, and adds it to the cost of the attempts before it, which the ending knows.
    #[must_use]
    pub(crate) fn with_cost(self, cost: Option<Cost>) -> Self {
        let mut totals = Totals::default();
        self.cost_of_task.iter().chain(&cost).for_each(|cost| totals.add(cost));
        Self { cost_of_task: totals.costs(), cost, ..self }
    }

    /// The end of a task that nobody worked on: filed as failed at `at`, for `reason`.
    pub fn unworked(at: Timestamp, reason: String) -> Self {
        Self {
            ended_at: Some(at),
            reason: Some(reason),
            ..Self::new(Uuid::nil(), Outcome::Failed, 0)
        }
    }

    /// The name of the agent of this machine that worked on the task; `None` for a job, and where nobody worked on it.
    pub(crate) fn agent(&self) -> Option<&str> {
        // Lines of earlier versions have no name, and only Claude Code has a session of its own.
        let kind = if self.agent_session.is_some() { "claude" } else { "command" };
        (self.provider == Some(Provider::ClaudeCode)).then(|| self.agent.as_deref().unwrap_or(kind))
    }

    /// The line, without a newline. Whatever the texts contain, it is one line and one HTML comment:
    /// `<`, `>` and what a terminal would not show are escaped inside the JSON.
    pub fn render(&self) -> String {
        let mut short = self.clone();
        if let Some(reason) = &mut short.reason
            && let Some((end, _)) = reason.char_indices().nth(MAX_REASON_CHARS)
        {
            reason.truncate(end);
            reason.push('…');
        }
        #[expect(clippy::expect_used, reason = "no map with odd keys, no failing Serialize inside")]
        let json = serde_json::to_string(&short).expect("an ending is always JSON");
        let mut line = String::with_capacity(json.len() + OPEN.len() + CLOSE.len());
        line.push_str(OPEN);
        for c in json.chars() {
            // In JSON these stand only inside of strings. None is beyond U+FFFF, so four digits are enough.
            if is_unprintable(c) || matches!(c, '<' | '>') {
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            } else {
                line.push(c);
            }
        }
        line.push_str(CLOSE);
        line
    }

    /// Reads such a line; anything else is `None`.
    pub fn parse(line: &str) -> Option<Self> {
        let json = line.trim_end().strip_prefix(OPEN)?.strip_suffix(CLOSE)?;
        serde_json::from_str(json).ok()
    }
}
