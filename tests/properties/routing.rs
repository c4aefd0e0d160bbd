//! What holds for every task file, whatever is in it.

use std::ffi::OsString;

use ccl::money::Cost;
use ccl::plan::{self, Queue};
use ccl::task::{
    BranchEnding, CheckEnding, CheckoutEnding, Ending, GitEnding, Outcome, Priority, Provider,
    Summary, Timeout, head, parse, text_of, turn_of,
};
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use uuid::Uuid;

use crate::properties::task;

/// Pieces from which headers are made, good, bad and hostile.
fn header_line() -> impl Strategy<Value = String> {
    let key = select(vec![
        "title",
        "priority",
        "tags",
        "needs_claude_code",
        "preferred_ai",
        "allow_delegation",
        "complexity_hint",
        "not_before",
        "not_before",
        "depends_on",
        "\"priority\"",
        "'allow_delegation'",
        "Priority",
        "own",
        "? priority",
        " priority",
        "- priority",
        "\"prior\\u0069ty\"",
        "!x priority",
        "<<",
        "priorité",
        "1",
        "...",
        "#priority",
        "{priority",
    ]);
    let separator = select(vec![
        ": ",
        ": ",
        ": ",
        ": ",
        ":  ",
        ":",
        " : ",
        ":\t",
        ":\n  ",
        ": # ",
        ":\n- a\n- ",
        ":\n  - ",
    ]);
    let word = select(vec![
        "2026-11-27 02:00",
        "2026-11-27T02:00:00+01:00",
        "'2026-11-27'",
        "20261127",
        "[a.md, ../b:c.md]",
        "true",
        "false",
        "TRUE",
        "yes",
        "\"true\"",
        "high",
        "Critical",
        "low",
        "medium",
        "auto",
        "gpu",
        "gemini",
        "claude-api",
        "remote",
        "claude-code",
        "gpt",
        "[web, auth]",
        "[gpu]",
        "[",
        "]",
        "{a: b}",
        "{",
        "}",
        "",
        "~",
        "null",
        "3",
        "1.5",
        "0x1f",
        "''",
        "\"\"",
        "'high'",
        "\"low\"",
        "'it''s'",
        "\"a\\\"b\"",
        "'",
        "\"",
        "high # soon",
        "high #",
        "high#soon",
        "a: b",
        "a:",
        "a:b",
        "&a high",
        "*a",
        "*",
        "!x high",
        "|\n  high",
        ">-\n  gpu",
        "high\n  low",
        "é",
        "\u{2028}",
        "\u{85}",
        "\u{feff}",
        "\t",
        "high\r",
        "--- ",
        "- a",
        "@x",
        "`x`",
        "%x",
        "a, b",
        "it's",
        "a & b *c*",
        "\u{7f}",
    ]);
    let plain =
        (key, separator, word).prop_map(|(key, separator, word)| format!("{key}{separator}{word}"));
    let odd = select(vec![
        "",
        "  ",
        "# note",
        "  # note",
        "  - a",
        "- a",
        "\t",
        "...",
        "text",
        "}",
        "]",
        "\u{1}",
        "%YAML 1.2",
    ]);
    prop_oneof![8 => plain, 1 => odd.prop_map(str::to_owned), 1 => "[ -~é\r\t]{0,20}"]
}

/// A whole file: a header of such lines, closed or not, a body, perhaps an ending line.
fn file() -> impl Strategy<Value = String> {
    (
        select(vec![
            "---\n",
            "---\n",
            "---\n",
            "---\r\n",
            "\u{feff}---\n",
            "--- \n",
            "---",
            "\n---\n",
            "",
        ]),
        vec(header_line(), 0..7),
        select(vec!["\n", "\n", "\r\n"]),
        select(vec![
            "---\n", "---\n", "---\n", "---\r\n", "---  \n", "---", "", "--- x\n", "----\n",
        ]),
        prop_oneof!["[ -~é\n\r]{0,30}", Just("---\n".to_owned()), Just("x".repeat(20_000))],
        option::of(ending().prop_map(|ending| ending.render())),
        select(vec!["", "\n", "\r\n", "\n\n"]),
    )
        .prop_map(|(open, lines, newline, close, body, ending, end)| {
            let lines: String = lines.iter().flat_map(|line| [line.as_str(), newline]).collect();
            let ending = ending.map_or(String::new(), |line| format!("\n{line}"));
            format!("{open}{lines}{close}{body}{ending}{end}")
        })
}

fn any_file() -> impl Strategy<Value = String> {
    prop_oneof![8 => file(), 1 => any::<String>(), 1 => any::<String>().prop_map(|text| format!("---\n{text}\n---\n"))]
}

fn text() -> impl Strategy<Value = Option<String>> {
    option::of(prop_oneof![
        any::<String>(),
        "[ -~\u{80}-\u{9f}\u{2028}\n\r]{0,40}",
        Just("--> <!-- ccl {} -->\n--!>".to_owned())
    ])
}

/// Boxed: two of them side by side do not fit on the stack of a test.
fn ending() -> BoxedStrategy<Ending> {
    let moment = || {
        option::of(
            (-200_000_000_000i64..200_000_000_000)
                .prop_filter_map("a time", |s| Timestamp::from_second(s).ok()),
        )
    };
    let cost = (text(), text())
        .prop_map(|(amount, currency)| amount.map(|amount| Cost { amount, currency }));
    (
        (
            any::<u128>(),
            select(vec![Outcome::Done, Outcome::Failed, Outcome::Released]),
            any::<u32>(),
        ),
        (option::of(select(Provider::ALL.to_vec())), text(), text(), text(), text(), text()),
        (cost, moment(), moment()),
        // In boxes: as values the strategies are too large for a test's stack.
        (option::of(git_ending()).boxed(), option::of(check_ending()).boxed()),
        (any::<u32>(), option::of(select(vec![Timeout::MaxDuration, Timeout::Stall]))),
    )
        .prop_map(|((run, outcome, attempt), texts, (cost, started_at, ended_at), work, rest)| {
            let ((git, check), (refused, timeout)) = (work, rest);
            let (provider, model, session, agent_session, job_id, reason) = texts;
            let run = Uuid::from_u128(run);
            Ending {
                agent: None,
                run,
                outcome,
                attempt,
                provider,
                model,
                session,
                agent_session,
                job_id,
                cost_of_task: cost.iter().cloned().collect(),
                cost,
                started_at,
                ended_at,
                reason,
                git,
                check,
                refused,
                timeout,
            }
        })
        .boxed()
}

fn check_ending() -> impl Strategy<Value = CheckEnding> {
    let text = || option::of(any::<String>());
    (any::<(String, i32, u64, u32)>(), text(), option::of(any::<bool>())).prop_map(
        |((command, exit, seconds, rounds), tree, red_before)| CheckEnding {
            command,
            exit,
            seconds,
            rounds,
            tree,
            red_before,
        },
    )
}

fn git_ending() -> impl Strategy<Value = GitEnding> {
    let text = || option::of(any::<String>());
    let branch =
        (any::<[String; 3]>(), any::<[u64; 4]>(), (text(), option::of(any::<bool>()), text()))
            .prop_map(|([branch, base, head], [commits, files, insertions, deletions], rest)| {
                let summary = Summary { branch, base, head, commits, files, insertions, deletions };
                let (base_branch, landed, reason) = rest;
                GitEnding::Branch(BranchEnding { summary, base_branch, landed, reason })
            });
    let checkout =
        (text(), text(), any::<[u32; 2]>()).prop_map(|(head_before, head_after, dirty)| {
            GitEnding::Checkout(CheckoutEnding { head_before, head_after, dirty })
        });
    prop_oneof![branch, checkout]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = (text_of(&bytes), head(&bytes), turn_of(&bytes));
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn the_parts_add_up_to_the_file(text in any_file()) {
        task::parts_add_up(&text);
    }

    #[test]
    fn the_first_bytes_never_tell_otherwise_than_the_whole(text in any_file(), cut in any::<prop::sample::Index>()) {
        task::first_bytes_agree(&text, cut.index(text.len() + 1));
    }

    #[test]
    fn only_good_headers_leave_the_machine(text in any_file()) {
        task::only_good_headers_leave(&text);
    }

    #[test]
    fn one_bad_routing_field_keeps_a_task_here(
        key in select(vec!["needs_claude_code", "preferred_ai", "allow_delegation", "complexity_hint"]),
        value in prop_oneof![
            select(vec!["yes", "1", "[true]", "{a: b}", "\"true\"", "~", "", "!x gpu", "2.5", "no", "gpt", "''"])
                .prop_map(str::to_owned),
            "[a-z]{3,9}x",
        ],
        place in 0..5usize,
    ) {
        let good = ["needs_claude_code: false", "preferred_ai: gpu", "allow_delegation: true", "complexity_hint: low"];
        let mut lines: Vec<String> =
            good.iter().filter(|line| !line.starts_with(key)).map(|line| (*line).to_owned()).collect();
        let fine = format!("---\n{}\n---\nB", good.join("\n"));
        prop_assert!(task::decided(&fine).provider.is_remote());
        lines.insert(place.min(lines.len()), format!("{key}: {value}"));
        let bad = format!("---\n{}\n---\nB", lines.join("\n"));
        prop_assert_eq!(task::decided(&bad).provider, Provider::ClaudeCode);
        let task = parse(&bad);
        prop_assert_eq!(task.warnings.len(), 1);
        prop_assert!(task.warnings[0].message.contains(key));
        prop_assert_eq!(task.warnings[0].line, place.min(3) + 2);
    }

    #[test]
    fn warnings_lie_within_the_header_and_on_one_line(text in any_file()) {
        task::warnings_are_in_place(&text);
    }

    #[test]
    fn endings_come_back_as_they_were(ending in ending()) {
        task::ending_comes_back(&ending);
    }

    #[test]
    fn releases_leave_the_task_as_it_was(text in any_file(), endings in vec(ending(), 1..4)) {
        task::releases_leave_it_as_it_was(&text, &endings);
    }

    #[test]
    fn a_filed_task_tells_its_true_end(text in any_file(), end in ending(), result in text(), forged in ending()) {
        let result = result.unwrap_or_default() + &forged.render();
        task::filed_tells_its_true_end(&text, &end, &result);
    }

    #[test]
    fn what_is_added_or_filed_is_still_the_authors(text in any_file()) {
        task::fields_are_set(&text);
        if text_of(text.as_bytes()).is_ok() {
            task::a_spoilt_header_stays(&text);
            task::what_is_filed_goes_back(&text);
        }
    }

    #[test]
    fn the_plan_gives_everything_once_and_keeps_its_order(
        projects in vec((0..4usize, vec((select(Priority::ALL.to_vec()), "[a-c]{1,2}"), 0..6)), 0..5)
    ) {
        let mut queues: Vec<Queue> = projects.iter().map(|(running, waiting)| {
            Queue::new(*running, waiting.iter().map(|(p, name)| (*p, OsString::from(name))).collect())
        }).collect();
        let mut left: Vec<Vec<(Priority, String)>> = projects.iter().map(|(_, waiting)| waiting.clone()).collect();
        let mut running: Vec<usize> = projects.iter().map(|(running, _)| *running).collect();
        let since = |project: usize, name: &str| i64::try_from(project * 7 % 5 + name.len()).unwrap();
        while let Some((project, name)) = plan::next(&mut queues, |p, name| since(p, name.to_str().unwrap())) {
            // The same order, as plainly as it can be said.
            let expected = (0..left.len()).filter_map(|p| {
                let (priority, name) = left[p].iter().min()?.clone();
                Some((priority, running[p], since(p, &name), p, name))
            }).min().unwrap();
            prop_assert_eq!((project, name.to_str().unwrap()), (expected.3, expected.4.as_str()));
            let taken = left[project].iter().position(|t| *t == (expected.0, expected.4.clone())).unwrap();
            left[project].remove(taken);
            running[project] += 1;
        }
        prop_assert!(left.iter().all(Vec::is_empty));
    }
}
