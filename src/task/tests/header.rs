use super::*;

#[test]
fn a_header_is_accepted_in_every_shape() {
    for text in [
        "---\ntitle: T\n---\nB",
        "---\r\ntitle: T\r\n---\r\nB\r\n",
        "\u{feff}---\ntitle: T\n---\nB\n",
        "\u{feff}---\r\ntitle: T\r\n---\r\n\r\nB\r\n",
        "--- \t\ntitle: T\n---  \nB",
        "---\n\n# a comment\ntitle: T\n---\n\n\nB\n\n",
        "---\n{title: T}\n---\nB",
        "---\n\"title\": 'T'\n---\nB",
        "---\ntitle: >\n  T\n---\nB",
    ] {
        let task = parse(text);
        assert_eq!((task.header.title.as_deref(), &*task.body), (Some("T"), "B"), "{text:?}");
        assert_eq!(task.warnings, [], "{text:?}");
    }
    for text in ["---\ntitle: T\n---", "---\ntitle: T\n---\n", "---\r\ntitle: T\r\n---  "] {
        let task = parse(text);
        assert_eq!((task.header.title.as_deref(), &*task.body), (Some("T"), ""), "{text:?}");
    }
}

#[test]
fn a_file_without_a_header_is_all_body() {
    for text in [
        "",
        "Do it.",
        "----\ntitle: T\n---\n",
        " ---\ntitle: T\n---\n",
        "\n---\ntitle: T\n---\n",
        "---title: T\n---\n",
        "---",
        "---\n",
        "---\n\nA thematic break opens this, then comes prose: no header.\n",
        "--- \n- [ ] one\n",
        "---\n# Heading\n\nhttps://example.com/ is no field\n",
    ] {
        let task = parse(text);
        assert_eq!(task.body, text.trim(), "{text:?}");
        assert_eq!(task.header.routing, Routing::default(), "{text:?}");
        assert_eq!(task.warnings, [], "{text:?}");
    }
    assert_eq!(parse("---\n---\nB").body, "B");
    assert_eq!(parse("---\n# only a comment\n---\nB").warnings, []);
}

#[test]
fn an_unreadable_header_keeps_the_task_here_and_hides_nothing_of_it() {
    for (text, place, why) in [
        ("---\ntitle: T\nDo it.\n", "1:1", "no line `---` closes the header within 8 KiB"),
        ("\u{feff}---\r\nallow_delegation: true\r\n", "1:1", "no line `---` closes"),
        (
            "---\ntitle: a: b\n---\nB",
            "2:9",
            "in this context (put a text that holds a colon in quotes)",
        ),
        ("---\ntitle: a: b\n---\nB", "2:9", "mapping values are not allowed in this context"),
        ("---\ntitle: T\n\tx: y\n---\nB", "3:1", "a tab character that violates indentation"),
        ("---\ntitle: [a\n---\nB", "3:1", "did not find expected ',' or ']'"),
        ("---\n\nProse between two breaks.\n\n---\nB", "3:1", "`key: value` lines, found text"),
        ("---\n- a\n- b\n---\nB", "2:1", "invalid type: sequence, expected `key: value` lines"),
        ("---\n42\n---\nB", "2:1", "invalid type: integer `42`"),
        ("---\n!odd {title: T}\n---\nB", "2:1", "invalid type: enum"),
        ("---\n? [a]\n: x\n---\nB", "2:3", "invalid type: sequence, expected a string"),
        ("---\ntitle: T\n...\ntags: [x]\n---\nB", "1:1", "more than one document"),
        ("---\ntitle: \u{1b}[31mT\n---\nB", "2:8", "a control character"),
        ("---\nx: &a true\nallow_delegation: *a\n---\nB", "3:19", "what `*a` stands for"),
        ("---\nx: *nowhere\n---\nB", "2:4", "unknown anchor"),
    ] {
        let task = parse(text);
        assert_eq!(task.header.routing.state, HeaderState::Unreadable, "{text:?}");
        assert_eq!(task.body, text.trim_start_matches('\u{feff}').trim(), "{text:?}");
        let [warning] = &task.warnings[..] else { panic!("{text:?}: {:?}", task.warnings) };
        assert!(warning.to_string().starts_with(&format!("{place}: ")), "{text:?}: {warning}");
        assert!(warning.message.contains(why), "{text:?}: {warning}");
        assert!(warning.message.ends_with("; the task stays on this machine"), "{warning}");
    }
}

#[test]
fn hostile_headers_cost_little_and_never_delegate() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, last) in ('b'..='i').zip('a'..) {
        bomb += &format!("{name}: &{name} [{}]\n", vec![format!("*{last}"); 9].join(", "));
    }
    let repeated = |part: &str| part.repeat((MAX_HEADER_BYTES - 100) / part.len());
    for header in [
        bomb + "tags: *i\n",
        repeated("["),
        repeated("{"),
        repeated("? "),
        repeated("- "),
        repeated("!a "),
        repeated("{a: ["),
        repeated("\"\\u0061"),
        repeated("a: &a "),
        repeated("*a &a "),
        repeated("%"),
        repeated("\\"),
        repeated("a:\n"),
        format!("tags: {}{}\n", "[".repeat(2000), "]".repeat(2000)),
        format!("title: {}\n", "x".repeat(2 << 20)),
        "k: v\n".repeat(400_000),
    ] {
        assert_ne!(
            in_good_time(&header).header.routing.state,
            HeaderState::Sound,
            "{}",
            &header[..20]
        );
    }
    let many_keys = (0..1000).map(|key| format!("k{key}:\n")).collect();
    let deep = (0..60).map(|depth| format!("{}k:\n", " ".repeat(depth))).collect();
    for header in [many_keys, deep, repeated("a: |\n ")] {
        let task = in_good_time(&header);
        assert_eq!(task.header.routing.state, HeaderState::Sound);
        assert!((1..=20).contains(&task.warnings.len()));
    }
}

/// Parses a header that tries to take long.
fn in_good_time(header: &str) -> Task {
    let text = format!("---\nallow_delegation: true\npreferred_ai: gpu\n{header}\n---\nB\n");
    let started = std::time::Instant::now();
    let task = parse(&text);
    assert_eq!(turn_of(text.as_bytes()), Some(TaskTurn::from(task.header.clone())));
    assert!(started.elapsed().as_secs() < 5, "{:?}: {:?}", &header[..20], started.elapsed());
    task
}
