//! How an attempt is written down: its ending line, the line for people, the journal, and what is held because of it.

use std::path::PathBuf;

use anyhow::Result;

use super::snapshot::Run;
use super::{Pool, Session};
use crate::agent::claude::Transcript;
use crate::config::Occasion;
use crate::event::{Event, EventKind};
use crate::hold::HoldTrigger;
use crate::journal::Entry;
use crate::marker::{self, AgentHold, ClaimMarker, ClaimedCheckout, Cooldown, SetupHold};
use crate::money::Cost;
use crate::next_step::{AgentReport, AttemptFailure};
use crate::notify::Notice;
use crate::queue::Claim;
use crate::task::{BranchEnding, Ending, Outcome, Provider, Summary};
use crate::text::path_text;

pub(super) const NOTHING_STARTED: &str =
    "the pass that had claimed it ended before it started anything";
/// The id of the one notice about an agent that no session can start.
pub(super) const AGENT_NOTICE_ID: &str = "agent";

impl Pool<'_> {
    /// Notes an attempt that came to nothing, and files or gives back its task. Its agent has ended.
    pub(super) fn end_attempt(
        &self,
        claim: &Claim,
        failure: &AttemptFailure,
        outcome: Outcome,
    ) -> Result<Option<PathBuf>> {
        self.clear_check(claim)?;
        // Before the task is back: another pass would launch it into the same failure.
        if failure.of_project {
            self.hold_project(claim, failure)?;
        }
        let mut ending = self.ending(claim, outcome, Some(failure.reason.clone()));
        // A released task's ending line says how many attempts have counted so far.
        if !failure.counts {
            ending.attempt = ending.attempt.saturating_sub(1);
        }
        ending.timeout = failure.timeout.or(ending.timeout);
        let mut ending = ending.with_cost(self.cost(claim)?);
        ending.refused = self.refused(claim)?;
        // After the ending was made, which has looked into the worktree.
        if failure.of_project {
            self.discard_worktree(claim)?;
        }
        self.file(claim, &ending, || claim.finish(&ending, None, None))
    }

    /// Files a task, and records it.
    pub(super) fn file(
        &self,
        claim: &Claim,
        ending: &Ending,
        file: impl FnOnce() -> Result<Option<PathBuf>>,
    ) -> Result<Option<PathBuf>> {
        let at = (claim.project().path(), claim.name().as_str());
        self.records.file_and_record(at, ending, || claim.text(), file)
    }

    /// Adds what a check has said to the journal.
    pub(super) fn note_checked(&self, claim: &Claim, events: &[Event]) {
        for event in events.iter().filter(|event| event.event == EventKind::Checked) {
            self.records.note(&Entry { run: Some(claim.marker().run), ..Entry::of(event) });
        }
    }

    /// Gives back a task on which nothing was started.
    pub(super) fn release(&self, claim: &Claim) -> Result<Option<PathBuf>> {
        let placed = claim.release()?;
        if placed.is_some() {
            let (project, name) = (claim.project().path(), claim.name().as_str());
            let entry = Entry::of_task(EventKind::Released, project, name);
            self.records.note(&entry.because(NOTHING_STARTED));
        }
        Ok(placed)
    }

    /// Logs how an attempt ended.
    pub(super) fn log_attempt(&self, claim: &Claim, failure: &AttemptFailure) {
        let marker::ClaimMarker { attempt, session, .. } = claim.marker();
        let which = match failure.counts {
            true => format!("attempt {attempt} of {}", self.config.dispatcher.max_attempts),
            false => "an attempt that does not count".to_owned(),
        };
        self.log.warn(format_args!("{} in {session}: {which}: {}", claim.name(), failure.reason));
    }

    /// Holds the tasks that wait in the project: its set-up fails for each of them.
    pub(super) fn hold_project(&self, claim: &Claim, failure: &AttemptFailure) -> Result<()> {
        let head = match &claim.marker().work.checkout {
            Some(ClaimedCheckout::Own { worktree, .. }) => Some(worktree.base.clone()),
            _ => None,
        };
        let hold = SetupHold {
            stamp: self.stamp(),
            reason: failure.reason.clone(),
            head,
            rules: claim.marker().work.rules.clone(),
        };
        let project = claim.project();
        let event = Event::of_project(EventKind::Hold, project.path());
        let entry = Entry::of(&event.because(failure.reason.as_str()));
        // Notified before the marker is written: if a pass is killed in between, the next one does both once more.
        self.records.notify_hold(&entry, &path_text(project.path()), self.now)?;
        marker::write(&project.setup_hold_path(), &hold)?;
        self.records.note(&entry);
        Ok(())
    }

    /// Holds the agent if the failure stands in the way of all of its tasks. False: it does not, or the agent is held
    /// already.
    pub(super) fn hold_agent(&self, claim: &Claim, failure: &AttemptFailure) -> Result<bool> {
        let Some(trigger) = trigger(claim, failure) else { return Ok(false) };
        let name = self.agent_of(claim.marker()).name.as_str();
        let entry = Entry {
            agent: Some(name.to_owned()),
            run: Some(trigger.run),
            ..Entry::new(EventKind::Hold)
        };
        let entry = entry.because(failure.reason.as_str());
        let notify = |hold: &AgentHold| self.records.notify_hold(&entry, name, hold.since);
        let is_held = match self.holds.begin(name, &trigger, notify) {
            Ok(hold) => hold.is_some(),
            // The task goes back all the same: a hold that cannot be read keeps tasks from the agent as well.
            Err(error) => {
                self.log.error(format_args!("{error:#}"));
                false
            }
        };
        if is_held {
            self.records.note(&entry);
        }
        Ok(is_held)
    }

    /// Whether [`Pool::hold_agent`] would find the agent held already. A hold that cannot be read counts, and is
    /// reported there.
    pub(super) fn is_held_for(&self, claim: &Claim, failure: &AttemptFailure) -> bool {
        let name = &self.agent_of(claim.marker()).name;
        trigger(claim, failure)
            .is_some_and(|trigger| self.holds.is_held_for(name, &trigger).unwrap_or(true))
    }

    /// Whether this run was sent to see whether its agent's hold has ended.
    pub(super) fn is_probe(&self, run: &Run, claim: &Claim) -> bool {
        let name = &self.agent_of(claim.marker()).name;
        self.holds.is_probe(name, run.id()).unwrap_or_else(|error| {
            // A hold that cannot be read does not keep the task of the run from being filed.
            self.log.error(format_args!("{error:#}"));
            false
        })
    }

    /// Ends the hold of the agent whose probe this run is; none where another pass has ended it.
    pub(super) fn end_hold(&self, run: &Run, claim: &Claim) -> Result<Option<Event>> {
        if !self.holds.end(&self.agent_of(claim.marker()).name, run.id())? {
            return Ok(None);
        }
        let event = self.resumed(claim);
        self.records.note(&Entry::of(&event));
        Ok(Some(event))
    }

    /// What is reported of an agent's hold that its probe has ended.
    pub(super) fn resumed(&self, claim: &Claim) -> Event {
        let name = self.agent_of(claim.marker()).name.as_str();
        let resumed = Event::new(EventKind::Resumed).of_agent(Some(name.to_owned()));
        resumed.because(format!("{name} answers again"))
    }

    /// Writes the session's cooldown.
    pub(super) fn start_cooldown(
        &self,
        session: &Session,
        claim: &Claim,
        failure: &AttemptFailure,
    ) -> Result<()> {
        let until = failure.until.unwrap_or_else(|| self.now + self.config.dispatcher.cooldown);
        let cooldown = Cooldown {
            stamp: self.stamp(),
            until,
            reason: failure.reason.clone(),
            needs_attention: failure.needs_attention,
            of_program: failure.of_program,
            agent: claim.marker().agent.name.clone(),
        };
        marker::write(&session.cooldown_path(), &cooldown)?;
        if failure.needs_attention {
            // One notification for the agent, and not one for each session that meets the same.
            let notice = Notice::new(Occasion::NeedsAttention, AGENT_NOTICE_ID, self.now);
            let notice = notice.because(failure.reason.as_str());
            self.records.outbox().queue_once(notice, || Ok(None))?;
        }
        Ok(())
    }

    pub(super) fn ending(&self, claim: &Claim, outcome: Outcome, reason: Option<String>) -> Ending {
        let marker = claim.marker();
        Ending {
            run: marker.run,
            outcome,
            attempt: marker.attempt,
            provider: Some(Provider::ClaudeCode),
            agent: marker.agent.name.clone(),
            model: marker.agent.model.clone(),
            session: Some(marker.session.clone()),
            agent_session: marker.agent.session.map(|id| id.to_string()),
            job_id: None,
            cost: None,
            cost_of_task: marker.work.cost_before.clone(),
            started_at: Some(marker.started_at),
            ended_at: Some(self.now),
            reason,
            git: self.git_ending(claim),
            check: marker.work.checked.clone(),
            refused: 0,
            timeout: marker.work.timeout,
        }
    }

    /// What this run has cost, as far as Claude Code wrote it down.
    pub(super) fn cost(&self, claim: &Claim) -> Result<Option<Cost>> {
        match self.transcript(claim)? {
            Some(transcript) => transcript.cost(claim.marker().agent.transcript_from),
            None => Ok(None),
        }
    }

    /// How many calls were refused in this run because nobody was there to be asked.
    pub(super) fn refused(&self, claim: &Claim) -> Result<u32> {
        Ok(match self.transcript(claim)? {
            Some(transcript) => transcript.summary(claim.marker().agent.transcript_from)?.refused,
            None => 0,
        })
    }

    fn transcript(&self, claim: &Claim) -> Result<Option<Transcript>> {
        match claim.marker().agent.session {
            Some(id) => Transcript::find(self.claude_dir_of(claim.marker()), id),
            None => Ok(None),
        }
    }
}

/// Why the run holds its agent, if it does.
fn trigger<'f>(claim: &'f Claim, failure: &'f AttemptFailure) -> Option<HoldTrigger<'f>> {
    let ClaimMarker { run, started_at, agent, .. } = claim.marker();
    // Claude Code calls a limit `seven_day_opus`, and the model `opus` or `claude-opus-4-5`; the last word of `five_hour`
    // is in no model's name.
    let word = failure.limited_model.as_deref().and_then(|limit| limit.rsplit('_').next());
    // Letters and digits only, for the word becomes part of a file's name.
    let is_models = |word: &&str| {
        let model = agent.model.as_deref().unwrap_or_default().to_lowercase();
        word.chars().all(|c| c.is_ascii_alphanumeric()) && !word.is_empty() && model.contains(*word)
    };
    Some(HoldTrigger {
        run: *run,
        started_at: *started_at,
        cause: failure.hold?,
        model: word.filter(is_models),
        resets_at: failure.until,
        reason: &failure.reason,
    })
}

/// The one line for people: who, where, how long, at what cost, and how to go on.
pub(super) fn footer(ending: &Ending, report: &AgentReport) -> String {
    let session = ending.session.as_deref().unwrap_or("?");
    let mut parts = vec![match &ending.model {
        Some(model) => format!("claude-code ({model}) in {session}"),
        None => format!("local agent in {session}"),
    }];
    if let (Some(start), Some(end)) = (ending.started_at, ending.ended_at) {
        let seconds = end.duration_since(start).as_secs().max(0);
        parts.push(format!("{:#}", jiff::SignedDuration::from_secs(seconds)));
    }
    if let Some(check) = &ending.check {
        parts.push(format!("check passed, {} s", check.seconds));
    }
    match ending.refused {
        0 => {}
        1 => parts.push("1 question refused".to_owned()),
        more => parts.push(format!("{more} questions refused")),
    }
    if let Some(cost) = &ending.cost {
        parts.push(cost.to_string());
    }
    if let Some((read, written)) = report.tokens {
        parts.push(format!("{read} tokens in, {written} out"));
    }
    if let Some(BranchEnding { summary, base_branch, landed, .. }) = ending.branch() {
        let Summary { commits, files, insertions, deletions, .. } = summary;
        parts.push(match (landed, base_branch) {
            (Some(true), Some(base)) => format!(
                "landed in {base}: {commits} commits, {files} files, +{insertions} -{deletions}"
            ),
            _ => summary.to_string(),
        });
    }
    if let Some(id) = &ending.agent_session {
        parts.push(format!("go on by hand with `claude --resume {id}`"));
    }
    format!("*{}*", parts.join(" · "))
}
