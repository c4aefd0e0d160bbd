//! What an API error means for the task and for the session. Pure.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::screen::Dialog;
use super::transcript::ApiError;
use crate::next_step::{AttemptFailure, HoldCause};

/// A reset time further away than this is not believed: a monthly limit is reset within a month.
const MAX_COOLDOWN: SignedDuration = SignedDuration::from_hours(32 * 24);

/// What an API error means. Only the transcript's own field says when a limit is reset: the sentence
/// beside it names a time for people, in words that change with every version. An agent with a `key_file` has no login.
pub(crate) fn failure(error: &ApiError, key_file: Option<&Path>, now: Timestamp) -> AttemptFailure {
    let sentence = error.text.trim();
    match classify(error.kind.as_deref(), sentence) {
        Cause::RateLimit => {
            let until = error
                .resets_at
                .and_then(|second| Timestamp::from_second(second).ok())
                .filter(|time| *time > now && time.duration_since(now) < MAX_COOLDOWN);
            // A limit of money that names no reset stays until a person raises it.
            let is_of_money = contains_any(
                sentence,
                &["spend limit", "spending cap", "usage credits", "out of usage"],
            );
            let reason = format!("the account's limit is reached: {sentence}");
            match until.is_none() && is_of_money {
                true => of_account(reason),
                false => AttemptFailure {
                    until,
                    limited_model: error.limit_type.clone(),
                    ..AttemptFailure::of_agent(HoldCause::Limit, reason)
                },
            }
        }
        Cause::Login => of_account(format!(
            "{}, then `ccl resume`: {sentence}",
            Dialog::Login.advice_for(key_file)
        )),
        Cause::Billing => of_account(format!(
            "the account cannot be billed, see to its balance, then run `ccl resume`: {sentence}"
        )),
        Cause::Outage => AttemptFailure::of_agent(
            HoldCause::Outage,
            format!("the API cannot be used at the moment: {sentence}"),
        ),
        Cause::Other => {
            AttemptFailure::of_task(format!("the API answered with an error: {sentence}"))
        }
    }
}

fn of_account(reason: String) -> AttemptFailure {
    AttemptFailure { needs_attention: true, ..AttemptFailure::of_agent(HoldCause::Account, reason) }
}

enum Cause {
    RateLimit,
    Login,
    Billing,
    Outage,
    Other,
}

/// Goes by the transcript's word. Where that says nothing (2.1.100 calls a 429 `unknown`), by phrases
/// that only the sentence of such an error has.
fn classify(kind: Option<&str>, text: &str) -> Cause {
    // First, for the word may be `rate_limit` here too: a 429 that is not the account's limit, but asks all to wait.
    if contains_any(text, &["not your usage limit", "temporarily limiting requests"]) {
        return Cause::Outage;
    }
    match kind {
        Some("rate_limit") => return Cause::RateLimit,
        Some("authentication_failed" | "oauth_org_not_allowed" | "verification_required") => {
            return Cause::Login;
        }
        Some("billing_error") => return Cause::Billing,
        Some("server_error" | "overloaded") => return Cause::Outage,
        _ => {}
    }
    if contains_any(text, &["credit balance", "billing", "usage credits"]) {
        Cause::Billing
    } else if contains_any(text, &["/login", "invalid api key", "api error: 401"]) {
        Cause::Login
    } else if contains_any(text, &["hit your", "rate limit", "rate_limit", "api error: 429"]) {
        Cause::RateLimit
    } else if contains_any(
        text,
        &["api error: 5", "overloaded", "connection error", "unable to connect"],
    ) {
        Cause::Outage
    } else {
        Cause::Other
    }
}

fn contains_any(text: &str, phrases: &[&str]) -> bool {
    let text = text.to_lowercase();
    phrases.iter().any(|phrase| text.contains(phrase))
}

#[cfg(test)]
mod tests;
