//! Whether Claude Code trusts the projects, by the agent that each task would have.

use std::collections::HashMap;
use std::path::Path;

use crate::agent::claude::Trust;
use crate::config::{AgentConfig, AgentKind};
use crate::hold::{Choice, Lineup, Wanted};

/// Whom the Claude Code of each agent trusts; what each of them says is read once.
#[derive(Default)]
pub(super) struct Trusts<'a>(HashMap<&'a str, Trust>);

impl<'a> Trusts<'a> {
    /// The sentence that mends it where the agent is not let into the project; `None` also where it is no Claude Code.
    pub(super) fn refusal(&mut self, agent: &'a AgentConfig, project: &Path) -> Option<String> {
        let trust = self.of(agent)?;
        trust.refuses(project).then(|| trust.advice(project))
    }

    /// What Claude Code trusts for this agent; `None` where the agent is another program.
    pub(super) fn of(&mut self, agent: &'a AgentConfig) -> Option<&Trust> {
        let is_claude = agent.kind == AgentKind::Claude;
        is_claude.then(|| &*self.0.entry(&agent.name).or_insert_with(|| Trust::read(&agent.claude)))
    }

    /// The sentence that mends it where the agent that a task would get is not let into the project; `None` also where the
    /// task waits for an agent.
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
