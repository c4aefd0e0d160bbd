//! The task file: nothing of it is lost, and nothing bad in it leaves the machine.

use ccl::router::{AutoRoutes, Decision, Rule, decide};
use ccl::task::{
    Ending, Field, HeaderState, MAX_HEADER_BYTES, Outcome, Preference, Priority, Provider, Task,
    TaskTurn, as_written, head, parse, split, text_of, turn_of, with_ending, with_fields,
};
use jiff::Timestamp;
use uuid::Uuid;

/// All of it, for the bytes of a task file.
pub fn check(bytes: &[u8]) {
    let _ = (head(bytes), turn_of(bytes));
    let text = match text_of(bytes) {
        Ok(text) => text,
        Err(_) => return parts_add_up(&String::from_utf8_lossy(bytes)),
    };
    parts_add_up(text);
    for cut in super::cuts(bytes) {
        first_bytes_agree(text, cut);
    }
    only_good_headers_leave(text);
    a_spoilt_header_stays(text);
    warnings_are_in_place(text);
    fields_are_set(text);
    let ending = ending(Outcome::Released, Provider::ClaudeCode, text);
    ending_comes_back(&ending);
    releases_leave_it_as_it_was(text, std::slice::from_ref(&ending));
    filed_tells_its_true_end(text, &ending, text);
    what_is_filed_goes_back(text);
}

/// An ending whose texts are as odd as `text`.
fn ending(outcome: Outcome, provider: Provider, text: &str) -> Ending {
    let short: String = text.chars().take(100).collect();
    Ending {
        run: Uuid::from_u128(7),
        attempt: 3,
        provider: Some(provider),
        model: Some(short),
        job_id: Some("j1".to_owned()),
        // Written, a longer one is cut.
        reason: Some(text.chars().take(2000).collect()),
        outcome,
        ..Ending::unworked(Timestamp::UNIX_EPOCH, String::new())
    }
}

fn remote_routes() -> AutoRoutes {
    AutoRoutes { low: Provider::Gpu, medium: Provider::Gemini, high: Provider::ClaudeApi }
}

/// Where the task in `text` goes when everything may leave the machine.
pub fn decided(text: &str) -> Decision {
    decide(&parse(text).header.routing, &remote_routes())
}

/// Without what became of it.
fn unended(task: Task) -> Task {
    Task { ending: None, ..task }
}

/// Header, body and ending line are the file, and the agent gets all of the body.
pub fn parts_add_up(text: &str) {
    let parts = split(text);
    let written = [parts.header, parts.body].concat();
    assert_eq!([&written, parts.ending].concat(), text);
    let task = parse(text);
    match task.header.routing.state {
        HeaderState::Unreadable => {
            assert_eq!(task.body, written.trim_start_matches('\u{feff}').trim());
        }
        HeaderState::Sound | HeaderState::DuplicateKey => assert_eq!(task.body, parts.body.trim()),
    }
    assert_eq!(task.ending.is_some(), !parts.ending.is_empty());
}

/// The first bytes tell what the whole file does, or nothing.
pub fn first_bytes_agree(text: &str, cut: usize) {
    let whole = parse(text);
    for bytes in [text.as_bytes(), &text.as_bytes()[..cut]] {
        if let Some(turn) = turn_of(bytes) {
            assert_eq!(turn, TaskTurn::from(whole.header.clone()));
        }
        assert_eq!(turn_of(bytes).is_some(), head(bytes).is_some());
        if let Some(head) = head(bytes) {
            assert_eq!((&head.title, head.priority), (&whole.header.title, whole.header.priority));
            assert_eq!((&head.tags, &head.routing), (&whole.header.tags, &whole.header.routing));
        }
    }
}

/// What leaves the machine is allowed to, in the words of a plain YAML library too.
pub fn only_good_headers_leave(text: &str) {
    let Decision { provider, rule } = decided(text);
    if !provider.is_remote() {
        return;
    }
    let routing = parse(text).header.routing;
    assert_eq!(routing.state, HeaderState::Sound);
    assert_eq!(routing.allow_delegation, Field::Given(true));
    assert!(matches!(routing.needs_claude_code, Field::Absent | Field::Given(false)));
    assert!(!routing.preferred_ai.is_bad() && !routing.complexity_hint.is_bad());
    assert!(matches!(rule, Rule::PreferredAi | Rule::Auto));
    if let Field::Given(Preference::Provider(named)) = routing.preferred_ai {
        assert_eq!(named, provider);
    }

    let header = split(text).header.trim_start_matches('\u{feff}').trim_end();
    let yaml = header.strip_suffix("---").expect("the closing line");
    let plain: serde_yaml::Value =
        serde_yaml::from_str(yaml).expect("a map without duplicate keys");
    assert_eq!(plain["allow_delegation"].as_bool(), Some(true));
    if let Some(needs) = plain.get("needs_claude_code") {
        assert_eq!(needs.as_bool(), Some(false));
    }
    for key in ["preferred_ai", "complexity_hint"] {
        assert!(plain.get(key).is_none_or(serde_yaml::Value::is_string));
    }
}

/// One bad routing field more, or a second one, and the task stays.
pub fn a_spoilt_header_stays(text: &str) {
    if !decided(text).provider.is_remote() {
        return;
    }
    let (open, rest) = text.split_once('\n').expect("a header has lines");
    for bad in [
        "allow_delegation: yes",
        "needs_claude_code: \"false\"",
        "preferred_ai: gpt",
        "complexity_hint: [low]",
        "own: 1\nown: 2",
        "[",
    ] {
        let spoilt = format!("{open}\n{bad}\n{rest}");
        assert!(!decided(&spoilt).provider.is_remote(), "{bad}");
    }
}

/// Warnings name a place in the file, on one line.
pub fn warnings_are_in_place(text: &str) {
    let task = parse(text);
    // YAML knows line breaks of its own.
    let breaks = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
    let lines = text.split(breaks).count();
    for warning in &task.warnings {
        assert!((1..=lines).contains(&warning.line), "{warning}");
        let columns = 1..=text.chars().count() + 1;
        assert!(columns.contains(&warning.column), "{warning}");
        assert!(!warning.message.contains(char::is_control), "{warning}");
    }
    if task.header.routing.state != HeaderState::Sound {
        assert!(!task.warnings.is_empty());
    }
}

/// `ccl add` sets fields and touches nothing else.
pub fn fields_are_set(text: &str) {
    let fields = [("priority", "high".to_owned()), ("title", "\"T: x\"".to_owned())];
    let set = with_fields(text, &fields);
    let (before, after) = (split(text), split(&set));
    assert_eq!(after.read_ending(), before.read_ending());
    let (old, new) = (parse(text), parse(&set));
    if before.header.is_empty() {
        let written = before.body.trim_start_matches('\u{feff}');
        assert_eq!(new.body, written.trim());
        assert_eq!(new.header.routing, ccl::task::Routing::default());
        assert_eq!(
            (new.header.priority, new.header.title.as_deref()),
            (Priority::High, Some("T: x"))
        );
    } else {
        assert!(set.ends_with(&text[before.header.len()..]));
        if before.header.len() + 100 < MAX_HEADER_BYTES {
            assert_eq!(after.body, before.body);
        }
        let states = (old.header.routing.state, new.header.routing.state);
        if states == (HeaderState::Sound, HeaderState::Sound) {
            assert_eq!(new.header.routing, old.header.routing);
        }
    }
}

/// What is written is one line, one comment, and read as it was.
pub fn ending_comes_back(ending: &Ending) {
    let line = ending.render();
    assert!(!line.contains(char::is_control), "{line}");
    assert_eq!(line.find("-->"), Some(line.len() - 3));
    assert_eq!(Ending::parse(&line).as_ref(), Some(ending));
}

/// However often a task comes back, it stays the task that it was.
pub fn releases_leave_it_as_it_was(text: &str, endings: &[Ending]) {
    let before = split(text);
    let mut file = text.to_owned();
    for ending in endings {
        file = with_ending(&file, ending, None, None);
        let after = split(&file);
        assert_eq!((after.header, after.body), (before.header, before.body));
        assert_eq!(after.read_ending().as_ref(), Some(ending));
        assert_eq!(with_ending(&file, ending, None, None), file);
    }
    if text_of(text.as_bytes()).is_ok() {
        assert_eq!(text_of(file.as_bytes()), Ok(&*file));
    }
    assert_eq!(unended(parse(&file)), unended(parse(text)));
}

/// The last line tells what became of it, whatever task and result say.
pub fn filed_tells_its_true_end(text: &str, end: &Ending, result: &str) {
    for footer in [None, Some("gpu, 3 s")] {
        let filed = with_ending(text, end, Some(result), footer);
        assert_eq!(parse(&filed).ending.as_ref(), Some(end));
        assert!(filed.contains(result.trim_end()));
        let before = split(text);
        assert!(filed.starts_with(&[before.header, before.body].concat()));
    }
}

/// `ccl retry` takes away what filing added, and nothing that the author wrote.
pub fn what_is_filed_goes_back(text: &str) {
    let parts = split(text);
    let written = [parts.header, parts.body].concat();
    let back = written.trim_end();
    // Whoever writes two ending lines loses the second.
    if split(back).read_ending().is_some() {
        return;
    }
    let footer = Some("*gpu · 3s*");
    for (outcome, provider, result, footer) in [
        (Outcome::Done, Provider::ClaudeCode, Some("fine"), footer),
        (Outcome::Done, Provider::Gpu, Some("*fine*"), footer),
        (Outcome::Failed, Provider::Gpu, None, footer),
        // A session that fails adds no footer.
        (Outcome::Failed, Provider::ClaudeCode, None, None),
    ] {
        let filed = with_ending(text, &ending(outcome, provider, text), result, footer);
        let again = as_written(&filed);
        assert_eq!(again, footer.map(|_| back), "{outcome:?} by {provider}");
    }
    let (old, new) = (parse(text), parse(back));
    assert_eq!((new.body, new.header.routing), (old.body, old.header.routing));
    assert_eq!(
        (new.header.title, new.header.priority, new.header.tags),
        (old.header.title, old.header.priority, old.header.tags)
    );
}
