//! Which provider a task goes to, and by which rule. Pure.

use std::fmt;

use serde::Deserialize;

use crate::task::{Complexity, Field, HeaderState, Preference, Provider, Routing};

/// Where `preferred_ai: auto` sends a task of each `complexity_hint`: `routing.auto` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "keys and values")]
pub struct AutoRoutes {
    pub low: Provider,
    pub medium: Provider,
    pub high: Provider,
}

impl Default for AutoRoutes {
    fn default() -> Self {
        Self { low: Provider::Gpu, medium: Provider::Gemini, high: Provider::ClaudeApi }
    }
}

impl AutoRoutes {
    fn of(&self, hint: Complexity) -> Provider {
        match hint {
            Complexity::Low => self.low,
            Complexity::Medium => self.medium,
            Complexity::High => self.high,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The one that the rule names. Where delegation is off, the task runs locally all the same.
    pub provider: Provider,
    pub rule: Rule,
}

/// The rules of routing, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// `needs_claude_code: true`
    NeedsClaudeCode,
    /// `preferred_ai: claude-code`
    PreferredClaudeCode,
    /// `allow_delegation` is not true.
    DelegationNotAllowed,
    /// A routing field of the wrong type, a duplicate key, a header that does not parse.
    InvalidFrontmatter,
    /// `preferred_ai` names a remote provider.
    PreferredAi,
    /// `preferred_ai` is auto or absent, and there is a `complexity_hint`.
    Auto,
    /// `preferred_ai` is auto or absent, and there is no `complexity_hint`.
    AutoWithoutHint,
    /// An unknown word in `preferred_ai` or `complexity_hint`.
    UnknownProvider,
    /// No agent of this machine can take the task soon, and `failover` names secutools.
    Failover,
    /// What secutools may cost today is spent.
    OverBudget,
}

impl Rule {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NeedsClaudeCode => "needs-claude-code",
            Self::PreferredClaudeCode => "preferred-claude-code",
            Self::DelegationNotAllowed => "delegation-not-allowed",
            Self::InvalidFrontmatter => "invalid-frontmatter",
            Self::PreferredAi => "preferred-ai",
            Self::Auto => "auto",
            Self::AutoWithoutHint => "auto-without-hint",
            Self::UnknownProvider => "unknown-provider",
            Self::Failover => "failover",
            Self::OverBudget => "over-budget",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Decides where a task goes: the first rule that matches wins.
///
/// A header that does not parse gets the rule `invalid-frontmatter`, although its `allow_delegation` is not true
/// either. A bad `complexity_hint` keeps a task local even beside a good `preferred_ai`: bad input never leaves the
/// machine.
pub fn decide(routing: &Routing, auto: &AutoRoutes) -> Decision {
    use Field::{Absent, Given};
    use Preference::{Auto, Provider as Named};
    let local = |rule| Decision { provider: Provider::ClaudeCode, rule };

    if routing.needs_claude_code == Given(true) {
        return local(Rule::NeedsClaudeCode);
    }
    if routing.preferred_ai == Given(Named(Provider::ClaudeCode)) {
        return local(Rule::PreferredClaudeCode);
    }
    if routing.state != HeaderState::Unreadable && routing.allow_delegation != Given(true) {
        return local(Rule::DelegationNotAllowed);
    }
    // `allow_delegation` is true by now, or the header unreadable. An unknown word has a rule of its own, the last.
    let has_wrong_type = routing.needs_claude_code.is_bad()
        || routing.preferred_ai == Field::WrongType
        || routing.complexity_hint == Field::WrongType;
    if routing.state != HeaderState::Sound || has_wrong_type {
        return local(Rule::InvalidFrontmatter);
    }
    match (&routing.preferred_ai, &routing.complexity_hint) {
        (Given(Named(provider)), Absent | Given(_)) => {
            Decision { provider: *provider, rule: Rule::PreferredAi }
        }
        (Absent | Given(Auto), Given(hint)) => {
            Decision { provider: auto.of(*hint), rule: Rule::Auto }
        }
        (Absent | Given(Auto), Absent) => local(Rule::AutoWithoutHint),
        _ => local(Rule::UnknownProvider),
    }
}

/// Where a local task goes when no agent of this machine can take it soon: to the provider that its `complexity_hint`
/// names, if the task may leave the machine.
pub(crate) fn failover(routing: &Routing, auto: &AutoRoutes) -> Option<Decision> {
    let Field::Given(hint) = routing.complexity_hint else { return None };
    let may_leave = routing.state == HeaderState::Sound
        && routing.allow_delegation == Field::Given(true)
        && !routing.preferred_ai.is_bad()
        && matches!(routing.needs_claude_code, Field::Absent | Field::Given(false));
    let is_local = !decide(routing, auto).provider.is_remote();
    let decision = Decision { provider: auto.of(hint), rule: Rule::Failover };
    // `routing.auto` may name claude-code for this hint, which is no way out.
    (may_leave && is_local && decision.provider.is_remote()).then_some(decision)
}

#[cfg(test)]
mod tests;
