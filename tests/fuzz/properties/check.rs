//! What a check has printed, on its way into the agent's prompt and the task file: plain text, never too much of it, and
//! nothing of it is taken for anything else.

use ccl::check::{fenced, message, tail};
use ccl::task::{CheckEnding, Ending, Outcome, Provider, as_written, split, text_of, with_ending};
use jiff::Timestamp;
use uuid::Uuid;

/// The most that is kept of it.
const MOST: usize = 4 << 10;

/// All of it, for `TASK NUL COMMAND NUL OUTPUT`; a part that is missing is the whole.
pub fn check(bytes: &[u8]) {
    let whole = String::from_utf8_lossy(bytes);
    let parts: Vec<&str> = whole.splitn(3, '\0').collect();
    let [task, command, output] = parts[..] else {
        return holds(&whole, &whole, &whole);
    };
    holds(task, command, output);
}

/// For a task, and its check that has printed this.
pub fn holds(task: &str, command: &str, output: &str) {
    it_ends_as_plain_text(output);
    let tail = tail(output);
    it_is_quoted_whole(command, &tail);
    it_goes_with_the_ending(task, command, &tail);
}

/// Whether a terminal shows it all, and in its place.
fn is_plain(text: &str) -> bool {
    let odd = |c: char| c.is_control() && c != '\n' && c != '\t';
    !text.contains(odd) && !text.contains(['\u{202e}', '\u{2028}', '\u{feff}'])
}

/// The tail is what was printed last.
fn it_ends_as_plain_text(output: &str) {
    let tail = tail(output);
    assert!(tail.len() <= MOST, "{}", tail.len());
    assert!(is_plain(&tail), "{tail:?}");
    assert!(!tail.starts_with('\n') && !tail.ends_with('\n'));
    // Whatever stands above, and however much: it is the same end, or less of it.
    let below = self::tail(&format!("{}\n{output}", "above\n".repeat(MOST)));
    assert!(tail.ends_with(&below) || below.ends_with(&tail), "{tail:?}, {below:?}");
    // The line that tmux writes below is not the check's.
    let body = output.trim_end();
    if !body.is_empty() && !body.contains("Pane is dead") {
        assert_eq!(self::tail(&format!("{output}\n\nPane is dead (status 1, now)\n")), tail);
    }
}

/// The agent gets the tail as it is, between fences that nothing in it closes.
fn it_is_quoted_whole(command: &str, tail: &str) {
    for before in [None, Some("4b825dc642cb")] {
        let told = message(command, "ended with 1", tail, before);
        assert!(is_plain(&told), "{told:?}");
        assert!(told.contains(tail));
        assert!(told.ends_with("It is run again when you are done."));
    }
    let quoted = fenced(tail);
    let fence = quoted.lines().next().expect("a fence");
    assert!(fence.len() > 2 && fence.bytes().all(|byte| byte == b'`'));
    let closing = |line: &&str| line.trim_start().starts_with(fence);
    assert_eq!(quoted.lines().filter(closing).count(), 2, "{quoted}");
    assert_eq!(quoted, format!("{fence}\n{tail}\n{fence}"));
}

/// An ending whose texts are as odd as the command.
fn ending(outcome: Outcome, exit: i32, command: &str) -> Ending {
    // A longer one is no check, and a reason is cut when it is written.
    let command: String = command.chars().take(2000).collect();
    Ending {
        run: Uuid::from_u128(7),
        attempt: 1,
        provider: Some(Provider::ClaudeCode),
        outcome,
        check: Some(CheckEnding {
            command: command.clone(),
            exit,
            seconds: 3,
            rounds: 2,
            tree: None,
            red_before: Some(true),
        }),
        ..Ending::unworked(Timestamp::UNIX_EPOCH, command)
    }
}

/// The file tells its end whatever the check has printed, and `ccl retry` gives back what the author wrote.
fn it_goes_with_the_ending(task: &str, command: &str, tail: &str) {
    let parts = split(task);
    let written = [parts.header, parts.body].concat();
    let back = written.trim_end();
    // A task has text, and whoever writes two ending lines loses the second.
    let is_task = text_of(back.as_bytes()).is_ok() && split(back).read_ending().is_none();
    if !is_task {
        return;
    }
    let red = ending(Outcome::Failed, 1, command);
    let filed = with_ending(task, &red, Some(&fenced(tail)), None);
    let after = split(&filed);
    assert_eq!(after.read_ending().as_ref(), Some(&red));
    assert!(after.ending.len() < 64 << 10, "{}", after.ending.len());
    assert!(filed.starts_with(&written));
    assert!(is_plain(&filed[written.len()..]), "{filed:?}");
    assert!(filed.contains(&format!("\n## Check\n\n{}\n", fenced(tail))));
    assert_eq!(as_written(&filed), Some(back));
    // One that failed after its check was green, or is done: there is no such section of ours.
    let failed = with_ending(task, &ending(Outcome::Failed, 0, command), None, None);
    assert_eq!(as_written(&failed), None);
    let done = ending(Outcome::Done, 0, command);
    let done = with_ending(task, &done, Some(tail), Some("*claude-code · check passed, 3 s*"));
    assert!(
        as_written(&done).is_some_and(|text| text.starts_with(back) || back.contains("## Result"))
    );
}
