//! A task's text, written anew: with fields set, with an ending, or back to what its author wrote.

use super::parts::{Parts, split, without_ending};
use super::{Ending, Outcome};

const FENCE: &str = "---\n";
const RESULT: &str = "\n## Result\n";
const CHECK: &str = "\n## Check\n";

/// The text with these fields in its header instead of any older ones; a header is made where there is none. The values
/// are YAML on one line.
///
/// A header that was written by hand may hold anything, so the caller checks with [`super::parse`] that it now says
/// this.
pub fn with_fields(text: &str, fields: &[(&str, String)]) -> String {
    let lines: String = fields.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
    if lines.is_empty() {
        return text.to_owned();
    }
    let Parts { header, .. } = split(text);
    if header.is_empty() {
        let body = text.trim_start_matches('\u{feff}');
        return format!("{FENCE}{lines}{FENCE}\n{body}");
    }
    let keys: Vec<&str> = fields.iter().map(|(key, _)| *key).collect();
    replaced(header, &keys, &lines) + &text[header.len()..]
}

/// The text without these fields in its header.
pub(crate) fn without_fields(text: &str, keys: &[&str]) -> String {
    let Parts { header, .. } = split(text);
    if header.is_empty() {
        return text.to_owned();
    }
    replaced(header, keys, "") + &text[header.len()..]
}

/// The header without these keys, and with these lines at its end.
fn replaced(header: &str, keys: &[&str], lines: &str) -> String {
    let mut kept = String::new();
    let mut in_older = false;
    let mut old = header.split_inclusive('\n').peekable();
    while let Some(line) = old.next() {
        if old.peek().is_none() {
            // The fence that closes the header: the new lines go above it.
            kept.push_str(lines);
            in_older = false;
        } else if !line.starts_with([' ', '\t', '-', '\r', '\n']) {
            // A key. Items, indented lines and blank ones go with the key above them.
            in_older = keys.iter().any(|key| {
                line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':'))
            });
        }
        if !in_older {
            kept.push_str(line);
        }
    }
    kept
}

/// A filed task as it goes back to wait, without what was added when it was filed; `None` where that was the ending
/// line alone, which does no harm.
///
/// A task that failed at secutools loses its footer. One that failed here, or that nobody worked on, has none: a last
/// line between asterisks is its author's. A finished task also loses everything from the last heading `## Result` on,
/// so this is for a copy only.
pub fn as_written(text: &str) -> Option<&str> {
    let ending = split(text).read_ending()?;
    let has_footer =
        ending.outcome == Outcome::Done || ending.provider.is_some_and(|it| it.is_remote());
    let written = without_ending(text).trim_end();
    if is_red(&ending) {
        // A section `## Check` has no footer below it.
        return without_check(written);
    }
    let footer = written.rfind('\n').map_or(0, |newline| newline + 1);
    let line = &written[footer..];
    if !(has_footer && line.len() > 1 && line.starts_with('*') && line.ends_with('*')) {
        return None;
    }
    let above = &written[..footer];
    let end = match ending.outcome {
        Outcome::Done => above.rfind(RESULT).unwrap_or(above.len()),
        Outcome::Failed | Outcome::Released => above.len(),
    };
    Some(above[..end].trim_end())
}

/// The task was given up because its check stayed red: what that has printed stands in the file, between fences.
fn is_red(ending: &Ending) -> bool {
    ending.outcome == Outcome::Failed && ending.check.as_ref().is_some_and(|check| check.exit != 0)
}

/// The text above the last section `## Check`. Its fences are longer than any fence in it, so nothing that the check
/// has printed can be taken for the beginning of the section.
fn without_check(written: &str) -> Option<&str> {
    let fence = &written[written.rfind('\n')? + 1..];
    let is_fence = fence.len() > 2 && fence.bytes().all(|byte| byte == b'`');
    let section = written.rfind(&format!("{CHECK}\n{fence}\n"))?;
    is_fence.then(|| written[..section].trim_end())
}

/// Above what was added: the agent's answer, or the last of what a check has printed that stayed red.
fn heading(ending: &Ending) -> &'static str {
    if is_red(ending) { "## Check" } else { "## Result" }
}

/// The file with this ending instead of any older one.
///
/// Without a result and a footer nothing else changes: header and body stay as they are through any number of
/// releases. With them, a section and a line for people to read stand above the ending line.
pub fn with_ending(
    text: &str,
    ending: &Ending,
    result: Option<&str>,
    footer: Option<&str>,
) -> String {
    let mut file = without_ending(text).to_owned();
    if let Some(result) = result {
        add_paragraph(&mut file, heading(ending));
        add_paragraph(&mut file, result.trim_end());
    }
    if let Some(footer) = footer {
        add_paragraph(&mut file, footer);
    }
    file.push('\n');
    file.push_str(&ending.render());
    file.push('\n');
    file
}

/// Adds a paragraph and its newline, a blank line above it.
fn add_paragraph(file: &mut String, paragraph: &str) {
    if !file.is_empty() && !file.ends_with('\n') {
        file.push('\n');
    }
    if !file.is_empty() {
        file.push('\n');
    }
    file.push_str(paragraph);
    file.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{HeaderState, Priority, Provider, parse};

    fn fields() -> Vec<(&'static str, String)> {
        vec![("priority", "high".to_owned()), ("title", "\"T: x\"".to_owned())]
    }

    #[test]
    fn fields_are_set_in_any_header() {
        for (text, body) in [
            ("Do it.\n", "Do it."),
            ("\u{feff}Do it.\n", "Do it."),
            ("---\npriority: low\n---\nDo it.\n", "Do it."),
            ("---\r\npriority: low\r\ntags: [a]\r\n---\r\nDo it.", "Do it."),
            ("---\ntitle: >\n  long\n\n  title\nx: 1\n---\nDo it.", "Do it."),
            ("---\ntitle: a\npriority:\n- low\n---", ""),
            ("---\ntitled: a\n---\nDo it.", "Do it."),
            ("---\n---\nDo it.", "Do it."),
            ("---\n\n- not a header\n", "---\n\n- not a header"),
            ("", ""),
        ] {
            let task = parse(&with_fields(text, &fields()));
            assert_eq!(task.header.routing.state, HeaderState::Sound, "{text:?}");
            assert_eq!(task.header.priority, Priority::High, "{text:?}");
            assert_eq!(task.header.title.as_deref(), Some("T: x"), "{text:?}");
            assert_eq!(task.body, body, "{text:?}");
        }
        let kept = with_fields("---\ntags: [a]\ntitled: x\n---\nb", &fields());
        assert_eq!(kept, "---\ntags: [a]\ntitled: x\npriority: high\ntitle: \"T: x\"\n---\nb");
        assert_eq!(with_fields("as it is", &[]), "as it is");
        let text = "---\r\nat: daily\r\ntitle: t\r\nevery:\r\n  1d\r\n---\r\nat: night\r\n";
        let bare = without_fields(text, &["at", "every"]);
        assert_eq!(bare, "---\r\ntitle: t\r\n---\r\nat: night\r\n");
    }

    fn filed(outcome: Outcome, result: Option<&str>, footer: Option<&str>) -> String {
        let ending = ending(outcome, Provider::Gpu);
        with_ending("---\ntitle: t\n---\nDo it.\n", &ending, result, footer)
    }

    fn ending(outcome: Outcome, provider: Provider) -> Ending {
        Ending { provider: Some(provider), ..Ending::new(uuid::Uuid::nil(), outcome, 1) }
    }

    #[test]
    fn what_was_added_is_taken_away_again() {
        let written = Some("---\ntitle: t\n---\nDo it.");
        let footer = Some("*claude-code · 3s*");
        let done = filed(Outcome::Done, Some("fine\n\n*really*"), footer);
        assert_eq!(as_written(&done), written);
        assert_eq!(as_written(&filed(Outcome::Done, None, footer)), written);
        assert_eq!(as_written(&filed(Outcome::Failed, None, footer)), written);
        assert_eq!(as_written(&filed(Outcome::Failed, None, None)), None);
        assert_eq!(as_written("Do it.\n\n*please · now*\n"), None);
    }

    #[test]
    fn nothing_that_the_author_wrote_of_a_failed_task_is_taken_away() {
        let text = "Write it below.\n\n## Result\n\nhere";
        let failed = filed(Outcome::Failed, None, Some("*x*")).replace("Do it.", text);
        assert!(as_written(&failed).unwrap().ends_with(text));
    }

    /// A session that fails adds no footer, nor does `ccl cancel`.
    #[test]
    fn a_last_line_between_asterisks_is_not_taken_for_a_footer_that_nobody_added() {
        let text = "Deploy it.\n\n**Not on a Friday**\n";
        let local = ending(Outcome::Failed, Provider::ClaudeCode);
        let cancelled = Ending::unworked(jiff::Timestamp::UNIX_EPOCH, "cancelled".to_owned());
        for ending in [local, cancelled] {
            assert_eq!(as_written(&with_ending(text, &ending, None, None)), None);
        }
    }
}
