//! What `ccl doctor` found.

use crate::text::escape;
use serde::Serialize;
use std::fmt::Write as _;

/// One thing that a pass needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What was looked at, in one word: `tmux`, `agent`, `trust` …
    pub check: &'static str,
    /// Whether it is well; `None` where that does not apply, or cannot be known.
    pub ok: Option<bool>,
    /// What was found.
    pub detail: String,
    /// How to mend it.
    pub remedy: Option<String>,
}

impl Check {
    /// It is well.
    #[must_use]
    pub fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, ok: Some(true), detail: detail.into(), remedy: None }
    }

    /// It is not well, and this mends it.
    #[must_use]
    pub fn bad(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, ok: Some(false), detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// It does not apply, or cannot be known from here.
    #[must_use]
    pub fn skipped(check: &'static str, why: impl Into<String>) -> Self {
        Self { check, ok: None, detail: why.into(), remedy: None }
    }
}

/// A line for each check, one more for how to mend it, and the sum of it.
pub(super) fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let word = match check.ok {
            Some(true) => "ok",
            Some(false) => "FAIL",
            None => "-",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{word:<5} {:<10} {}", check.check, escape(&check.detail));
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(text, "{:16} → {}", "", escape(remedy));
        }
    }
    let failed = checks.iter().filter(|c| c.ok == Some(false)).count();
    let _ = match failed {
        0 => writeln!(text, "all is well"),
        1 => writeln!(text, "1 thing is not well"),
        more => writeln!(text, "{more} things are not well"),
    };
    text
}
