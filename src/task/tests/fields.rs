use super::*;

#[test]
fn reads_every_field() {
    let task = parse(
        "---\n\
         title: Fix the login redirect\n\
         priority: high              # critical | high | default | low\n\
         tags: [web, auth]\n\
         needs_claude_code: false\n\
         preferred_ai: auto\n\
         allow_delegation: true\n\
         complexity_hint: medium\n\
         ---\n\
         What to do, in Markdown.\n",
    );
    assert_eq!(task.header.title.as_deref(), Some("Fix the login redirect"));
    assert_eq!(task.header.priority, Priority::High);
    assert_eq!(task.header.tags, ["web", "auth"]);
    let routing = Routing {
        state: HeaderState::Sound,
        needs_claude_code: Field::Given(false),
        preferred_ai: Field::Given(Preference::Auto),
        allow_delegation: Field::Given(true),
        complexity_hint: Field::Given(Complexity::Medium),
    };
    assert_eq!(task.header.routing, routing);
    assert_eq!(task.body, "What to do, in Markdown.");
    assert_eq!(task.warnings, []);
    assert_eq!(task.ending, None);
}

#[test]
fn booleans_are_true_and_false_and_nothing_else() {
    for (word, expected) in
        [("true", true), ("True", true), ("TRUE", true), ("false", false), ("False", false)]
    {
        let task = with_header(&format!("allow_delegation:   {word}  "));
        assert_eq!(task.header.routing.allow_delegation, Field::Given(expected), "{word}");
        assert_eq!(task.warnings, [], "{word}");
    }
    for odd in [
        "yes",
        "on",
        "y",
        "1",
        "0",
        "1.0",
        "\"true\"",
        "'true'",
        "tRuE",
        "!t true",
        "!!str true",
        "[true]",
        "[]",
        "{true: true}",
        "{}",
        "",
        "~",
        "null",
        "|\n  true",
        "18446744073709551616",
        ".inf",
        ".nan",
    ] {
        for key in ["allow_delegation", "needs_claude_code"] {
            let task = with_header(&format!("{key}: {odd}"));
            let fields =
                [&task.header.routing.allow_delegation, &task.header.routing.needs_claude_code];
            assert!(fields.contains(&&Field::WrongType), "{key}: {odd}");
            assert!(!fields.contains(&&Field::Given(true)), "{key}: {odd}");
            assert_eq!(task.warnings.len(), 1, "{key}: {odd}: {:?}", task.warnings);
        }
    }
}

#[test]
fn words_are_trimmed_and_case_does_not_matter() {
    for (word, preference) in [
        ("auto", Preference::Auto),
        ("  Auto  ", Preference::Auto),
        ("\" CLAUDE-code \"", Preference::Provider(Provider::ClaudeCode)),
        ("GPU", Preference::Provider(Provider::Gpu)),
        ("'gemini '", Preference::Provider(Provider::Gemini)),
        ("Claude-API # comment", Preference::Provider(Provider::ClaudeApi)),
        (">\n  gpu", Preference::Provider(Provider::Gpu)),
        ("Remote", Preference::Provider(Provider::Remote)),
    ] {
        let task = with_header(&format!("preferred_ai: {word}"));
        assert_eq!(task.header.routing.preferred_ai, Field::Given(preference), "{word}");
        assert_eq!(task.warnings, [], "{word}");
    }
    for (word, hint) in
        [("LOW", Complexity::Low), ("Medium", Complexity::Medium), ("high", Complexity::High)]
    {
        let task = with_header(&format!("complexity_hint: {word}"));
        assert_eq!(task.header.routing.complexity_hint, Field::Given(hint), "{word}");
    }
    for unknown in ["gpt", "claude_code", "claude code", "gpu,gemini", "no", "\"\"", "ｇｐｕ"] {
        let task = with_header(&format!("preferred_ai: {unknown}\ncomplexity_hint: {unknown}"));
        assert!(matches!(task.header.routing.preferred_ai, Field::Unknown(_)), "{unknown}");
        assert!(matches!(task.header.routing.complexity_hint, Field::Unknown(_)), "{unknown}");
        assert_eq!(task.warnings.len(), 2, "{unknown}");
    }
    for odd in ["3", "true", "[gpu]", "{gpu: 1}", "", "null", "!x gpu", "1e3"] {
        let task = with_header(&format!("preferred_ai: {odd}\ncomplexity_hint: {odd}"));
        assert_eq!(task.header.routing.preferred_ai, Field::WrongType, "{odd}");
        assert_eq!(task.header.routing.complexity_hint, Field::WrongType, "{odd}");
        assert_eq!(task.warnings.len(), 2, "{odd}");
    }
}

#[test]
fn a_bad_priority_is_the_default() {
    for (word, priority) in [
        ("critical", Priority::Critical),
        ("' HIGH '", Priority::High),
        ("Default", Priority::Default),
        ("low", Priority::Low),
        ("", Priority::Default),
        ("null", Priority::Default),
    ] {
        let task = with_header(&format!("priority: {word}"));
        assert_eq!((task.header.priority, task.warnings), (priority, vec![]), "{word}");
    }
    for odd in ["urgent", "1", "true", "[high]", "{high: 1}", "!x high", "high low"] {
        let task = with_header(&format!("priority: {odd}\ntitle: T"));
        assert_eq!(task.header.priority, Priority::Default, "{odd}");
        assert_eq!(task.header.title.as_deref(), Some("T"), "{odd}");
        let [warning] = &task.warnings[..] else { panic!("{odd}: {:?}", task.warnings) };
        assert!(warning.to_string().starts_with("2:11: `priority` "), "{warning}");
        assert!(warning.message.ends_with("; it counts as default"), "{warning}");
    }
}

#[test]
fn titles_and_tags_that_are_none_are_left_out() {
    assert_eq!(with_header("title: '  '").header.title, None);
    assert_eq!(with_header("title:\ntags:").warnings, []);
    assert_eq!(warning("title: 404"), "2:8: `title` must be text, not a number; put it in quotes");
    assert_eq!(warning("title: [a]"), "2:8: `title` must be text, not a list; put it in quotes");
    let task = with_header("tags: [' web ', 2024, [a], auth]");
    assert_eq!(task.header.tags, ["web", "auth"]);
    assert_eq!(warnings(&task), ["2:7: `tags`: a tag must be text, not a list; it is left out"]);
    let text = warning("tags: web");
    assert_eq!(text, "2:7: `tags` must be a list like [web, auth], not text; it is left out");
    assert_eq!(with_header("tags:\n- web\n- auth").header.tags, ["web", "auth"]);
}

#[test]
fn warnings_say_where_and_what() {
    let task = parse(
        "\u{feff}---\r\n\
         title: café   # ça\r\n\
         allow_delegation: yes\r\n\
         'preferred_ai': gpt\r\n\
         complexity_hint:\r\n\
         allow-delegation: true\r\n\
         owner: me\r\n\
         nested: {a: {b: c}, allow_delegation: true}\r\n\
         title: again\r\n\
         ---\r\nB\r\n",
    );
    assert_eq!(
        warnings(&task),
        [
            "3:19: `allow_delegation` must be true or false without quotes, not `yes`; the task stays on this machine",
            "4:17: `preferred_ai` is `gpt`, not one of auto, claude-code, gpu, gemini, claude-api, remote; \
             the task stays on this machine",
            "5:1: `complexity_hint` must be a word, not nothing; the task stays on this machine",
            "6:1: `allow-delegation` is not a known field; did you mean `allow_delegation`?",
            "7:1: `owner` is not a known field; it is ignored",
            "8:1: `nested` is not a known field; it is ignored",
            "9:1: `title` is given twice and the first counts: remove one; the task stays on this machine",
        ]
    );
    assert_eq!(task.header.title.as_deref(), Some("café"));
    assert_eq!(task.header.routing.state, HeaderState::DuplicateKey);
    assert_eq!(warning("{a: 1}").split(':').nth(1), Some("2"), "in braces, too");
}

#[test]
fn near_misses_are_recognised_and_own_keys_are_not_corrected() {
    for (key, field) in [
        ("Priority", "priority"),
        ("piority", "priority"),
        ("prefered_ai", "preferred_ai"),
        ("Preferred AI", "preferred_ai"),
        ("need_claude_code", "needs_claude_code"),
        ("complexity-hints", "complexity_hint"),
        ("tag", "tags"),
    ] {
        assert!(
            warning(&format!("{key}: x")).ends_with(&format!("did you mean `{field}`?")),
            "{key}"
        );
    }
    for key in ["file", "date", "type", "author", "preferred", "ai", "\u{1F980}\u{1F980}"] {
        assert!(warning(&format!("{key}: x")).ends_with("it is ignored"), "{key}");
    }
    assert!(warning("2024: x").starts_with("2:1: `2024` is not a known field"));
    assert!(warning("true: x").starts_with("2:1: `true` is not a known field"));
    let long = warning(&format!("\"a\\e\\n{}\": x", "k".repeat(99)));
    assert!(long.contains(r"`a\u{1b}\nkkk") && long.contains("k…`"), "{long}");
}

#[test]
fn duplicates_of_any_key_count() {
    for (fields, allowed) in [
        ("allow_delegation: true\nallow_delegation: false", Field::Given(true)),
        ("allow_delegation: false\n\"allow_delegation\": true", Field::Given(false)),
        ("allow_delegation: yes\n\"allow_\\u0064elegation\": true", Field::WrongType),
        ("mine: 1\nallow_delegation: true\nmine: 2", Field::Given(true)),
    ] {
        let task = with_header(fields);
        assert_eq!(task.header.routing.state, HeaderState::DuplicateKey, "{fields}");
        assert_eq!(task.header.routing.allow_delegation, allowed, "{fields}");
        assert_eq!(task.body, "Do it.");
    }
    assert_eq!(
        with_header("mine: {a: 1, a: 2}").header.routing.state,
        HeaderState::Sound,
        "not ours"
    );
}
