//! The prompt arrives as the task's author wrote it.

use serde_json::json;

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
    world.api.otherwise(super::support::Reply::text("Done."));
    world.dispatch(&format!("---\npriority: high\n---\n{ODD}\n"));
    let turn = world.api.wait_for_turn("last line");
    let expected = format!(
        "[{TASK}] {ODD}\n\nIMPORTANT: carry out what this task asks for; \
         do not just describe how it could be done."
    );
    let texts = turn.user_texts();
    assert!(
        texts.iter().any(|text| text.contains(&expected)),
        "{texts:#?}"
    );
    assert_eq!(turn.body["model"].as_str().map(|m| m.contains("sonnet")), Some(true));
    let filed = world.wait_for_place("done/fix.md");
    assert!(filed.text.contains(ODD), "{}", filed.text);
}

#[test]
fn no_message_is_taken_for_an_option_or_a_subcommand() {
    for version in [real_claude::CURRENT, real_claude::OLD] {
        let world = World::with(Setup {
            version,
            dispatcher: template("{body}"),
            ..Setup::default()
        });
        for (name, body) in [
            ("a.md", "--version"),
            ("b.md", "-p"),
            ("c.md", "update"),
            ("d.md", "mcp list"),
            ("e.md", "--"),
        ] {
            world.project.drop_task(name, body);
            assert_eq!(kinds(&world.scan()), ["dispatched"], "{version} {body}");
            world.tmux.wait_until(&format!("{version}: the prompt {body:?}"), || {
                let texts: Vec<_> = world.api.turns().iter().map(|t| t.prompt()).collect();
                texts.iter().any(|text| text.lines().any(|line| line == body))
            });
            world.wait_for_place(&format!("done/{name}"));
        }
    }
}
