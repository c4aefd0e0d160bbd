//! What the Claude Code of a run leaves in its own files. It is read once in a look, so that all conclusions come from
//! the same records.

use anyhow::Result;

use super::Pool;
use crate::agent::claude::{self, Registered, Transcript};
use crate::agent::judge;
use crate::agent::transcript::{RunSummary, Turn};
use crate::marker::ClaimMarker;
use crate::next_step::AgentReport;
use crate::process;

#[derive(Debug)]
pub(super) struct ClaudeEvidence {
    pub(super) transcript: Option<Transcript>,
    /// What the transcript says of this run.
    pub(super) summary: Option<RunSummary>,
    pub(super) registered: Option<Registered>,
}

impl ClaudeEvidence {
    /// What it left, if its turn has ended well.
    pub(super) fn report(&self) -> AgentReport {
        self.summary.as_ref().map(judge::report).unwrap_or_default()
    }

    /// Whether a person has stopped its turn, and is to say how it goes on.
    pub(super) fn was_stopped_by_person(&self) -> bool {
        self.summary.as_ref().is_some_and(|summary| summary.turn == Turn::StoppedByPerson)
    }

    /// Whether the API has answered it: only an answer names a model.
    pub(super) fn has_answer(&self) -> bool {
        self.summary.as_ref().is_some_and(|summary| summary.model.is_some())
    }
}

impl Pool<'_> {
    /// Reads what the run's Claude Code has left; `None` for a command agent.
    pub(super) fn claude_evidence(&self, claim: &ClaimMarker) -> Result<Option<ClaudeEvidence>> {
        let Some(id) = claim.agent.session else { return Ok(None) };
        let claude_dir = self.claude_dir_of(claim);
        let transcript = Transcript::find(claude_dir, id)?;
        let summary = match &transcript {
            Some(transcript) => Some(summary_of(transcript, claim)?),
            None => None,
        };
        let registered =
            claude::registered(claude_dir, id, |pid| process::is_of_run(pid, claim.run));
        Ok(Some(ClaudeEvidence { transcript, summary, registered }))
    }
}

/// What the transcript says of this run. Where the agent was given something back, only what came after it shows how its
/// turn stands: what an earlier round started has ended with it.
fn summary_of(transcript: &Transcript, claim: &ClaimMarker) -> Result<RunSummary> {
    let whole = transcript.summary(claim.agent.transcript_from)?;
    let Some(from) = claim.work.rounds.transcript_from else { return Ok(whole) };
    let RunSummary { turn, background, calls, .. } = transcript.summary(from)?;
    Ok(RunSummary { turn, background, calls, ..whole })
}
