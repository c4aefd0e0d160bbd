//! The prompt arrives as the task's author wrote it.

use serde_json::json;

use super::support::messages_api::Request;
use super::support::real_claude;
use super::world::{Setup, TASK, World, kinds};

/// Everything a shell, a terminal or an argument parser might take for its own.
const ODD: &str = "it's \"$(touch /tmp/never)\" `id` ${HOME} \\n \\ * ? ~ %s #{pid} !! ; & |\n\
                   \ttabbed\u{a0}nbsp\n\n漢字 한국어 👩‍💻 é ﬁ\n--help\n<!-- a comment -->\nlast line";

fn template(text: &str) -> serde_json::Value {
    json!({"message": text})
}

#[test]
fn an_argument_arrives_as_it_was_written() {
    let world = World::new();
    world.dispatch(&format!("---\npriority: high\n---\n{ODD}\n"));
    let turn = world.api.wait_for_turn("last line");
    let expected = format!(
        "[{TASK}] {ODD}\n\nIMPORTANT: carry out what this task asks for; \
         do not just describe how it could be done."
    );
    let texts = turn.user_texts();
    assert!(texts.iter().any(|text| text.contains(&expected)), "{texts:#?}");
    assert_eq!(turn.body["model"].as_str().map(|m| m.contains("sonnet")), Some(true));
    let filed = world.wait_for_place("done/fix.md");
    assert!(filed.text.contains(ODD), "{}", filed.text);
}

/// They are dispatched one after the other, from a single `scan`: each by the hook of the one before.
#[test]
fn no_message_is_taken_for_an_option_or_a_subcommand() {
    no_message_is_misread_by(
        real_claude::CURRENT,
        &["--version", "-p", "update", "mcp list", "--"],
    );
}

#[test]
fn nor_by_the_oldest_version() {
    no_message_is_misread_by(real_claude::OLDEST, &["--version", "update"]);
}

fn no_message_is_misread_by(version: &'static str, bodies: &[&str]) {
    let world = World::with(Setup { version, dispatcher: template("{body}"), ..Setup::default() });
    for (index, body) in bodies.iter().enumerate() {
        world.project.drop_task(format!("{index}.md"), body);
    }
    assert_eq!(kinds(&world.scan()), ["dispatched"]);
    for index in 0..bodies.len() {
        world.wait_for_place(&format!("done/{index}.md"));
    }
    let prompts: Vec<_> = world.api.turns().iter().map(Request::prompt).collect();
    let last_words: Vec<_> = prompts.iter().filter_map(|p| p.lines().last()).collect();
    assert_eq!(last_words, bodies);
}

#[test]
fn what_is_too_long_for_an_argument_is_left_in_its_file() {
    let world = World::without_hooks();
    let hang = super::support::Reply::Hang("read".to_owned());
    world.api.script([hang]);
    let body = "All work and no play.\n".repeat(10_000);
    world.dispatch(&body);
    let turn = world.api.wait_for_turn("Read the file");
    let prompt = turn.prompt();
    let (_, rest) = prompt.split_once("Read the file ").unwrap();
    let (path, _) = rest.split_once(" and carry out").unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(body.trim_end()), "{} bytes", text.len());
}
