//! Whether an agent that is at work has reached a limit of time: `max_duration`, or `stall`.
//!
//! Neither is measured by the time of day, which jumps when a clock is set and runs while the machine sleeps. The claim says
//! when the agent began. What it shows of its work, and since when, is noted by each pass that finds something new.

use anyhow::{Context, Result};

use super::Pool;
use super::evidence::ClaudeEvidence;
use super::snapshot::Run;
use crate::agent::claude;
use crate::agent::transcript::RunSummary;
use crate::marker::{self, ClaimMarker, Signs};
use crate::monotonic::MonotonicTime;
use crate::next_step::{Leave, ReachedLimit, Step};
use crate::process;
use crate::queue::Claim;
use crate::task::{TaskRules, Timeout};

impl Pool<'_> {
    /// The monotonic time now; `None` where no `max_duration` is set, so that nothing is counted.
    pub(super) fn work_clock(&self, rules: &TaskRules) -> Result<Option<MonotonicTime>> {
        rules.max_duration.0.map(|_| clock()).transpose()
    }

    /// Starts or stops the count of the agent's work. Waiting for a person is no work, unless nobody is to be asked.
    pub(super) fn keep_time(
        &self,
        claim: &mut Claim,
        step: &Step,
        asks_nobody: bool,
    ) -> Result<()> {
        let works = match step {
            Step::Leave(Leave::AtWork) => true,
            Step::Leave(Leave::NeedsAttention(_)) => asks_nobody,
            _ => return Ok(()),
        };
        let work = &claim.marker().work;
        if work.worked.is_none_or(|worked| worked.since.is_some() == works) {
            return Ok(());
        }
        let clock = self.work_clock(&work.rules)?;
        claim.update(self.now, |claim| match works {
            true => claim.work.begin(clock),
            false => claim.work.end(clock),
        })
    }

    /// The limit that the agent has reached, and what is to be noted of its signs of life.
    pub(super) fn reached_limit(
        &self,
        run: &Run,
        claim: &ClaimMarker,
        claude: Option<&ClaudeEvidence>,
    ) -> Result<(Option<ReachedLimit>, Option<Signs>)> {
        let TaskRules { max_duration, stall, .. } = &claim.work.rules;
        let again = claim.work.timeout.is_some();
        if let (Some(limit), Some(worked)) = (max_duration.0, claim.work.worked)
            && worked.so_far(clock()?) >= limit
        {
            return Ok((Some(ReachedLimit { what: Timeout::MaxDuration, limit, again }), None));
        }
        // A command agent shows no more than that it lives.
        let (Some(limit), Some(claude)) = (stall.0, claude) else {
            return Ok((None, None));
        };
        let now = clock()?;
        let signs = self.signs(run, claude, now)?;
        let is_new = signs.since == now;
        let reached = now.since(signs.since).is_some_and(|silent| silent >= limit);
        let reached = reached.then_some(ReachedLimit { what: Timeout::Stall, limit, again });
        Ok((reached, Some(signs).filter(|_| is_new)))
    }

    /// What Claude Code shows of its work, and since when no pass has seen a change in it.
    fn signs(&self, run: &Run, claude: &ClaudeEvidence, now: MonotonicTime) -> Result<Signs> {
        let ClaudeEvidence { transcript, registered, .. } = claude;
        // Each round has a window of its own, and the silence counts anew in it.
        let window = run.pane.as_ref().map(|pane| pane.pid);
        let signs = claude::signs(transcript.as_ref(), registered.as_ref())?;
        let seen = format!("{window:?} {signs}");
        // A note that cannot be read counts as none, and is written anew.
        let noted: Option<Signs> = marker::read(&run.session.signs_path()).unwrap_or(None);
        let noted = noted.filter(|noted| {
            // Not from before a restart of the machine.
            let is_of_now = now.since(noted.since).is_some();
            noted.run == run.id() && noted.seen == seen && is_of_now
        });
        let since = match noted {
            Some(noted) if !runs_a_tool(run, claude)? => noted.since,
            _ => now,
        };
        Ok(Signs { stamp: self.stamp(), run: run.id(), seen, since })
    }
}

/// Whether the agent waits for a command that it runs. While it waits for the API, what lives beside it is something
/// else: a server of tools, say, which lives as long as the agent.
fn runs_a_tool(run: &Run, claude: &ClaudeEvidence) -> Result<bool> {
    if claude.summary.as_ref().is_some_and(RunSummary::waits_for_api) {
        return Ok(false);
    }
    let agent = process::leader_of(run.id());
    let others = agent.and_then(|agent| process::has_others(run.id(), agent));
    others.context("cannot see which commands the agent runs")
}

fn clock() -> Result<MonotonicTime> {
    process::monotonic_now().context("cannot read for how long the machine has been awake")
}
