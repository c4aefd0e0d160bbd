//! One attempt at a task: its conversation, the files that are written for it, its window, and the evidence that the
//! agent has the task.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use uuid::Uuid;

use super::snapshot::{LAST_WORDS_WAIT, Run};
use super::{Pool, Session, unavailable};
use crate::agent::claude::{self, Transcript};
use crate::agent::command::Exit;
use crate::agent::screen::{self, Dialog, Screen};
use crate::agent::transcript::Turn;
use crate::agent::{self, ClaudeOptions, Files, Launch, Setup};
use crate::checkout;
use crate::config::{AgentConfig, AgentKind};
use crate::durable;
use crate::event::{Event, EventKind};
use crate::marker::{self, AgentPane, ClaimedCheckout, Phase, Server, StartedAgent, Work};
use crate::next_step::AttemptFailure;
use crate::process;
use crate::queue::{Claim, WaitingTask};
use crate::task::{Outcome, Task};
use crate::tmux::{NewWindow, TmuxError};

/// How often evidence is looked for: often at first, for a script starts within milliseconds, less often later.
const SHORTEST_POLL: Duration = Duration::from_millis(5);
const LONGEST_POLL: Duration = Duration::from_millis(50);
/// How often the screen is looked at, which costs a call of tmux.
const SCREEN_POLL: Duration = Duration::from_millis(500);

/// One attempt that is under way.
pub(super) struct Attempt {
    pub(super) run: Run,
    pub(super) claim: Claim,
    /// Claude Code's; none for another agent.
    pub(super) conversation: Option<Conversation>,
    pub(super) message: String,
    pub(super) taken_over: Option<TakenOver>,
}

/// Which agent began a task that another agent continues, and why the first one stopped.
pub(super) struct TakenOver {
    pub(super) from: String,
    pub(super) why: String,
}

impl TakenOver {
    pub(super) fn of(task: &Task, agent: &str) -> Option<Self> {
        let ending = task.ending.as_ref().filter(|it| it.outcome == Outcome::Released)?;
        let from = ending.agent().filter(|from| *from != agent)?.to_owned();
        Some(Self { from, why: ending.reason.clone().unwrap_or_default() })
    }

    pub(super) fn switched(&self, event_of: impl FnOnce(EventKind) -> Event, to: &str) -> Event {
        let Self { from, why } = self;
        event_of(EventKind::Switched).because(format!("{from} → {to}: {why}"))
    }
}

/// The conversation of Claude Code that an attempt uses.
pub(super) struct Conversation {
    pub(super) id: Uuid,
    pub(super) resume: bool,
    /// The file that asked for it, removed once the agent has the task.
    pub(super) request: Option<PathBuf>,
}

/// What the evidence shows of a launched agent.
pub(super) enum Evidence {
    HasTask,
    /// Claude Code does not know the conversation that it was to resume.
    ResumeRefused,
    /// The window's shell did not start it, and cannot any more: its ticket is gone.
    NotStarted(AttemptFailure),
    /// It ended, asks something, or shows nothing within the time limit.
    Failed(AttemptFailure),
}

impl Pool<'_> {
    pub(super) fn claim_marker(
        &self,
        run: &Run,
        owner: Uuid,
        task: &WaitingTask,
        (agent, model): (&AgentConfig, Option<String>),
        conversation: Option<&Conversation>,
        mut work: Work,
    ) -> Result<marker::ClaimMarker> {
        work.timeout = task.task.timeout();
        work.cost_before = task.task.cost();
        work.begin(self.work_clock(&work.rules)?);
        let transcript_from = match conversation {
            Some(conversation) => Transcript::find(&agent.claude.directory, conversation.id)?
                .map_or(0, |transcript| transcript.length()),
            None => 0,
        };
        Ok(marker::ClaimMarker {
            stamp: self.stamp(),
            owner,
            session: run.session.name.clone(),
            run: run.id(),
            phase: Phase::Claimed,
            attempt: task.task.attempts_made().saturating_add(1),
            started_at: self.now,
            agent: StartedAgent {
                name: Some(agent.name.clone()),
                kind: agent.kind,
                claude_dir: conversation.map(|_| agent.claude.directory.clone()),
                model,
                session: conversation.map(|conversation| conversation.id),
                transcript_from,
            },
            work,
        })
    }

    /// Chooses the conversation: the task's own, if an attempt was interrupted; one that another program asked to
    /// resume in this session; else a new one.
    pub(super) fn conversation(
        &self,
        session: &Session,
        task: &Task,
        agent: &AgentConfig,
        run: Uuid,
    ) -> Result<Option<Conversation>> {
        if agent.kind != AgentKind::Claude {
            return Ok(None);
        }
        let interrupted = task
            .ending
            .as_ref()
            .filter(|ending| ending.outcome == Outcome::Released)
            .and_then(|ending| Uuid::try_parse(ending.agent_session.as_deref()?).ok());
        if let Some(id) = interrupted
            // An agent can resume another agent's conversation where both keep their files in one directory.
            && Transcript::find(&agent.claude.directory, id)?.is_some()
        {
            return Ok(Some(Conversation { id, resume: true, request: None }));
        }
        let requested = claude::resume_request(&self.config.home, &session.name);
        Ok(Some(match requested {
            Some((path, id)) => Conversation { id, resume: true, request: Some(path) },
            None => Conversation { id: run, resume: false, request: None },
        }))
    }

    pub(super) fn retry_without_resume(&self, attempt: &mut Attempt) -> Result<()> {
        self.log.warn(format_args!(
            "{}: Claude Code does not know the conversation to resume; starting a new one",
            attempt.run.session.name
        ));
        let request = attempt.conversation.take().and_then(|conversation| conversation.request);
        let id = Uuid::new_v4();
        attempt.conversation = Some(Conversation { id, resume: false, request });
        attempt.claim.update(self.now, |claim| {
            claim.agent.session = Some(id);
            claim.agent.transcript_from = 0;
        })
    }

    /// Writes what the window runs; the ticket last.
    pub(super) fn write_files(&self, attempt: &Attempt) -> Result<()> {
        let files = attempt.run.session.files();
        let claim = attempt.claim.marker();
        // Left by an earlier round or try of this run, they would be taken for those of this one.
        for stale in [&files.exit, &files.stop, &attempt.run.session.taken_path()] {
            durable::remove(stale)?;
        }
        let agent = self.agent_of(claim);
        let hooks = attempt.conversation.is_some() && agent.hooks;
        if hooks {
            self.write_hook(&attempt.run, &attempt.claim, &files)?;
        }
        let claude = attempt.conversation.as_ref().map(|conversation| ClaudeOptions {
            model: claim.agent.model.as_deref().unwrap_or_default(),
            session: conversation.id,
            resume: conversation.resume,
            config_dir: agent.claude.config_dir(),
            hooks,
            api_key_file: agent.api_key_file.as_deref(),
            questions: agent.questions,
            fallback_model: agent.fallback_model.as_deref(),
        });
        let work = &claim.work;
        let stamp = match &work.checkout {
            Some(ClaimedCheckout::Own { worktree, .. }) => Some(checkout::setup_stamp(worktree)?),
            _ => None,
        };
        let setup = stamp.as_deref().map(|stamp| Setup {
            from: attempt.claim.project().path(),
            copy: &work.rules.copy,
            command: work.rules.setup.as_deref(),
            stamp,
        });
        let directory = attempt.claim.directory();
        let launch = Launch {
            command: &agent.command,
            kind: agent.kind,
            env: &agent.env,
            run: claim.run,
            directory: &directory,
            setup,
            files: &files,
            message: &attempt.message,
            claude,
        };
        // The first two are not synced: no window that could run them outlives a crash of the machine. The ticket is:
        // by it a later pass sees whether the agent has started.
        durable::write_unsynced(&files.prompt, attempt.message.as_bytes(), durable::PRIVATE)?;
        durable::write_unsynced(&files.run, launch.script()?.as_bytes(), durable::PRIVATE)?;
        durable::write(&files.ticket, b"", durable::PRIVATE)
    }

    /// Writes the script that Claude Code's hooks and the end of a check run: it keeps the input of `Stop`, and has
    /// tmux call `ccl assign`, so that Claude Code is not held up.
    pub(super) fn write_hook(&self, run: &Run, claim: &Claim, files: &Files) -> Result<()> {
        let program = process::own_program().context("cannot find ccl's own program file")?;
        // It is called in tmux's environment, which knows nothing of this pass. Where this pass has no configuration
        // file, it gets an empty one, so that it finds no other.
        let config = self.config.file.as_deref().unwrap_or(Path::new("/dev/null"));
        let mut assign = Vec::new();
        if let Some(dir) = self.config.claude.config_dir() {
            let dir = agent::quote_path(dir)?;
            assign.extend(["env".to_owned(), format!("CLAUDE_CONFIG_DIR={dir}")]);
        }
        assign.extend([
            agent::quote_path(&program)?,
            "--config".to_owned(),
            agent::quote_path(config)?,
            "--state-dir".to_owned(),
            agent::quote_path(&self.config.state_dir)?,
            "assign".to_owned(),
            format!("--run={}", run.id()),
        ]);
        if self.config.file.is_none() {
            // Without a configuration the project would be that of the directory in which tmux runs.
            assign.push("--project".to_owned());
            assign.push(agent::quote_path(claim.project().path())?);
        }
        assign.push(run.session.name.clone());
        let script = agent::hook_script(&self.config.tmux, &assign, &files.stop)?;
        durable::write_unsynced(&files.hook, script.as_bytes(), durable::PRIVATE)
    }

    /// Opens the window in which the script runs, and notes its pane.
    pub(super) fn open_window(&self, run: &mut Run, shell: &Path, script: &Path) -> Result<()> {
        let window = NewWindow {
            session: &run.session.name,
            name: &run.marker.task,
            run: run.marker.run,
            script,
            shell,
            cwd: &self.config.home,
        };
        let pane = match self.tmux.new_window(&window) {
            // The session has ended with its last window, that of the run before, and the server with its last session.
            Err(error)
                if self.config.pool.create
                    && (error.is_no_session() || error == TmuxError::NoServer) =>
            {
                self.make_session(&run.session)?;
                self.tmux.new_window(&window)
            }
            opened => opened,
        };
        let pane = pane.map_err(|error| unavailable(&error))?;
        let server = Server { pid: pane.server, socket: pane.socket };
        let pane = AgentPane { id: pane.id, pid: pane.pid, server: Some(server) };
        run.pane = Some(pane.clone());
        run.marker.pane = Some(pane);
        // Not synced: no pane outlives the machine.
        marker::write_unsynced(&run.session.marker_path(), &run.marker)
    }

    /// Waits until the script in the window has taken its ticket, up to `prompt_timeout`. A later pass may remove a
    /// ticket that still lies there.
    pub(super) fn await_start(&self, run: &Run, ticket: &Path) -> Result<()> {
        let deadline = Instant::now() + self.config.dispatcher.prompt_timeout;
        while durable::exists(ticket)? && has_process(run)? && Instant::now() < deadline {
            thread::sleep(SHORTEST_POLL);
        }
        Ok(())
    }

    /// Waits for evidence, up to `prompt_timeout`. `sets_up`: a set-up runs before the agent.
    pub(super) fn await_evidence(&self, attempt: &Attempt, sets_up: bool) -> Result<Evidence> {
        let started = Instant::now();
        let limit = self.config.dispatcher.prompt_timeout;
        let ticket = attempt.run.session.files().ticket;
        let mut look_at_screen = started + SCREEN_POLL;
        loop {
            // Looked at before the evidence: once an agent is gone, what it leaves at its end is there.
            let lives = has_process(&attempt.run)?;
            let started_agent = !durable::exists(&ticket)?;
            if let Some(evidence) = self.evidence(attempt, sets_up, started_agent, lives)? {
                return Ok(evidence);
            }
            let now = Instant::now();
            if started_agent && now >= look_at_screen {
                look_at_screen = now + SCREEN_POLL;
                if let Some(dialog) = self.first_dialog(attempt)? {
                    let agent = self.agent_of(attempt.claim.marker());
                    let failure = dialog.failure(agent.api_key_file.as_deref());
                    return Ok(Evidence::Failed(failure));
                }
            }
            let timed_out = now >= started + limit;
            // An agent whose ticket is taken away now never starts; one that was faster has started, and is looked at
            // once more.
            if (timed_out || !lives) && attempt.run.session.take_ticket()? {
                return self.not_started(attempt, lives).map(Evidence::NotStarted);
            }
            if timed_out && started_agent {
                return self.no_sign(attempt).map(Evidence::Failed);
            }
            thread::sleep((started.elapsed() / 10).clamp(SHORTEST_POLL, LONGEST_POLL));
        }
    }

    fn evidence(
        &self,
        attempt: &Attempt,
        sets_up: bool,
        started_agent: bool,
        lives: bool,
    ) -> Result<Option<Evidence>> {
        let claim = attempt.claim.marker();
        let exit = Exit::read(&attempt.run.session.files().exit, claim.run)?;
        let agent = self.agent_of(claim);
        let program = agent.program();
        let has_task = match (exit, claim.agent.session) {
            // A command agent has run. A later pass judges how it ended, as of any agent that has ended.
            (Some(Exit::Code(_)), None) => true,
            (Some(exit), _) => {
                let screen = self.words_of(exit, attempt.run.pane.as_ref());
                let failure = exit.failure(agent, &attempt.claim.directory(), screen.as_deref());
                return Ok(Some(Evidence::Failed(failure)));
            }
            (None, None) => started_agent && lives,
            // The set-up may take longer than `prompt_timeout`: a later pass sees what comes of it.
            (None, Some(_)) if sets_up && started_agent && lives => true,
            (None, Some(id)) => started_agent && self.has_prompt(id, claim)?,
        };
        // As long as it lives, or has not started, more evidence may come.
        if has_task || lives || !started_agent {
            return Ok(has_task.then_some(Evidence::HasTask));
        }
        let screen = self.last_screen(attempt)?.unwrap_or_default();
        if let Some(Conversation { id, resume: true, .. }) = &attempt.conversation {
            let refusal = format!("No conversation found with session ID: {id}");
            // Narrow windows wrap the sentence.
            if screen.replace('\n', "").contains(&refusal) {
                return Ok(Some(Evidence::ResumeRefused));
            }
        }
        Ok(Some(Evidence::Failed(AttemptFailure::of_task(format!(
            "{program} ended before it had the task; its screen's last line: {}",
            last_line(&screen)
        )))))
    }

    /// The window's shell did not start the agent, which no task can cause.
    fn not_started(&self, attempt: &Attempt, lives: bool) -> Result<AttemptFailure> {
        let agent = self.agent_of(attempt.claim.marker());
        let (shell, program) = (agent.shell().display(), agent.program());
        let seconds = self.config.dispatcher.prompt_timeout.as_secs();
        let screen = if lives { Some(self.screen(attempt)?) } else { self.last_screen(attempt)? };
        let Some(screen) = screen else {
            // It was closed from outside: neither the task nor the shell is to blame.
            let reason = format!("its window was closed before {program} had started");
            return Ok(AttemptFailure { counts: false, ..AttemptFailure::of_task(reason) });
        };
        let last = last_line(&screen);
        Ok(AttemptFailure::of_machine(if lives {
            format!(
                "the shell {shell} did not start {program} within {seconds} s: mend its start-up files, one of which hangs or asks something, or name another shell in agent.shell; its screen's last line: {last}"
            )
        } else {
            format!(
                "the shell {shell} ended before it started {program}: mend its start-up files, or name another shell in agent.shell; its screen's last line: {last}"
            )
        }))
    }

    /// The failure of an agent that has shown no sign of having the task within `prompt_timeout`.
    fn no_sign(&self, attempt: &Attempt) -> Result<AttemptFailure> {
        let seconds = self.config.dispatcher.prompt_timeout.as_secs();
        Ok(AttemptFailure::of_task(format!(
            "the agent showed no sign of having the task within {seconds} s; its screen's last line: {}",
            last_line(&self.screen(attempt)?)
        )))
    }

    /// The dialog that Claude Code shows instead of taking the prompt. Claude Code registers only after the dialogs of
    /// its start. Once it is registered, a dialog (a limit's menu, say) came of the prompt, which the transcript is
    /// about to show.
    fn first_dialog(&self, attempt: &Attempt) -> Result<Option<Dialog>> {
        let Some(Conversation { id, .. }) = &attempt.conversation else {
            return Ok(None);
        };
        let Screen::Dialog(dialog) = screen::recognise(&self.screen(attempt)?) else {
            return Ok(None);
        };
        let is_agents = |pid| process::is_of_run(pid, attempt.run.id());
        let claude_dir = self.claude_dir_of(attempt.claim.marker());
        let registered = claude::registered(claude_dir, *id, is_agents);
        Ok(registered.is_none().then_some(dialog))
    }

    fn has_prompt(&self, id: Uuid, claim: &marker::ClaimMarker) -> Result<bool> {
        Ok(match Transcript::find(self.claude_dir_of(claim), id)? {
            Some(found) => found.summary(claim.agent.transcript_from)?.turn != Turn::None,
            None => false,
        })
    }

    /// What the window shows; nothing where a person has closed it.
    fn screen(&self, attempt: &Attempt) -> Result<String> {
        let captured = attempt.run.pane.as_ref().map(|pane| self.tmux.capture(&pane.id));
        Ok(unless_closed(captured)?.unwrap_or_default())
    }

    /// What the window shows once its process has ended; none where a person has closed it. tmux may not have read the
    /// last words yet, which is waited for.
    fn last_screen(&self, attempt: &Attempt) -> Result<Option<String>> {
        if let Some(pane) = &attempt.run.pane {
            self.await_last_words(pane, LAST_WORDS_WAIT);
        }
        unless_closed(attempt.run.pane.as_ref().map(|pane| self.tmux.capture_last(&pane.id)))
    }
}

/// Whether a launch runs `setup` before the agent: once, and only in a worktree of the task's own.
pub(super) fn sets_up(work: &Work) -> Result<bool> {
    Ok(match &work.checkout {
        Some(ClaimedCheckout::Own { worktree, .. }) if work.rules.setup.is_some() => {
            !durable::exists(&checkout::setup_stamp(worktree)?)?
        }
        _ => false,
    })
}

/// What tmux says of a window's pane; none where there is none, or a person has closed it.
fn unless_closed<T>(said: Option<Result<T, TmuxError>>) -> Result<Option<T>> {
    match said {
        None => Ok(None),
        Some(Err(error)) if error.is_no_pane() => Ok(None),
        Some(said) => said.map(Some).map_err(|error| unavailable(&error)),
    }
}

/// Whether the process that tmux started in the window is there: a child of its server, whatever program it is by now.
fn has_process(run: &Run) -> Result<bool> {
    let Some(AgentPane { pid, server: Some(server), .. }) = &run.pane else {
        return Ok(false);
    };
    let process = process::stat(*pid).context("cannot see what runs in its window")?;
    Ok(process.is_some_and(|process| process.is_alive() && process.ppid == Some(server.pid)))
}

/// The last line that a program has written.
fn last_line(screen: &str) -> &str {
    let mut lines = screen.lines().rev().map(str::trim);
    // tmux writes this below it, once the program has ended.
    lines.find(|line| !line.is_empty() && !line.starts_with("Pane is dead")).unwrap_or("(none)")
}

#[cfg(test)]
mod tests {
    use super::last_line;

    #[test]
    fn what_tmux_writes_below_is_not_the_programs_last_line() {
        let dead = "Pane is dead (status 3, Thu Nov 26 14:00:00 2026)";
        assert_eq!(last_line(&format!("starting\n  no licence  \n\n{dead}\n")), "no licence");
        assert_eq!(last_line(&format!("\n{dead}\n")), "(none)");
    }
}
