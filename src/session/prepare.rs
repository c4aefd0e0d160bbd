//! What lies on disk before anything is typed: the claim's marker, and the files
//! of one launch.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use uuid::Uuid;

use super::launch::Attempt;
use super::{Pool, Session};
use crate::agent::claude;
use crate::agent::{self, ClaudeOptions, Files, Launch};
use crate::config::AgentKind;
use crate::durable;
use crate::marker::{self, Agent, Phase};
use crate::process;
use crate::queue::WaitingTask;
use crate::task::{Outcome, Task};

/// The conversation of Claude Code that a launch uses.
pub(super) struct Conversation {
    pub(super) id: Uuid,
    pub(super) resume: bool,
    /// The request that asked for it, removed once the agent has the task.
    pub(super) request: Option<PathBuf>,
}

impl Pool<'_> {
    pub(super) fn claim_marker(
        &self,
        session: &Session,
        work: &WaitingTask,
        (owner, run): (Uuid, Uuid),
        conversation: Option<&Conversation>,
    ) -> Result<marker::Claim> {
        let models = &self.config.dispatcher.models;
        let transcript_from = match conversation {
            Some(conversation) => {
                claude::transcript_length(&self.config.claude_dir, conversation.id)?
            }
            None => 0,
        };
        Ok(marker::Claim {
            stamp: self.stamp(),
            owner,
            session: session.name.clone(),
            run,
            phase: Phase::Claimed,
            attempt: work.task.attempts_made().saturating_add(1),
            started_at: self.now,
            agent: Agent {
                kind: self.config.agent.kind,
                model: conversation.map(|_| models.for_priority(work.task.priority).to_owned()),
                session: conversation.map(|conversation| conversation.id),
                transcript_from,
            },
        })
    }

    /// Which conversation: the task's own, if an attempt was interrupted; one
    /// that another program asked to resume in this session; else a new one.
    pub(super) fn conversation(
        &self,
        session: &Session,
        task: &Task,
        run: Uuid,
    ) -> Result<Option<Conversation>> {
        if self.config.agent.kind != AgentKind::Claude {
            return Ok(None);
        }
        let interrupted = task
            .ending
            .as_ref()
            .filter(|ending| ending.outcome == Outcome::Released)
            .and_then(|ending| Uuid::try_parse(ending.agent_session.as_deref()?).ok());
        let own = match interrupted {
            Some(id) => claude::transcript_path(&self.config.claude_dir, id)?.map(|_| (id, None)),
            None => None,
        };
        let asked = || {
            claude::resume_request(&self.config.home, &session.name)
                .map(|(path, id)| (id, Some(path)))
        };
        Ok(Some(match own.or_else(asked) {
            Some((id, request)) => Conversation { id, resume: true, request },
            None => Conversation { id: run, resume: false, request: None },
        }))
    }

    pub(super) fn start_afresh(&self, attempt: &mut Attempt<'_>) -> Result<()> {
        self.log.warn(format_args!(
            "{}: Claude Code does not know the conversation to resume; starting a new one",
            attempt.session.name
        ));
        let request = attempt.conversation.take().and_then(|c| c.request);
        let id = Uuid::new_v4();
        attempt.conversation = Some(Conversation { id, resume: false, request });
        attempt.claim.converse(id, self.now)
    }

    pub(super) fn write_files(&self, attempt: &Attempt<'_>) -> Result<()> {
        let files = attempt.session.files();
        let claim = attempt.claim.marker();
        for stale in [&files.exit, &files.stop] {
            durable::remove(stale)?;
        }
        let hooks = attempt.conversation.is_some() && self.config.agent.hooks;
        if hooks {
            let script = self.hook_script(attempt, &files)?;
            durable::write_unsynced(&files.hook, script.as_bytes(), durable::PRIVATE)?;
        }
        let launch = Launch {
            command: &self.config.agent.command,
            kind: self.config.agent.kind,
            run: claim.run,
            project: attempt.claim.project().path(),
            files: &files,
            message: &attempt.message,
            claude: attempt.conversation.as_ref().map(|conversation| ClaudeOptions {
                model: claim.agent.model.as_deref().unwrap_or_default(),
                session: conversation.id,
                resume: conversation.resume,
                config_dir: self.config.claude_config_dir(),
                hooks,
            }),
        };
        // No shell that could run them outlives the machine; the ticket tells whether one has.
        durable::write_unsynced(&files.prompt, attempt.message.as_bytes(), durable::PRIVATE)?;
        durable::write_unsynced(&files.run, launch.script()?.as_bytes(), durable::PRIVATE)?;
        durable::write(&files.ticket, b"", durable::PRIVATE)
    }

    /// What Claude Code's hooks run: it keeps what `Stop` was told, and has tmux
    /// call `ccl assign`, so that Claude Code is not held up.
    fn hook_script(&self, attempt: &Attempt<'_>, files: &Files) -> Result<String> {
        let program = process::own_program().context("cannot tell where ccl itself lies")?;
        let config = self.config.file.as_deref().unwrap_or(Path::new("/dev/null"));
        let mut assign = Vec::new();
        if let Some(dir) = self.config.claude_config_dir() {
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
            format!("--run={}", attempt.claim.marker().run),
        ]);
        if self.config.file.is_none() {
            assign.push("--project".to_owned());
            assign.push(agent::quote_path(attempt.claim.project().path())?);
        }
        assign.push(attempt.session.name.clone());
        agent::hook_script(&self.config.tmux, &assign, &files.stop)
    }
}
