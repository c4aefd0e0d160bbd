//! What there is to know about a session that has a marker, read once. Changes nothing.

use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};
use uuid::Uuid;

use super::budget::CostSoFar;
use super::evidence::ClaudeEvidence;
use super::server::{Panes, UNSEEN};
use super::worktree::after_turn;
use super::{Pool, Session, unavailable};
use crate::agent::claude;
use crate::agent::command::Exit;
use crate::agent::judge::{Observations, judge};
use crate::agent::screen;
use crate::config::{AgentConfig, Questions};
use crate::durable;
use crate::marker::{self, AgentPane, Dispatched, Server, Signs};
use crate::next_step::{
    AfterTurn, AgentReport, AgentState, Answered, CheckState, Found, Phase, Snapshot, has_answer,
};
use crate::owner;
use crate::process;
use crate::queue::{Claim, ClaimLookup, Name, Project};
use crate::tmux::{Pane, TmuxError};

/// How long tmux may take to read what a program wrote before it ended.
pub(super) const LAST_WORDS_WAIT: Duration = Duration::from_secs(2);

/// Why a pass looks at a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// An ordinary pass looks at all of them.
    Poll,
    /// Its agent's hook reports that it is idle, or a person has just done so. The run that it is about; `None`: any.
    Idle(Option<Uuid>),
    /// A person reports that it is idle, and may have mended what was in the way.
    Asked(Option<Uuid>),
}

impl Trigger {
    /// A hook about another run says nothing of `run`.
    fn is_idle(self, run: Uuid) -> bool {
        matches!(self, Self::Idle(of) | Self::Asked(of) if of.is_none_or(|of| of == run))
    }
}

/// The run that a session has, by its marker.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) session: Session,
    pub(crate) marker: Dispatched,
    /// The pane of its window, as far as it is known.
    pub(super) pane: Option<AgentPane>,
}

impl Run {
    pub(super) fn id(&self) -> Uuid {
        self.marker.run
    }
}

/// All there is to know about the run of one session.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) run: Run,
    /// The run's claim; none where the marker is void.
    pub(crate) claim: Option<Claim>,
    pub(crate) snapshot: Snapshot,
    /// The agent's signs of life, where a pass has to write them down.
    pub(super) signs: Option<Signs>,
    /// What its Claude Code has left, where that was looked at.
    pub(super) claude: Option<ClaudeEvidence>,
    /// What the agent has cost so far, for a pass to write down while the agent works.
    pub(super) cost_so_far: Option<CostSoFar>,
}

impl Reading {
    /// What an agent at work does: the last tool that it used. It is for people only: what cannot be read is left out.
    pub(crate) fn activity(&self) -> Option<String> {
        self.claude.as_ref()?.transcript.as_ref()?.last_tool()
    }
}

impl Pool<'_> {
    /// Reads all there is to know about the run that a session has; none where it has no marker.
    pub(crate) fn read_run(&self, session: &Session, trigger: Trigger) -> Result<Option<Reading>> {
        let Some(marker) = session.dispatched()? else {
            return Ok(None);
        };
        let pane = self.pane_of(&marker)?;
        self.check_server_of(&marker.task, pane.as_ref())?;
        let lookup = self.find_claim(&marker)?;
        let run = Run { session: session.clone(), marker, pane };
        let (found, mut claude) = self.look(&run, &lookup, trigger)?;
        let claim = match lookup {
            ClaimLookup::Void => None,
            ClaimLookup::Active(claim, _) | ClaimLookup::TaskMissing(claim) => Some(claim),
        };
        let is_probe = claim.as_ref().is_some_and(|claim| self.is_probe(&run, claim));
        // Whether a probe was answered stands in its transcript, which nothing else may have needed so far.
        if let (true, None, Some(claim)) = (is_probe, &claude, &claim) {
            claude = self.claude_evidence(claim.marker())?;
        }
        let already_held = match (&found, &claim) {
            (Found::Started { agent: AgentState::Failed(failure), .. }, Some(claim)) => {
                self.is_held_for(claim, failure)
            }
            _ => false,
        };
        let cost_so_far = match (&found, &claim) {
            (Found::Started { phase: Phase::Working, agent: AgentState::Working }, Some(claim)) => {
                self.cost_so_far(claim, claude.as_ref())
            }
            _ => None,
        };
        let over_budget = match (&cost_so_far, &claim) {
            (Some(so_far), Some(claim)) => self.over_budget_so_far(claim, so_far),
            _ => None,
        };
        let asks_nobody = match (&found, &claim, &claude) {
            (
                Found::Started { agent: AgentState::NeedsAttention(_), .. },
                Some(claim),
                Some(claude),
            ) => {
                self.agent_of(claim.marker()).questions == Questions::Refuse
                    && !claude.was_stopped_by_person()
            }
            _ => false,
        };
        let (time_limit, signs) = match (&found, &claim) {
            (Found::Started { agent, .. }, Some(claim))
                if *agent == AgentState::Working || asks_nobody =>
            {
                self.reached_limit(&run, claim.marker(), claude.as_ref())?
            }
            _ => (None, None),
        };
        let snapshot = Snapshot {
            ends_hold: is_probe && has_answer(&found, answered(&run, claude.as_ref())?),
            already_held,
            after_turn: claim.as_ref().map_or(AfterTurn::File, after_turn),
            report: claude.as_ref().map(ClaudeEvidence::report).unwrap_or_default(),
            found,
            // Only while its window is there: else nobody can be looking at it.
            attended: run.pane.as_ref().is_some_and(|pane| {
                self.has_pane(Some(pane))
                    && (self.is_attended(session) || self.is_watched(&pane.id))
            }),
            last_attempt: claim.as_ref().is_some_and(|claim| self.is_last_attempt(claim)),
            time_limit,
            asks_nobody,
            over_budget,
        };
        Ok(Some(Reading { run, claim, snapshot, signs, claude, cost_so_far }))
    }

    /// What lies where the marker points, and what its Claude Code has left, where something depends on that.
    fn look(
        &self,
        run: &Run,
        lookup: &ClaimLookup,
        trigger: Trigger,
    ) -> Result<(Found, Option<ClaudeEvidence>)> {
        let claim = match lookup {
            ClaimLookup::Void => return Ok((Found::NoClaim, None)),
            ClaimLookup::Active(_, Some(outcome)) => return Ok((Found::Noted(*outcome), None)),
            ClaimLookup::TaskMissing(claim) => return self.look_for_work(run, claim),
            ClaimLookup::Active(claim, None) => claim,
        };
        Ok(match claim.marker().phase {
            Phase::Claimed => (Found::Claimed, None),
            Phase::Launching if run.session.is_unstarted()? => {
                (Found::Unstarted { round: claim.marker().work.rounds.last }, None)
            }
            Phase::Checking => {
                let asked = matches!(trigger, Trigger::Asked(_));
                let found = self.find_check(run, claim, asked)?;
                // Behind a green check the task is filed with what Claude Code has left.
                let claude = match &found {
                    Found::Checking { check: CheckState::Ended(0), .. } => {
                        self.claude_evidence(claim.marker())?
                    }
                    _ => None,
                };
                (found, claude)
            }
            Phase::Landing => (Found::Landing, self.claude_evidence(claim.marker())?),
            phase @ (Phase::Launching | Phase::Working) => {
                let (agent, claude) = self.agent_state(run, claim, trigger)?;
                (Found::Started { phase, agent }, claude)
            }
        })
    }

    /// What is found where the task is gone: its agent may still work.
    fn look_for_work(&self, run: &Run, claim: &Claim) -> Result<(Found, Option<ClaudeEvidence>)> {
        let taken_back = durable::exists(&claim.project().waiting_path(claim.name()))?;
        let no_task = |at_work| Found::NoTask { taken_back, at_work };
        if claim.marker().phase == Phase::Claimed {
            return Ok((no_task(false), None));
        }
        let (agent, claude) = self.agent_state(run, claim, Trigger::Poll)?;
        Ok((no_task(agent == AgentState::Working), claude))
    }

    /// The agent that the claim's run was started with.
    pub(super) fn agent_of(&self, claim: &marker::ClaimMarker) -> &AgentConfig {
        self.config.agents.of_run(&claim.agent)
    }

    /// Where its Claude Code keeps its files.
    pub(super) fn claude_dir_of<'m>(&'m self, claim: &'m marker::ClaimMarker) -> &'m Path {
        match &claim.agent.claude_dir {
            Some(noted) => noted,
            None => &self.agent_of(claim).claude.directory,
        }
    }

    pub(super) fn is_last_attempt(&self, claim: &Claim) -> bool {
        claim.marker().attempt >= self.config.dispatcher.max_attempts
    }

    /// The run's pane. The marker may lack it (the launch was killed) or name the previous try's closed window: then
    /// tmux is asked by the run's id.
    fn pane_of(&self, marker: &Dispatched) -> Result<Option<AgentPane>> {
        let noted = marker.pane.clone();
        if self.has_pane(noted.as_ref()) || matches!(self.panes, Panes::NotAsked) {
            return Ok(noted);
        }
        let of_run = |pane: &&Pane| pane.run == Some(marker.run);
        let found = match self.all_panes().find(of_run) {
            Some(pane) if noted.is_none() => Some(pane.clone()),
            // Another pass may have opened the noted window after this pass has listed the panes.
            _ => {
                let panes = match self.tmux.list_panes() {
                    Err(TmuxError::NoServer) => Vec::new(),
                    panes => panes.map_err(|error| unavailable(&error))?,
                };
                if panes.iter().any(|pane| is_pane(noted.as_ref(), pane)) {
                    return Ok(noted);
                }
                panes.iter().find(of_run).cloned()
            }
        };
        let Some(pane) = found else { return Ok(noted) };
        Ok(Some(AgentPane {
            id: pane.id,
            pid: pane.pid,
            server: Some(Server { pid: pane.server, socket: pane.socket }),
        }))
    }

    /// Whether tmux still had the pane when the pass began.
    fn has_pane(&self, pane: Option<&AgentPane>) -> bool {
        self.all_panes().any(|one| is_pane(pane, one))
    }

    fn find_claim(&self, marker: &Dispatched) -> Result<ClaimLookup> {
        let host = &marker.stamp.host;
        if *host != self.config.host {
            bail!(
                "its task {} is at work on the machine {host}, and this is {}: run ccl there, or, if this machine was renamed, set `host: {host}`",
                marker.task,
                self.config.host
            );
        }
        let project = Project::new(marker.project.clone());
        if !project.exists()? {
            bail!(
                "{} is not there, and with it the task {}: put it back (mount it?), or remove the session's marker",
                marker.project.display(),
                marker.task
            );
        }
        let name = Name::from_marker(&marker.task).with_context(|| {
            format!("{:?} in the session's marker is not a task's name", marker.task)
        })?;
        match owner::known(&self.config.state_dir)? {
            Some(owner) => project.find_claim(&name, marker.run, owner),
            None => bail!(
                "{} is gone, so nothing shows that the task {name} is this pool's: write the `owner` that {} names into it",
                self.config.state_dir.join("owner").display(),
                project.claim_path(&name).display()
            ),
        }
    }

    /// What the window of an agent that has ended badly shows; `None` where tmux does not have it any more.
    pub(super) fn words_of(&self, exit: Exit, pane: Option<&AgentPane>) -> Option<String> {
        match exit {
            Exit::SetupFailed | Exit::Code(1..) => pane.and_then(|pane| {
                // The exit is noted before the window's process ends.
                self.await_last_words(pane, LAST_WORDS_WAIT);
                self.tmux.capture_last(&pane.id).ok()
            }),
            // The screen would add nothing. Not `None`, which says that the window is gone.
            _ => Some(String::new()),
        }
    }

    /// Waits until tmux has read all that the window's process has written before its end.
    pub(super) fn await_last_words(&self, pane: &AgentPane, limit: Duration) {
        let deadline = Instant::now() + limit;
        // A tmux that does not answer is met by the next call.
        while !self.tmux.has_read_all(&pane.id).unwrap_or(true) && Instant::now() < deadline {
            sleep(Duration::from_millis(5));
        }
    }

    /// What the agent is doing, by all the evidence there is, and what its Claude Code has left, where that counts.
    fn agent_state(
        &self,
        run: &Run,
        claim: &Claim,
        trigger: Trigger,
    ) -> Result<(AgentState, Option<ClaudeEvidence>)> {
        // Looked at before the evidence: once an agent is gone, what it leaves at its end is there.
        let lives = match agent_lives(run.pane.as_ref(), run.id()) {
            // The agent runs behind a `sudo` of its own, say.
            Err(error) if is_forbidden(&error) => {
                let why = "its agent belongs to another user (`sudo`?), who hides whether it is done: attach to its session and end it";
                return Ok((AgentState::NeedsAttention(why.to_owned()), None));
            }
            lives => lives?,
        };
        let marker = claim.marker();
        if let Some(exit) = Exit::read(&run.session.files().exit, run.id())? {
            let state = match exit {
                Exit::Code(0) => AgentState::Finished(AgentReport::default()),
                exit => {
                    let screen = self.words_of(exit, run.pane.as_ref());
                    let agent = self.agent_of(marker);
                    AgentState::Failed(exit.failure(agent, &claim.directory(), screen.as_deref()))
                }
            };
            return Ok((state, None));
        }
        let Some(claude) = self.claude_evidence(marker)? else {
            let state = match lives {
                true => AgentState::Working,
                false => AgentState::Interrupted(format!(
                    "{} ended without an exit status: it was killed, or its window was closed",
                    self.agent_of(marker).program()
                )),
            };
            return Ok((state, None));
        };
        let state = self.state_of_claude(run, marker, &claude, lives, trigger)?;
        Ok((state, Some(claude)))
    }

    fn state_of_claude(
        &self,
        run: &Run,
        claim: &marker::ClaimMarker,
        claude: &ClaudeEvidence,
        lives: bool,
        trigger: Trigger,
    ) -> Result<AgentState> {
        let capture = match &run.pane {
            Some(pane) if lives && self.has_pane(Some(pane)) => {
                match self.tmux.capture(&pane.id) {
                    // A person has just closed it.
                    Err(error) if error.is_no_pane() => String::new(),
                    captured => captured.map_err(|error| unavailable(&error))?,
                }
            }
            _ => String::new(),
        };
        let ClaudeEvidence { transcript, summary, registered } = claude;
        Ok(judge(&Observations {
            alive: lives,
            status: registered.as_ref().and_then(|entry| entry.status.as_deref()),
            quiet: claude::quiet_for(transcript.as_ref(), registered.as_ref(), self.now),
            summary: summary.as_ref(),
            screen: lives.then(|| screen::recognise(&capture)),
            idle_hint: trigger.is_idle(run.id()),
            background: claude::has_background(&run.session.files().stop),
            key_file: self.agent_of(claim).api_key_file.as_deref(),
            now: self.now,
        }))
    }
}

/// The evidence that shows whether the run's agent was answered.
fn answered(run: &Run, claude: Option<&ClaudeEvidence>) -> Result<Answered> {
    Ok(match claude {
        Some(claude) => Answered::ByApi(claude.has_answer()),
        None => {
            let exit = Exit::read(&run.session.files().exit, run.id())?;
            Answered::ByExit(matches!(exit, Some(Exit::Code(_))))
        }
    })
}

fn is_pane(noted: Option<&AgentPane>, pane: &Pane) -> bool {
    noted.is_some_and(|noted| (&noted.id, noted.pid) == (&pane.id, pane.pid))
}

/// Whether the agent of this run lives: the process of its window, or, where that is gone or not known, the one that
/// was started for the run, wherever it is.
pub(super) fn agent_lives(pane: Option<&AgentPane>, run: Uuid) -> Result<bool> {
    let in_window = pane.map_or(Ok(false), |pane| {
        process::window_lives(pane.pid, pane.server.as_ref().map(|server| server.pid), run)
    });
    Ok(in_window.context(UNSEEN)? || process::leader_of(run).context(UNSEEN)?.is_some())
}

/// Whether the system does not let us look at another user's process.
fn is_forbidden(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}
