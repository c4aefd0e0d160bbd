//! What a run's agent is given back after its turn: a red check, or a conflict with what its base has become.

use anyhow::Result;

use super::Pool;
use super::attempt::{Attempt, Conversation};
use super::snapshot::Run;
use crate::agent;
use crate::agent::claude::Transcript;
use crate::marker::Round;
use crate::next_step::Phase;
use crate::queue::{self, Claim};

impl Pool<'_> {
    /// Gives the agent what came of its turn, in the same conversation and in a new window. A later pass, or the
    /// agent's hook, sees what it does there.
    pub(super) fn request_fix(
        &self,
        run: &Run,
        claim: Claim,
        what: String,
        round: Round,
    ) -> Result<()> {
        self.close_window(run)?;
        let first = what.lines().next().unwrap_or_default();
        self.log.info(format_args!("{}: given back to its agent: {first}", claim.name()));
        let (conversation, message) = match claim.marker().agent.session {
            Some(id) => (Some(Conversation { id, resume: true, request: None }), what),
            // A command agent has no conversation, so it gets its task once more.
            None => (None, format!("{}\n\n{what}", self.message_of(&claim)?)),
        };
        let from = match claim.marker().agent.session {
            Some(id) => {
                let claude_dir = self.claude_dir_of(claim.marker());
                Transcript::find(claude_dir, id)?.map(|it| it.length())
            }
            None => None,
        };
        let run = Run { pane: None, ..run.clone() };
        let clock = self.work_clock(&claim.marker().work.rules)?;
        let mut attempt = Attempt { run, claim, conversation, message, taken_over: None };
        // The ticket is there before the phase, as in a launch: a missing one then shows that the agent has started.
        self.write_files(&attempt)?;
        attempt.claim.update(self.now, |claim| {
            claim.phase = Phase::Launching;
            claim.work.rounds.begin(round, from.unwrap_or(0));
            // It gives up its turn: others may land meanwhile.
            claim.work.landing = None;
            claim.work.begin(clock);
        })?;
        let files = attempt.run.session.files();
        let shell = self.agent_of(attempt.claim.marker()).shell();
        self.open_window(&mut attempt.run, shell, &files.run)?;
        self.await_start(&attempt.run, &files.ticket)
    }

    /// Undoes a round that the agent never started: the check, or landing, finds out once more what to give back.
    pub(super) fn undo_round(&self, claim: &mut Claim, round: Round) -> Result<()> {
        let clock = self.work_clock(&claim.marker().work.rules)?;
        claim.update(self.now, |claim| {
            claim.phase = match round {
                Round::Red => Phase::Checking,
                Round::Conflict => Phase::Landing,
            };
            claim.work.check = None;
            claim.work.rounds.undo(round);
            claim.work.end(clock);
        })
    }

    /// What the agent of a claimed task was asked to do.
    fn message_of(&self, claim: &Claim) -> Result<String> {
        let path = claim.project().dispatched_path(claim.name());
        let task = queue::read_file(&path).map_err(anyhow::Error::from)?;
        Ok(agent::message(&self.config.dispatcher, claim.name().as_str(), &task.body, &path))
    }
}
