//! What a run costs while it is under way, and whether its task has cost as much as it may.

use anyhow::Result;
use rust_decimal::Decimal;

use super::Pool;
use super::evidence::ClaudeEvidence;
use crate::agent::transcript::RunSummary;
use crate::config::Price;
use crate::money::{Cost, Totals};
use crate::next_step::NoFurtherRound;
use crate::queue::Claim;
use crate::spend::{self, SpendLine};
use crate::task::Outcome;

/// A cached input token costs a tenth of a fresh one.
const CACHED: Decimal = Decimal::from_parts(1, 0, 0, false, 1);

/// What an agent at work has cost.
#[derive(Debug)]
pub(super) struct CostSoFar {
    pub(super) cost: Cost,
    is_in_a_tool: bool,
}

impl Pool<'_> {
    /// What the agent of a claim has cost so far, where a budget depends on it and the price of its model is known.
    pub(super) fn cost_so_far(
        &self,
        claim: &Claim,
        claude: Option<&ClaudeEvidence>,
    ) -> Option<CostSoFar> {
        let budget = &self.agent_of(claim.marker()).budget;
        let has_budget = budget.per_task.is_some() || budget.per_day.is_some();
        let summary = claude.filter(|_| has_budget)?.summary.as_ref()?;
        let cost = self.price_of(summary)?;
        Some(CostSoFar { cost, is_in_a_tool: summary.is_in_a_tool })
    }

    /// Why the agent of a claim is to be ended although it works; none in the middle of a tool.
    pub(super) fn over_budget_so_far(&self, claim: &Claim, so_far: &CostSoFar) -> Option<String> {
        match so_far.is_in_a_tool {
            true => None,
            false => self.over_budget(claim, Some(&so_far.cost)),
        }
    }

    /// Writes down what a run has cost so far, for the budget of the day.
    pub(super) fn note_cost_so_far(&self, claim: &Claim, so_far: CostSoFar) {
        let marker = claim.marker();
        let agent = self.agent_of(marker);
        if agent.budget.per_day.is_some() {
            self.records.note_cost_so_far(SpendLine {
                run: marker.run,
                agent: agent.name.clone(),
                task: spend::task_key(claim.project().path(), claim.name().as_str()),
                cost: Some(so_far.cost),
            });
        }
    }

    /// Why a task that would go back gets no further attempt: its cost. Its agent has ended, and has written down by
    /// then what it has cost.
    pub(super) fn given_up_for_its_cost(
        &self,
        claim: &Claim,
        outcome: Outcome,
    ) -> Result<Option<String>> {
        if outcome != Outcome::Released || self.agent_of(claim.marker()).budget.per_task.is_none() {
            return Ok(None);
        }
        let cost = self.cost(claim)?;
        Ok(self.over_budget(claim, cost.as_ref()))
    }

    /// Why the claim's agent is not given its work back after its turn. It has ended, and what it has cost is known.
    pub(super) fn no_further_round(&self, claim: &Claim) -> Result<Option<NoFurtherRound>> {
        let started = &claim.marker().agent;
        let Some(agent) = self.config.agents.still_has(started) else {
            return Ok(Some(NoFurtherRound::AgentGone(format!(
                "its agent {} is not in the configuration any more, or not as it was: another attempt goes on from what is there",
                started.name()
            ))));
        };
        if agent.budget.per_task.is_none() {
            return Ok(None);
        }
        let cost = self.cost(claim)?;
        Ok(self.over_budget(claim, cost.as_ref()).map(NoFurtherRound::OverBudget))
    }

    /// The sentence for people where this cost and that of earlier attempts are as much as the task may cost; else
    /// none.
    fn over_budget(&self, claim: &Claim, cost: Option<&Cost>) -> Option<String> {
        let marker = claim.marker();
        // The budget of an agent that has left the configuration is not known.
        let agent = self.config.agents.still_has(&marker.agent)?;
        let limit = agent.budget.per_task.as_ref()?;
        let mut totals = Totals::default();
        marker.work.cost_before.iter().chain(cost).for_each(|cost| totals.add(cost));
        totals.reaches(limit).then(|| {
            format!(
                "budget: it has cost {} of the {limit} that a task of {} may: raise budget.per_task, and `ccl retry` it to go on",
                totals.costs().iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
                agent.name
            )
        })
    }

    /// What the tokens of its model cost.
    fn price_of(&self, summary: &RunSummary) -> Option<Cost> {
        let model = summary.model.as_deref()?;
        let price = self.config.prices.iter().find(|(name, _)| model.contains(name.as_str()));
        let (_, Price { input, output }) = price?;
        let (read, written) = summary.tokens?;
        // Those from the cache are among those that were read.
        let (fresh, cached) = (read.saturating_sub(summary.cached), summary.cached);
        let of = |tokens: u64, price: Decimal| Decimal::from(tokens).checked_mul(price);
        let total = of(fresh, *input)?
            .checked_add(of(cached, input.checked_mul(CACHED)?)?)?
            .checked_add(of(written, *output)?)?
            .checked_div(Decimal::from(1_000_000))?;
        Cost::of(&total.round_dp(9).to_string(), "USD")
    }
}
