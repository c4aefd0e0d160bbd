use super::*;

const NOW: &str = "2026-10-06T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn error(kind: Option<&str>, text: &str) -> ApiError {
    ApiError {
        kind: kind.map(str::to_owned),
        text: text.to_owned(),
        resets_at: None,
        limit_type: None,
    }
}

#[test]
fn what_is_the_accounts_is_not_the_tasks() {
    // kind, text, not of the task, needs a person
    let cases = [
        (Some("rate_limit"), "x", true, false),
        (Some("unknown"), "API Error: 429 {}", true, false),
        (Some("unknown"), "API Error: Request rejected (429) · this rate limit", true, false),
        (None, "You've hit your session limit · resets 3pm", true, false),
        (Some("rate_limit"), "You've hit your monthly spend limit · raise it", true, true),
        (Some("rate_limit"), "You're out of usage credits", true, true),
        (None, "Invalid API key · Please run /login", true, true),
        (Some("authentication_failed"), "x", true, true),
        (None, "Credit balance is too low", true, true),
        (Some("billing_error"), "x", true, true),
        (Some("server_error"), "API Error: 500", true, false),
        (Some("invalid_request"), "Prompt is too long", false, false),
        (None, "Context limit reached · /compact or /clear to continue", false, false),
        (Some("model_not_found"), "x", false, false),
        (None, "API Error: 529 Overloaded", true, false),
        (None, "API Error: Connection error.", true, false),
        (
            Some("rate_limit"),
            "Server is temporarily limiting requests (not your usage limit)",
            true,
            false,
        ),
    ];
    for (kind, text, of_account, needs_attention) in cases {
        let failure = failure(&error(kind, text), None, at(NOW));
        assert_eq!(
            (!failure.counts, failure.needs_attention),
            (of_account, needs_attention),
            "{text}"
        );
        assert!(failure.reason.contains(text), "{text}");
    }
}

#[test]
fn only_the_transcripts_own_time_is_believed_and_only_if_it_is_near() {
    let until = |kind, resets_at| {
        let error = ApiError { resets_at, ..error(Some(kind), "resets 3pm (UTC)") };
        failure(&error, None, at(NOW)).until
    };
    let exact = at("2026-10-06T14:00:01Z");
    assert_eq!(until("rate_limit", Some(exact.as_second())), Some(exact));
    assert_eq!(until("rate_limit", None), None);
    let too_far = at("2026-12-24T15:00:00Z").as_second();
    for absurd in [1, at(NOW).as_second(), too_far, i64::MIN, i64::MAX] {
        assert_eq!(until("rate_limit", Some(absurd)), None, "{absurd}");
    }
    // Only a limit is waited for.
    assert_eq!(until("server_error", Some(exact.as_second())), None);
}

#[test]
fn a_limit_of_money_that_names_its_reset_needs_nobody() {
    let reset = at("2026-10-06T14:00:01Z").as_second();
    let spent = error(Some("rate_limit"), "You're out of usage credits · resets 3pm (UTC)");
    assert!(failure(&spent, None, at(NOW)).needs_attention);
    assert!(!failure(&ApiError { resets_at: Some(reset), ..spent }, None, at(NOW)).needs_attention);
}

#[test]
fn what_holds_an_agent_is_named() {
    let hold = |kind, text| failure(&error(Some(kind), text), None, at(NOW)).hold;
    assert_eq!(hold("rate_limit", "x"), Some(HoldCause::Limit));
    assert_eq!(hold("rate_limit", "You're out of usage credits"), Some(HoldCause::Account));
    assert_eq!(
        hold("rate_limit", "limiting requests (not your usage limit)"),
        Some(HoldCause::Outage)
    );
    assert_eq!(hold("server_error", "API Error: 529 Overloaded"), Some(HoldCause::Outage));
    assert_eq!(hold("authentication_failed", "x"), Some(HoldCause::Account));
    assert_eq!(hold("invalid_request", "Prompt is too long"), None);
    let of_opus = ApiError {
        limit_type: Some("seven_day_opus".to_owned()),
        ..error(Some("rate_limit"), "x")
    };
    assert_eq!(failure(&of_opus, None, at(NOW)).limited_model.as_deref(), Some("seven_day_opus"));
}

#[test]
fn a_key_that_is_not_taken_is_named_by_its_file() {
    let file = std::path::Path::new("/home/a/key");
    let refused = error(Some("authentication_failed"), "Invalid API key · Please run /login");
    let with_key = failure(&refused, Some(file), at(NOW));
    assert_eq!(
        with_key.reason,
        "the API does not take the key in /home/a/key: put a valid one there, then `ccl resume`: Invalid API key · Please run /login"
    );
    assert!(with_key.needs_attention && with_key.hold == Some(HoldCause::Account));
    let login = failure(&refused, None, at(NOW)).reason;
    assert!(login.starts_with("Claude Code has no valid login: run `claude`"), "{login}");
    assert!(Dialog::Login.failure(Some(file)).reason.contains("the key in /home/a/key"));
    assert!(Dialog::Login.failure(None).reason.contains("`/login`"));
}
