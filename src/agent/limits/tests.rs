use super::*;

/// A Tuesday.
const NOW: &str = "2026-10-06T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[track_caller]
fn assert_reset(text: &str, expected: &str) {
    assert_eq!(reset_time(text, at(NOW)), Some(at(expected)), "{text}");
}

#[test]
fn reset_times_in_the_words_of_every_version() {
    let cases = [
        // 1.x
        ("Claude AI usage limit reached|1791302400", "2026-10-06T16:00:00Z"),
        (
            "Claude usage limit reached. Your limit will reset at 3pm (America/New_York).",
            "2026-10-06T19:00:00Z",
        ),
        // 2.0
        ("5-hour limit reached ∙ resets 3pm (UTC)", "2026-10-06T15:00:00Z"),
        ("Session limit reached ∙ resets 9:30pm (UTC)", "2026-10-06T21:30:00Z"),
        ("Weekly limit reached ∙ resets Oct 9, 5pm (UTC)", "2026-10-09T17:00:00Z"),
        ("Opus weekly limit reached ∙ resets Oct 9, 3:05am (UTC)", "2026-10-09T03:05:00Z"),
        // 2.1
        ("You've hit your limit · resets 3:30pm (Europe/Paris)", "2026-10-06T13:30:00Z"),
        (
            "You've hit your session limit · resets 12:50am (America/Los_Angeles)",
            "2026-10-07T07:50:00Z",
        ),
        (
            "You've hit your 5-hour limit · resets 5pm (UTC) · progress saved",
            "2026-10-06T17:00:00Z",
        ),
        ("You've hit your weekly limit · resets Oct 7 at 3pm (UTC)", "2026-10-07T15:00:00Z"),
        ("You've hit your weekly limit · resets Mon 12:00am (UTC)", "2026-10-12T00:00:00Z"),
        ("You've hit your channel's limit. It resets Oct 8 at 4am (UTC).", "2026-10-08T04:00:00Z"),
        // Screens
        ("⚠ Usage limit reached · limit resets 5pm (UTC)", "2026-10-06T17:00:00Z"),
        ("Resets Oct 18 at 4am (Europe/Vienna)", "2026-10-18T02:00:00Z"),
        ("Session limit reached ∙ resets 5:00 PM (UTC)", "2026-10-06T17:00:00Z"),
    ];
    for (text, expected) in cases {
        assert_reset(text, expected);
    }
}

#[test]
fn a_time_that_has_passed_is_the_next_one() {
    assert_reset("resets 9am (UTC)", "2026-10-07T09:00:00Z");
    assert_reset("limit resets at 12am (UTC)", "2026-10-07T00:00:00Z");
    assert_reset("resets 12pm (UTC)", "2026-10-07T12:00:00Z");
    assert_reset("resets Tue 11am (UTC)", "2026-10-13T11:00:00Z");
    assert_reset("resets Tue 1pm (UTC)", "2026-10-06T13:00:00Z");
    let december = at("2026-12-30T12:00:00Z");
    for text in ["resets Jan 2 at 3pm (UTC)", "resets Jan 2, 2027, 3pm (UTC)"] {
        let expected = Some(at("2027-01-02T15:00:00Z"));
        assert_eq!(reset_time(text, december), expected, "{text}");
    }
}

#[test]
fn what_names_no_time_is_not_guessed_at() {
    for text in [
        "",
        "resets",
        "resets soon",
        "resets 25pm (UTC)",
        "resets 3",
        "resets Oct",
        "resets Oct 32 at 3pm (UTC)",
        // Further away than any limit.
        "resets Dec 24 at 3pm (UTC)",
        "usage limit reached|1",
        "usage limit reached|99999999999999999999",
        "limit reached|",
        "reset é",
        "API Error: Request rejected (429) · Please try again later.",
    ] {
        assert_eq!(reset_time(text, at(NOW)), None, "{text}");
    }
}

fn error(kind: Option<&str>, text: &str) -> ApiError {
    ApiError { kind: kind.map(str::to_owned), text: text.to_owned(), resets_at: None }
}

#[test]
fn what_is_the_accounts_is_not_the_tasks() {
    // kind, text, of the account, needs a person
    let cases = [
        (Some("rate_limit"), "x", true, false),
        (Some("unknown"), "API Error: 429 {}", true, false),
        (None, "Claude AI usage limit reached|1791302400", true, false),
        (None, "You've hit your session limit · resets 3pm", true, false),
        (None, "5-hour limit reached ∙ resets 3pm", true, false),
        (None, "Weekly limit reached ∙ resets Oct 9, 5pm", true, false),
        (None, "Opus limit resets Oct 9, 5pm ∙ contact an admin", true, false),
        (Some("rate_limit"), "You've hit your monthly spend limit · raise it", true, true),
        (Some("rate_limit"), "You're out of usage credits", true, true),
        (Some("rate_limit"), "You're out of usage credits · resets 3pm (UTC)", true, false),
        (None, "Invalid API key · Please run /login", true, true),
        (Some("authentication_failed"), "x", true, true),
        (None, "Credit balance is too low", true, true),
        (Some("billing_error"), "x", true, true),
        (Some("server_error"), "API Error: 500", false, false),
        (Some("invalid_request"), "Prompt is too long", false, false),
        (None, "Context limit reached · /compact or /clear to continue", false, false),
        (Some("model_not_found"), "x", false, false),
        (None, "API Error: 529 Overloaded", false, false),
    ];
    for (kind, text, of_account, needs_person) in cases {
        let failure = failure(&error(kind, text), "", at(NOW));
        assert_eq!((!failure.counts, failure.needs_person), (of_account, needs_person), "{text}");
        assert!(failure.reason.contains(text), "{text}");
    }
}

#[test]
fn the_transcripts_time_goes_before_the_sentence_and_that_before_the_screen() {
    let screen = "your password will reset at 1pm (UTC)\n\
                  ⚠ Usage limit reached · limit resets 5pm (UTC)\n\
                  the script resets at 6pm (UTC)";
    let exact = at("2026-10-06T14:00:01Z");
    let named = ApiError {
        resets_at: Some(exact.as_second()),
        ..error(Some("rate_limit"), "resets 3pm (UTC)")
    };
    let until = |error: &ApiError, screen| failure(error, screen, at(NOW)).until;
    assert_eq!(until(&named, screen), Some(exact));
    let past = ApiError { resets_at: Some(1), ..named };
    assert_eq!(until(&past, screen), Some(at("2026-10-06T15:00:00Z")));
    let silent = error(Some("rate_limit"), "Rejected");
    assert_eq!(until(&silent, screen), Some(at("2026-10-06T17:00:00Z")));
    assert_eq!(until(&silent, "the script resets at 6pm (UTC)"), None);
    // Only a limit is waited for.
    assert_eq!(until(&error(Some("server_error"), "x"), screen), None);
}
