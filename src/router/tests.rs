use super::*;
use crate::task::parse;

/// The provider and the rule for a file with this header, by the default routes.
fn route(fields: &str) -> (Provider, Rule) {
    let task = parse(&format!("---\n{fields}\n---\nDo it.\n"));
    let Decision { provider, rule } = decide(&task.header.routing, &AutoRoutes::default());
    (provider, rule)
}

#[test]
fn every_rule_of_the_table() {
    use Provider::{ClaudeApi, ClaudeCode, Gemini, Gpu, Remote};
    for (fields, provider, rule) in [
        ("", ClaudeCode, "delegation-not-allowed"),
        ("title: T", ClaudeCode, "delegation-not-allowed"),
        ("preferred_ai: gpu", ClaudeCode, "delegation-not-allowed"),
        ("allow_delegation: false\npreferred_ai: gpu", ClaudeCode, "delegation-not-allowed"),
        ("allow_delegation: yes\npreferred_ai: gpu", ClaudeCode, "delegation-not-allowed"),
        ("allow_delegation: 'true'\npreferred_ai: gpu", ClaudeCode, "delegation-not-allowed"),
        ("allow_delegation:\npreferred_ai: gpu", ClaudeCode, "delegation-not-allowed"),
        ("needs_claude_code: true", ClaudeCode, "needs-claude-code"),
        ("preferred_ai: claude-code", ClaudeCode, "preferred-claude-code"),
        ("allow_delegation: true", ClaudeCode, "auto-without-hint"),
        ("allow_delegation: true\npreferred_ai: AUTO", ClaudeCode, "auto-without-hint"),
        ("allow_delegation: true\npreferred_ai: gpu", Gpu, "preferred-ai"),
        ("allow_delegation: TRUE\npreferred_ai: ' Gemini '", Gemini, "preferred-ai"),
        ("allow_delegation: true\npreferred_ai: claude-api", ClaudeApi, "preferred-ai"),
        ("allow_delegation: true\npreferred_ai: remote", Remote, "preferred-ai"),
        ("preferred_ai: remote", ClaudeCode, "delegation-not-allowed"),
        (
            "allow_delegation: true\npreferred_ai: remote\nneeds_claude_code: true",
            ClaudeCode,
            "needs-claude-code",
        ),
        ("allow_delegation: true\npreferred_ai: gpu\ncomplexity_hint: high", Gpu, "preferred-ai"),
        (
            "allow_delegation: true\npreferred_ai: gpu\nneeds_claude_code: false",
            Gpu,
            "preferred-ai",
        ),
        ("allow_delegation: true\ncomplexity_hint: low", Gpu, "auto"),
        ("allow_delegation: true\ncomplexity_hint: Medium", Gemini, "auto"),
        ("allow_delegation: true\npreferred_ai: auto\ncomplexity_hint: high", ClaudeApi, "auto"),
        ("allow_delegation: true\npreferred_ai: gpt", ClaudeCode, "unknown-provider"),
        (
            "allow_delegation: true\npreferred_ai: gpt\ncomplexity_hint: low",
            ClaudeCode,
            "unknown-provider",
        ),
        ("allow_delegation: true\ncomplexity_hint: huge", ClaudeCode, "unknown-provider"),
    ] {
        let (decided, by) = route(fields);
        assert_eq!((decided, by.as_str()), (provider, rule), "{fields}");
    }
}

#[test]
fn an_earlier_rule_wins() {
    let remote = "allow_delegation: true\npreferred_ai: gpu\ncomplexity_hint: low";
    for (fields, rule) in [
        (format!("{remote}\nneeds_claude_code: true"), "needs-claude-code"),
        ("needs_claude_code: true\npreferred_ai: claude-code".into(), "needs-claude-code"),
        ("needs_claude_code: true\nallow_delegation: yes".into(), "needs-claude-code"),
        ("needs_claude_code: true\npreferred_ai: [x]".into(), "needs-claude-code"),
        ("needs_claude_code: true\ntitle: a\ntitle: b".into(), "needs-claude-code"),
        ("preferred_ai: claude-code\nallow_delegation: true".into(), "preferred-claude-code"),
        ("preferred_ai: claude-code\ncomplexity_hint: 3".into(), "preferred-claude-code"),
        ("preferred_ai: claude-code\nneeds_claude_code: yes".into(), "preferred-claude-code"),
        ("preferred_ai: [x]".into(), "delegation-not-allowed"),
        ("preferred_ai: gpt".into(), "delegation-not-allowed"),
        ("title: a\ntitle: b".into(), "delegation-not-allowed"),
        ("allow_delegation: false\nallow_delegation: true".into(), "delegation-not-allowed"),
        (
            "allow_delegation: true\npreferred_ai: gpt\ncomplexity_hint: 3".into(),
            "invalid-frontmatter",
        ),
    ] {
        let (decided, by) = route(&fields);
        assert_eq!((decided, by.as_str()), (Provider::ClaudeCode, rule), "{fields}");
    }
}

#[test]
fn a_bad_header_stays_here() {
    let remote = "allow_delegation: true\npreferred_ai: gpu";
    for bad in [
        "needs_claude_code: yes",
        "needs_claude_code: 1",
        "needs_claude_code:",
        "needs_claude_code: [true]",
        "complexity_hint: 3",
        "complexity_hint: [low]",
        "complexity_hint: {low: high}",
        "complexity_hint:",
        "preferred_ai: gpu",
        "allow_delegation: true",
        "own: 1\nown: 2",
        "title: a: b",
        "\ttitle: a",
        "x: &x gpu\ny: *x",
        "title: [",
    ] {
        let fields = format!("{remote}\n{bad}");
        assert_eq!(route(&fields), (Provider::ClaudeCode, Rule::InvalidFrontmatter), "{fields}");
    }
    for fields in
        ["preferred_ai: 1", "preferred_ai: true", "preferred_ai: [gpu]", "preferred_ai: ~"]
    {
        let fields = format!("allow_delegation: true\n{fields}");
        assert_eq!(route(&fields), (Provider::ClaudeCode, Rule::InvalidFrontmatter), "{fields}");
    }
    let unclosed = parse(&format!("---\n{remote}\nDo it."));
    let decision = decide(&unclosed.header.routing, &AutoRoutes::default());
    assert_eq!(decision.rule, Rule::InvalidFrontmatter);
}

#[test]
fn an_unknown_hint_keeps_even_a_named_provider_from_the_task() {
    let fields = "allow_delegation: true\npreferred_ai: gpu\ncomplexity_hint: huge";
    assert_eq!(route(fields), (Provider::ClaudeCode, Rule::UnknownProvider));
}

#[test]
fn auto_follows_the_configured_routes() {
    let routes =
        AutoRoutes { low: Provider::ClaudeCode, medium: Provider::Remote, high: Provider::Gpu };
    for (hint, provider) in
        [("low", Provider::ClaudeCode), ("medium", Provider::Remote), ("high", Provider::Gpu)]
    {
        let task = parse(&format!("---\nallow_delegation: true\ncomplexity_hint: {hint}\n---\n"));
        let decision = decide(&task.header.routing, &routes);
        assert_eq!(decision, Decision { provider, rule: Rule::Auto });
    }
}

#[test]
fn what_may_leave_the_machine_does_while_its_agents_cannot_be_waited_for() {
    let failover = |fields: &str| {
        let task = parse(&format!("---\n{fields}\n---\n"));
        failover(&task.header.routing, &AutoRoutes::default()).map(|decision| decision.provider)
    };
    let local = "allow_delegation: true\npreferred_ai: claude-code\ncomplexity_hint: low";
    assert_eq!(failover(local), Some(Provider::Gpu));
    for fields in [
        "preferred_ai: claude-code\ncomplexity_hint: low",
        "allow_delegation: true\npreferred_ai: claude-code",
        "allow_delegation: true\npreferred_ai: claude-code\ncomplexity_hint: huge",
        "allow_delegation: true\nneeds_claude_code: true\ncomplexity_hint: low",
        "allow_delegation: true\nneeds_claude_code: 1\ncomplexity_hint: low",
        // It goes there as it is.
        "allow_delegation: true\ncomplexity_hint: low",
    ] {
        assert_eq!(failover(fields), None, "{fields}");
    }
}
