use super::*;

#[test]
fn only_files_with_text_are_fit() {
    assert_eq!(text_of(b"Do it."), Ok("Do it."));
    assert_eq!(text_of("---\ntitle: é\n---".as_bytes()), Ok("---\ntitle: é\n---"));
    for blank in ["", "\n", " \t\r\n\u{a0}\u{2003}", "\u{feff}", "\u{feff}\n"] {
        assert_eq!(text_of(blank.as_bytes()), Err(Unfit::Empty), "{blank:?}");
    }
    for (bytes, offset) in
        [(&b"ab\0c"[..], 2), (b"\xff", 0), (b"a\0\xff", 1), (b"a\xff\0", 1), (b"ab\xc3", 2)]
    {
        assert_eq!(text_of(bytes), Err(Unfit::NotText { offset }));
    }
    let full = "x".repeat(MAX_BYTES);
    assert!(text_of(full.as_bytes()).is_ok());
    assert_eq!(text_of(format!("{full}x").as_bytes()), Err(Unfit::TooLarge));
    assert_eq!(text_of(&vec![0; 4 * MAX_BYTES]), Err(Unfit::TooLarge));
    let reason = Unfit::NotText { offset: 7 }.to_string();
    assert!(reason.contains("offset 7") && reason.contains("UTF-8"), "{reason}");
    assert!(Unfit::TooLarge.to_string().contains("1 MiB"));
}

fn turn(priority: Priority) -> TaskTurn {
    TaskTurn { priority, ..TaskTurn::default() }
}

#[test]
fn the_first_bytes_suffice_or_say_so() {
    let text = "\u{feff}---\r\ntitle: T\r\npriority: high\r\n---  \r\nB: é\n";
    let enough = text.find("B:").unwrap();
    for cut in 0..=text.len() {
        let known = (cut >= enough).then_some(Priority::High);
        assert_eq!(turn_of(&text.as_bytes()[..cut]), known.map(turn), "{cut}");
        let head = head(&text.as_bytes()[..cut]);
        assert_eq!(
            head.map(|head| (head.priority, head.title)),
            known.map(|p| (p, Some("T".into()))),
            "{cut}"
        );
    }
    for no_header in ["Do it", "----", "--x", "-- ", "---x", "\u{feff}#"] {
        assert_eq!(turn_of(no_header.as_bytes()), Some(TaskTurn::default()), "{no_header}");
        assert_eq!(head(no_header.as_bytes()), Some(Header::default()), "{no_header}");
    }
    for undecided in [
        "",
        "-",
        "--",
        "---",
        "--- ",
        "\u{feff}--",
        "---\n",
        "---\na: b\n",
        "---\n---",
        "---\n--- ",
    ] {
        assert_eq!(turn_of(undecided.as_bytes()), None, "{undecided:?}");
        assert_eq!(head(undecided.as_bytes()), None, "{undecided:?}");
    }
    let endless = format!("---\npriority: high\n{}", "a: b\n".repeat(4000));
    assert_eq!(turn_of(endless.as_bytes()), Some(TaskTurn::default()));
    assert_eq!(
        head(endless.as_bytes()).map(|head| head.routing.state),
        Some(HeaderState::Unreadable)
    );
    let not_text = b"---\npriority: high\nx: \xff\n---\n";
    assert_eq!(head(not_text), Some(Header::default()));
    assert_eq!(turn_of(not_text), Some(TaskTurn::default()));
}

#[test]
fn the_quick_look_reads_what_is_plain_and_leaves_the_rest() {
    let quick = |fields: &str| fast_turn::read(format!("---\n{fields}\n").as_bytes());
    for plain in [
        "priority: high",
        "tags:\n- web\n\n  # note\n- auth\npriority: high\nown:   # note\n    - a b\n    - c",
        "title: Fix the login redirect\npriority: high   # soon\ntags: [web, auth]",
        "title: \"Was: it's #1\"\r\npriority: 'HIGH '\r\nallow_delegation: true",
        "\n# comment\n  # another\ntitle: Déjà vu\npriority: high\npriority: low\nurl: http://x/y#z",
    ] {
        assert_eq!(quick(plain), Some(turn(Priority::High)), "{plain}");
        assert_eq!(with_header(plain).header.priority, Priority::High, "{plain}");
    }
    for odd in [
        " priority: high",
        "priority:high",
        "priority:\n  high",
        "a: b\n- c",
        "a: ''\n- c",
        "a:\n- b\n - c",
        "a:\n  - b\n- c",
        "a:\n- b: c",
        "a:\n-b",
        "a:\n-",
        "? priority\n: high",
        "a: b: c",
        "a: b:",
        "a: *b",
        "a: b &c\nd: e *c",
        "a: \"x\\\"\"",
        "a: 'it''s'",
        "a: [b, [c]]",
        "a: [b,, c]",
        "a: {b: c}",
        "a: 'b' c",
        "a: b\u{2028}c",
        "\"priority\": high",
        "a:\tb",
        "a: b\t",
        "a: b\n\t\nc: d",
        "...",
        "- a",
        "just text",
        "a: |\n  b",
        "1: x",
        "a: - b",
        "a: [b]c",
        "a: [-]",
        "depends_on: a.md",
        "depends_on: [a]",
        "depends_on: [a.md, 1]",
        "depends_on: []",
        "depends_on: [a.md]  # soon",
        "depends_on:\n- a.md",
        "depends_on: [a.md]\ndepends_on: [b.md]",
        "not_before: soon",
        "not_before: 20261127",
        "not_before:",
    ] {
        assert_eq!(quick(odd), None, "{odd}");
    }
    assert_eq!(quick("title: T"), Some(TaskTurn::default()));
    for list in ["[a.md]", "[ a.md, b c.md,../x:d.md ]", "[a.md , 1.md]"] {
        let fields = format!("depends_on: {list}");
        let whole = with_header(&fields).header.order;
        assert!(!whole.depends_on.is_empty(), "{list}");
        let found = quick(&fields).map(|turn| turn.order);
        assert_eq!(found.unwrap_or_else(|| whole.clone()), whole, "{list}");
    }
    for time in ["2026-11-27 02:00", "'2026-11-27'  # soon", "2026-11-27T02:00:00+01:00"] {
        let fields = format!("not_before: {time}\npriority: low\nnot_before: soon");
        let found = quick(&fields).unwrap();
        let whole = with_header(&fields).header;
        assert!(found.order.not_before.is_some(), "{time}");
        assert_eq!(found, TaskTurn::from(whole), "{time}");
    }
}
