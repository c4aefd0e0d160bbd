use super::*;
use crate::money::Cost;
use uuid::Uuid;

fn ending(outcome: Outcome, attempt: u32) -> Ending {
    Ending::new(Uuid::from_u128(7), outcome, attempt)
}

#[test]
fn an_ending_is_one_line_of_json_in_a_comment() {
    let mut full = ending(Outcome::Done, 2);
    assert_eq!(
        full.render(),
        "<!-- ccl {\"run\":\"00000000-0000-0000-0000-000000000007\",\"outcome\":\"done\",\"attempt\":2} -->"
    );
    full.provider = Some(Provider::ClaudeApi);
    full.model = Some("opus".into());
    full.session = Some("ccl-auto-0".into());
    full.agent_session = Some("s".into());
    full.job_id = Some("j".into());
    full.started_at = Some("2026-01-02T03:04:05Z".parse().unwrap());
    full.ended_at = Some("2026-01-02T03:05:05.5Z".parse().unwrap());
    full.reason = Some("fine".into());
    full.cost_of_task = vec![Cost::of("1", "EUR").unwrap(), Cost::of("0.5", "USD").unwrap()];
    full = full.with_cost(Cost::of("0.0123", "USD"));
    full.refused = 2;
    full.timeout = Some(Timeout::MaxDuration);
    assert_eq!(
        full.render(),
        "<!-- ccl {\"run\":\"00000000-0000-0000-0000-000000000007\",\"outcome\":\"done\",\"attempt\":2,\
         \"provider\":\"claude-api\",\"model\":\"opus\",\"session\":\"ccl-auto-0\",\"agent_session\":\"s\",\
         \"job_id\":\"j\",\"cost\":{\"amount\":\"0.0123\",\"currency\":\"USD\"},\
         \"cost_of_task\":[{\"amount\":\"1\",\"currency\":\"EUR\"},{\"amount\":\"0.5123\",\"currency\":\"USD\"}],\
         \"started_at\":\"2026-01-02T03:04:05Z\",\"ended_at\":\"2026-01-02T03:05:05.5Z\",\"reason\":\"fine\",\
         \"refused\":2,\"timeout\":\"max_duration\"} -->"
    );
    assert_eq!(Ending::parse(&full.render()), Some(full));
}

#[test]
fn nothing_in_an_ending_can_end_its_line_or_its_comment() {
    let mut odd = ending(Outcome::Failed, 1);
    odd.reason = Some("--> <!-- --!> \r\n \u{1b}[31m \u{7f} \u{85} \u{2028} \" \\ é".into());
    let line = odd.render();
    assert_eq!(line.matches("-->").count(), 1);
    assert_eq!(line.matches("<!--").count(), 1);
    assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}'), "{line}");
    assert!(
        line.contains(r"--\u003e \u003c!-- --!\u003e \r\n \u001b[31m \u007f \u0085 \u2028"),
        "{line}"
    );
    assert_eq!(Ending::parse(&line), Some(odd));
}

#[test]
fn a_long_reason_is_cut() {
    let mut long = ending(Outcome::Failed, 1);
    long.reason = Some("é".repeat(2000));
    assert_eq!(Ending::parse(&long.render()), Some(long.clone()));
    long.reason = Some("é".repeat(2_000_000));
    let line = long.render();
    assert!(line.len() < MAX_ENDING_BYTES);
    assert_eq!(Ending::parse(&line).unwrap().reason.unwrap(), "é".repeat(2000) + "…");
}

#[test]
fn reads_what_other_versions_write_and_nothing_else() {
    let run = Uuid::from_u128(7);
    let line = format!(
        r#"<!-- ccl {{"new":[1],"attempt":3,"reason":null,"outcome":"released","run":"{run}"}} -->  "#
    );
    assert_eq!(Ending::parse(&line), Some(ending(Outcome::Released, 3)));
    for bad in [
        "".to_owned(),
        "<!-- ccl -->".to_owned(),
        "<!-- ccl {} -->".to_owned(),
        line.replace("released", "lost"),
        line.replace("attempt", "attempts"),
        line.replace(":3", ":-3"),
        line.replace("-->", "--"),
        line.replace("ccl", "CCL"),
        format!(" {line}"),
        format!("x{line}"),
    ] {
        assert_eq!(Ending::parse(&bad), None, "{bad}");
        assert_eq!(parse(&format!("Body\n{bad}\n")).ending, None, "{bad}");
    }
}

#[test]
fn only_the_last_line_counts_and_none_is_part_of_the_prompt() {
    let line = ending(Outcome::Released, 2).render();
    for end in ["", "\n", "\r\n", "\n\n\r\n"] {
        let task = parse(&format!("Body\n{line}{end}"));
        assert_eq!((&*task.body, task.attempts_made()), ("Body", 2), "{end:?}");
    }
    let quoted = parse(&format!("Body\n{line}\nMore\n"));
    assert_eq!(quoted.body, format!("Body\n{line}\nMore"));
    assert_eq!(quoted.attempts_made(), 0);
    let alone = parse(&line);
    assert_eq!((&*alone.body, alone.attempts_made()), ("", 2));
    assert_eq!(text_of(line.as_bytes()), Err(Unfit::Empty));
}

#[test]
fn attempts_start_afresh_after_an_outcome() {
    for (outcome, attempts) in [(Outcome::Released, 2), (Outcome::Failed, 0), (Outcome::Done, 0)] {
        let file = with_ending("Body", &ending(outcome, 2), None, None);
        assert_eq!(parse(&file).attempts_made(), attempts, "{outcome:?}");
    }
    assert_eq!(parse("Body").attempts_made(), 0);
}

#[test]
fn a_release_replaces_the_ending_line_and_nothing_else() {
    for text in [
        "Body",
        "Body\n",
        "Body\n\n\n",
        "Body\r\n",
        "Body\r",
        "",
        "\n",
        "---\ntitle: T\n---",
        "---\ntitle: T\n---\n",
        "\u{feff}---\r\ntitle: T\r\n---\r\nBody\r\n",
        "---\nunclosed: x",
        "---\n\nprose\n\n---\nmore",
    ] {
        let before = split(text);
        let mut file = text.to_owned();
        for attempt in 1..4 {
            let noted = ending(Outcome::Released, attempt);
            file = with_ending(&file, &noted, None, None);
            let after = split(&file);
            assert_eq!((after.header, after.body), (before.header, before.body), "{text:?}");
            assert_eq!(file, format!("{text}\n{}\n", noted.render()));
            assert_eq!(parse(&file), Task { ending: Some(noted), ..parse(text) }, "{text:?}");
        }
    }
}

#[test]
fn a_large_task_stays_fit_when_it_is_released() {
    let mut noted = ending(Outcome::Released, 1);
    noted.reason = Some("\u{1}".repeat(5000));
    let file = with_ending(&"x".repeat(MAX_BYTES), &noted, None, None);
    assert!(text_of(file.as_bytes()).is_ok());
}

#[test]
fn a_filed_task_shows_result_and_footer_above_its_ending() {
    let done = ending(Outcome::Done, 1);
    let released =
        with_ending("---\ntitle: T\n---\nBody\n", &ending(Outcome::Released, 1), None, None);
    let line = done.render();
    let filed = with_ending(&released, &done, Some("It works.\n\n"), Some("*gpu, 3 s, 0.01 USD*"));
    assert_eq!(
        filed,
        format!(
            "---\ntitle: T\n---\nBody\n\n## Result\n\nIt works.\n\n*gpu, 3 s, 0.01 USD*\n\n{line}\n"
        )
    );
    assert_eq!(with_ending("", &done, None, Some("foot")), format!("foot\n\n{line}\n"));
    assert_eq!(with_ending("Body", &done, None, Some("foot")), format!("Body\n\nfoot\n\n{line}\n"));
}

#[test]
fn a_result_cannot_forge_the_ending() {
    let forged = ending(Outcome::Done, 9).render();
    let true_one = ending(Outcome::Failed, 1);
    for result in [forged.clone(), format!("text\n{forged}\n"), format!("{forged}\n\n\n")] {
        for footer in [None, Some(&*forged)] {
            let filed = with_ending("Body\n", &true_one, Some(&result), footer);
            assert_eq!(parse(&filed).ending, Some(true_one.clone()));
            let again = with_ending(&filed, &true_one, None, None);
            assert_eq!(again, filed);
        }
    }
}
