//! Whether Claude Code trusts the projects, by the agent that each task would have.

use std::collections::HashMap;
use std::path::Path;

use crate::agent::claude::Trust;
use crate::config::{AgentConfig, AgentKind};
use crate::hold::{Choice, Lineup, Wanted};

/// What the Claude Code of each agent trusts. Each one's file is read once.
#[derive(Default)]
pub(super) struct Trusts<'a>(HashMap<&'a str, Trust>);

impl<'a> Trusts<'a> {
    /// The sentence that mends it where the agent's Claude Code does not trust the project; `None` also for another
    /// program.
    pub(super) fn refusal(&mut self, agent: &'a AgentConfig, project: &Path) -> Option<String> {
        let trust = self.of(agent)?;
        trust.refuses(project).then(|| trust.advice(project))
    }

    /// What Claude Code trusts for this agent; `None` where the agent is another program.
    pub(super) fn of(&mut self, agent: &'a AgentConfig) -> Option<&Trust> {
        let is_claude = agent.kind == AgentKind::Claude;
        is_claude.then(|| &*self.0.entry(&agent.name).or_insert_with(|| Trust::read(&agent.claude)))
    }

    /// [`Self::refusal`] of the agent that a task would get; `None` also where the task waits for an agent.
    pub(super) fn refusal_of(
        &mut self,
        lineup: &Lineup<'a>,
        wanted: Wanted<'_>,
        project: &Path,
    ) -> Option<String> {
        match lineup.choose(wanted) {
            Choice::Agent { agent, .. } => self.refusal(agent, project),
            Choice::Wait(_) | Choice::Last(_) => None,
        }
    }
}
