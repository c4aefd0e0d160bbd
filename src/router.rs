//! Which provider a task goes to, and by which rule. Pure.

use crate::task::Provider;

/// Where `preferred_ai: auto` sends a task of each `complexity_hint`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoRoutes {
    /// For `complexity_hint: low`.
    pub low: Provider,
    /// For `complexity_hint: medium`.
    pub medium: Provider,
    /// For `complexity_hint: high`.
    pub high: Provider,
}
