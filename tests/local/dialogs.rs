//! Screens that wait for a person: nothing is typed into any of them.

use std::fs;

use serde_json::{Value, json};

use super::launch::typed;
use super::support::fake_script::{Behaviour, Ending, Screen, Turn};
use super::world::{World, ending};

const DIALOGS: [(Screen, &str); 8] = [
    (Screen::Trust, "whether it may trust the project"),
    (Screen::TrustYesFirst, "whether it may trust the project"),
    (Screen::Bypass, "whether it may bypass permissions"),
    (Screen::ApiKey, "whether it may use the API key"),
    (Screen::Login, "no valid login"),
    (Screen::Theme, "never been set up"),
    (Screen::Limit, "account's limit is reached"),
    (Screen::ResumePicker, "which conversation to resume"),
];

/// All dialogs in one pass.
#[test]
fn nothing_is_typed_into_a_dialog_and_every_task_is_back_with_its_sentence() {
    let world =
        World::claude(DIALOGS.len()).with("pool", json!({"autonomous": {"max": DIALOGS.len()}}));
    let mut behaviours = Vec::new();
    for (index, (screen, _)) in DIALOGS.iter().enumerate() {
        world.project(&format!("dialog-{index}")).drop_task("t.md", "Do it.\n");
        behaviours.push(Behaviour {
            when: format!("dialog-{index}"),
            screens: vec![*screen],
            ..Behaviour::default()
        });
    }
    world.script(&behaviours);
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.code, 1, "{pass:#?}");
    assert_eq!(typed(&world), [] as [Value; 0]);
    assert_eq!(world.fake.prompts(), [""; 0]);
    for (index, (screen, sentence)) in DIALOGS.iter().enumerate() {
        let project = world.project(&format!("dialog-{index}"));
        assert_eq!(project.inbox(), ["t.md"], "{screen:?}");
        let end = ending(&project, "inbox/t.md");
        let reason = end["reason"].as_str().unwrap();
        assert!(reason.contains(sentence), "{screen:?}: {reason}");
        assert_eq!(end["outcome"], "released");
        let session = end["session"].as_str().unwrap();
        // What the account says holds the agent, which other sessions have met, too.
        let of_account = matches!(screen, Screen::Login | Screen::Limit);
        let cooldown = fs::read_to_string(world.session_file(session, "cooldown"));
        assert_eq!(cooldown.is_err(), of_account, "{screen:?}");
        let rest = cooldown.unwrap_or_else(|_| (*sentence).to_owned());
        assert!(rest.contains(sentence), "{rest}");
        let every_task_meets_it = matches!(
            screen,
            Screen::Login | Screen::Limit | Screen::Bypass | Screen::ApiKey | Screen::Theme
        );
        assert_eq!(end["attempt"], i32::from(!every_task_meets_it), "{screen:?}");
        // A limit ends by itself.
        let is_error = every_task_meets_it && *screen != Screen::Limit;
        let told = format!("cannot dispatch t.md to {session}: ");
        let error = pass.stderr.lines().find(|line| line.contains(&told));
        assert_eq!(error.is_some(), is_error, "{}", pass.stderr);
        assert!(error.is_none_or(|line| line.contains(sentence)));
        assert!(of_account || rest.contains("\"needs_person\":true"), "{screen:?}: {rest}");
        world.assert_nothing_is_left(session);
    }
    let exits = world.fake.events("exit");
    assert_eq!(exits.len(), DIALOGS.len());
    assert!(exits.iter().all(|exit| exit["code"] == 143), "{exits:?}");
    assert!(world.sandbox.state_dir().join("agents/claude.hold").exists());
    assert_eq!(world.scan(), [""; 0], "every session rests, and so does the agent");
}

/// On a busy machine what came of the prompt is on the screen before the prompt is in the transcript.
#[test]
fn a_question_of_its_turn_is_no_dialog_of_its_start() {
    let world = World::claude(1);
    // Longer than two looks at the screen.
    let prompt_late_ms = 1500;
    let turn = Turn { end: Ending::Ask(Screen::Limit), prompt_late_ms, ..Turn::default() };
    world.script(&[Behaviour { turns: vec![turn], ..Behaviour::default() }]);
    world.project("web").drop_task("t.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched t.md ccl-auto-0"]);
}
