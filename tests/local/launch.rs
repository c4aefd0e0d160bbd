//! Launches of the stand-in for Claude Code: it gets its task exactly, or nothing is typed where it does not belong.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::Project;
use super::support::fake_script::{Behaviour, Ending, Screen, Turn};
use super::world::{World, ending, lives};

/// A turn that lasts until the agent is ended.
pub(super) fn forever() -> Vec<Turn> {
    vec![Turn { end: Ending::Forever, ..Turn::default() }]
}

/// What was typed into any agent.
pub(super) fn typed(world: &World) -> Vec<Value> {
    world.fake.events("keys")
}

fn quick(world: World) -> World {
    world.with("dispatcher", json!({"cooldown": "0s"}))
}

#[test]
fn the_argument_arrives_byte_for_byte_in_every_shell_and_directory() {
    let world = World::new(4, |builder| {
        builder
            .env("CLAUDECODE", "1")
            .env("SECUTOOLS_API_KEY", "secret-of-the-test")
            .env("CREDENTIALS_DIRECTORY", "/run/credentials")
    })
    .with("agent", json!({"hooks": false}));
    let body = "First \"$(touch ~/oops)\" `line`;\n\n\t'quoted' \\ $HOME !! #{pane_id} %s ;\né 日本 🎉\n--help";
    let names = ["it's a \"dir\"", "$HOME `x` #{y}", "-rf ;& |", "line\nbreak é"];
    let projects: Vec<Project> = names.iter().map(|name| world.project(name)).collect();
    for index in 0..4 {
        let priority = ["critical", "high", "default", "low"][index];
        let text = format!("---\npriority: {priority}\n---\n{body}\n");
        projects[index].drop_task(format!("{priority}.md"), text);
    }
    world.script(&[Behaviour { turns: forever(), ..Behaviour::default() }]);
    // One task for each shell: the priorities are in the order of the shells.
    let mut world = world;
    let mut said = String::new();
    for (index, shell) in ["bash", "zsh", "dash", "fish"].iter().enumerate() {
        world = world
            .with("pool", json!({"autonomous": {"max": index + 1}}))
            .with("agent", json!({"shell": format!("/usr/bin/{shell}")}));
        let pass = world.ccl(&["scan"]);
        assert_eq!(pass.code, 0, "{shell}: {pass:#?}\n{}", world.tmux.screens());
        assert_eq!(pass.events.len(), 1, "{shell}: {pass:#?}");
        said += &pass.stderr;
    }
    let starts = world.fake.events("start");
    assert_eq!(starts.len(), 4);
    for (index, project) in projects.iter().enumerate() {
        let priority = ["critical", "high", "default", "low"][index];
        let name = format!("{priority}.md");
        let claim = project.marker(&format!("inbox/.{name}.claim"));
        let run = claim["run"].as_str().unwrap();
        let start = starts.iter().find(|start| start["env"]["CCL_RUN"] == run).unwrap();
        assert_eq!(start["cwd"], project.root().to_str().unwrap());
        let expected = format!(
            "[{name}] {body}\n\nIMPORTANT: carry out what this task asks for; do not just describe how it could be done.\n"
        );
        let argv = start["argv"].as_array().unwrap();
        assert_eq!(argv.last().unwrap(), &json!(expected));
        let model = if index == 0 { "opus" } else { "sonnet" };
        assert_eq!(
            argv[1..6],
            ["--dangerously-skip-permissions", "--model", model, "--session-id", run]
                .map(|word| json!(word))
        );
        for variable in ["CLAUDECODE", "SECUTOOLS_API_KEY", "CREDENTIALS_DIRECTORY"] {
            assert_eq!(start["env"][variable], Value::Null, "{variable}");
        }
        assert_eq!((&claim["phase"], &claim["attempt"]), (&json!("working"), &json!(1)));
        assert_eq!(claim["session"], format!("ccl-auto-{index}"));
        assert_eq!(claim["host"], "test-host");
        let line = format!("DISPATCHED session=ccl-auto-{index} task={name} model={model}");
        assert!(said.contains(&line), "{said}");
    }
    assert_eq!(typed(&world), [] as [Value; 0]);
    assert!(!world.sandbox.home().join("oops").exists());
    let secret = "secret-of-the-test";
    for entry in fs::read_dir(world.sandbox.state_dir().join("sessions")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains(secret));
    }
}

#[test]
fn a_slow_start_is_waited_for() {
    let world = World::claude(1);
    let project = world.project("web");
    project.drop_task("slow.md", "Do it.\n");
    world.script(&[Behaviour { start_delay_ms: 3500, turns: forever(), ..Behaviour::default() }]);
    let begun = Instant::now();
    assert_eq!(world.scan(), ["dispatched slow.md ccl-auto-0"]);
    assert!(begun.elapsed() > Duration::from_secs(3));
    assert_eq!(world.fake.prompts().len(), 1);
}

#[test]
fn an_agent_that_ends_at_once_is_reported_with_its_last_words() {
    let world = World::claude(2);
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    world.script(&[Behaviour {
        exit_at_once: Some((
            "--dangerously-skip-permissions cannot be used with root".to_owned(),
            1,
        )),
        ..Behaviour::default()
    }]);
    let pass = world.ccl(&["scan"]);
    assert_eq!((pass.code, pass.short().len()), (0, 2), "{pass:#?}");
    let reason = pass.reason("a.md");
    assert!(reason.contains("claude ended before it had the task"), "{reason}");
    assert!(reason.contains("cannot be used with root"), "{reason}");
    assert_eq!(project.inbox(), ["a.md"]);
    assert_eq!(ending(&project, "inbox/a.md")["attempt"], 1);
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn a_missing_program_uses_up_no_attempt_and_asks_for_a_person() {
    let world = World::claude(1)
        .with("agent", json!({"command": ["no-such-claude"]}))
        .with("dispatcher", json!({"max_attempts": 1}));
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.short(), ["released a.md ccl-auto-0", "cooldown - ccl-auto-0"]);
    assert_eq!(pass.code, 1);
    let reason = "no-such-claude is not on the PATH of your login shell";
    assert!(pass.reason("a.md").contains(reason), "{pass:#?}");
    assert!(pass.stderr.contains(reason), "{pass:#?}");
    let end = ending(&project, "inbox/a.md");
    assert_eq!((&end["outcome"], &end["attempt"]), (&json!("released"), &json!(0)));
    let status = world.sandbox.ccl_json(&["status"]);
    let session = &status["sessions"][0];
    assert_eq!(session["state"], "needs-attention", "{status:#}");
    assert!(session["reason"].as_str().unwrap().contains(reason));
    assert_eq!(world.scan(), [""; 0], "the session cools down");
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn a_conversation_that_claude_does_not_know_is_begun_anew() {
    let world = World::claude(1);
    let project = world.project("web");
    let context = world.sandbox.home().join(".claude-context");
    fs::create_dir(&context).unwrap();
    let request = context.join("ccl-auto-0-resume-id.txt");
    let unknown = "0b8a1c1e-7a42-4f0c-9d3e-5f6a7b8c9d0e";
    fs::write(&request, format!("{unknown}\n")).unwrap();
    project.drop_task("a.md", "Do it.\n");
    world.script(&[Behaviour { turns: forever(), ..Behaviour::default() }]);
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.short(), ["dispatched a.md ccl-auto-0"], "{pass:#?}");
    assert!(pass.stderr.contains("does not know the conversation"), "{}", pass.stderr);
    let starts = world.fake.events("start");
    assert_eq!(starts.len(), 2);
    let has = |start: &Value, word: &str| start["argv"].as_array().unwrap().contains(&json!(word));
    assert!(has(&starts[0], "--resume") && has(&starts[0], unknown));
    assert!(!has(&starts[1], "--resume") && !has(&starts[1], unknown));
    assert_eq!(world.fake.prompts().len(), 1);
    assert!(!request.exists());
    assert_eq!(project.marker("inbox/.a.md.claim")["attempt"], 1);
}

/// `setup` is among a task's rules also where none runs: without a worktree, and in one that is set up already.
#[test]
fn a_launch_before_which_no_set_up_runs_is_waited_for() {
    let world = quick(World::claude(1));
    let [shared, own] = [("a-shared", "none"), ("b-own", "worktree")].map(|(name, isolation)| {
        let project = world.project(name);
        project.init_git();
        let rules = format!("isolation: {isolation}\nsetup: 'true'\n");
        fs::write(project.root().join(".agent-queue/project.yaml"), rules).unwrap();
        project
    });
    let context = world.sandbox.home().join(".claude-context");
    fs::create_dir(&context).unwrap();
    let request = context.join("ccl-auto-0-resume-id.txt");
    fs::write(&request, "0b8a1c1e-7a42-4f0c-9d3e-5f6a7b8c9d0e\n").unwrap();
    let crash = Turn { run: "echo one > one".to_owned(), end: Ending::Crash, ..Turn::default() };
    world.script(&[
        Behaviour {
            when: "b-own".to_owned(),
            times: 1,
            turns: vec![crash],
            ..Behaviour::default()
        },
        Behaviour { screens: vec![Screen::Bypass], ..Behaviour::default() },
    ]);

    // The stand-in refuses the conversation before it shows anything, and then asks.
    shared.drop_task("a.md", "Do it.\n");
    let pass = world.ccl(&["scan"]);
    assert!(pass.stderr.contains("does not know the conversation"), "{pass:#?}");
    assert_eq!((pass.code, pass.short()[0].as_str()), (1, "released a.md ccl-auto-0"), "{pass:#?}");
    assert!(request.exists(), "the agent did not get the task");
    assert_eq!(ending(&shared, "inbox/a.md")["attempt"], 0);
    fs::remove_file(shared.queue("inbox").join("a.md")).unwrap();
    fs::remove_file(&request).unwrap();

    own.drop_task("b.md", "Do it.\n");
    assert_eq!(world.scan(), ["dispatched b.md ccl-auto-0"], "this one runs");
    world.wait_for_end("ccl-auto-0");
    world.pass(&["reap"]);
    assert_eq!(own.inbox(), ["b.md"]);
    let pass = world.ccl(&["scan"]);
    assert_eq!((pass.code, pass.short()[0].as_str()), (1, "released b.md ccl-auto-0"), "{pass:#?}");
}

#[test]
fn an_agent_that_shows_no_sign_in_time_is_ended() {
    let world = World::claude(1).with("dispatcher", json!({"prompt_timeout": "1s"}));
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    world.script(&[Behaviour { start_delay_ms: 600_000, ..Behaviour::default() }]);
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.short(), ["released a.md ccl-auto-0", "cooldown - ccl-auto-0"]);
    assert!(pass.reason("a.md").contains("no sign of having the task within 1 s"));
    let pid = world.fake.events("start")[0]["pid"].as_i64().unwrap();
    assert!(!lives(pid as i32));
    assert_eq!(project.inbox(), ["a.md"]);
    world.assert_nothing_is_left("ccl-auto-0");
}

#[test]
fn an_agent_that_does_not_end_is_killed_and_its_session_works_on() {
    let world = quick(World::claude(1));
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    world.script(&[
        Behaviour {
            times: 1,
            ignore_sigterm: true,
            screens: vec![Screen::ResumePicker],
            ..Behaviour::default()
        },
        Behaviour { turns: forever(), ..Behaviour::default() },
    ]);
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.short(), ["released a.md ccl-auto-0", "cooldown - ccl-auto-0"], "{pass:#?}");
    let pid = world.fake.events("start")[0]["pid"].as_i64().unwrap();
    assert!(!lives(pid as i32));
    assert_eq!(world.fake.events("sigterm").len(), 1);
    world.assert_nothing_is_left("ccl-auto-0");
    assert_eq!(world.scan(), ["dispatched a.md ccl-auto-0"]);
    assert_eq!(project.marker("inbox/.a.md.claim")["attempt"], 2);
}

/// After a person has mended what the cooldown was for, nobody has to wait for its end.
#[test]
fn assign_by_hand_ends_a_cooldown_and_a_hooks_does_not() {
    let world = World::claude(1).with("agent", json!({"command": ["no-such-claude"]}));
    let project = world.project("web");
    project.drop_task("a.md", "Do it.\n");
    assert_eq!(world.ccl(&["scan"]).code, 1);
    let world =
        world.with("agent", json!({"command": ["claude", "--dangerously-skip-permissions"]}));
    world.script(&[Behaviour { turns: forever(), ..Behaviour::default() }]);
    assert_eq!(world.scan(), [""; 0], "the session cools down");
    let of_a_hook = ["assign", "--run", "0b8a1c1e-7a42-4f0c-9d3e-5f6a7b8c9d0e", "ccl-auto-0"];
    assert_eq!(world.pass(&of_a_hook), [""; 0]);
    assert_eq!(world.assign("ccl-auto-0"), ["dispatched a.md ccl-auto-0"]);
    assert!(!world.session_file("ccl-auto-0", "cooldown").exists());
    let again = world.ccl(&["assign", "ccl-auto-0"]);
    assert_eq!((again.code, again.short()), (0, vec![]), "{again:#?}");
    assert!(again.stderr.contains("ccl-auto-0 works on a.md"), "{}", again.stderr);
}

#[test]
fn sixteen_agents_are_launched_at_once_and_each_gets_its_own_task() {
    let world = World::claude(16);
    let project = world.project("web");
    for index in 10..26 {
        project.drop_task(format!("t{index}.md"), format!("Task number {index}.\n"));
    }
    world.script(&[Behaviour { turns: forever(), ..Behaviour::default() }]);
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.code, 0, "{pass:#?}");
    let expected: Vec<_> =
        (0..16).map(|i| format!("dispatched t{}.md ccl-auto-{i}", i + 10)).collect();
    assert_eq!(pass.short(), expected);
    let prompts = world.fake.prompts();
    assert_eq!(prompts.len(), 16);
    for index in 10..26 {
        let start = format!("[t{index}.md] Task number {index}.");
        assert_eq!(prompts.iter().filter(|p| p.starts_with(&start)).count(), 1);
    }
    assert_eq!(typed(&world), [] as [Value; 0]);
}

#[test]
fn a_project_that_claude_does_not_trust_takes_no_session() {
    let world = World::claude(1);
    let (stranger, trusted) = (world.project("a-stranger"), world.project("b-trusted"));
    stranger.drop_task("t.md", "---\npriority: critical\n---\nDo it.\n");
    trusted.drop_task("t.md", "Do it.\n");
    let projects = json!({(trusted.root().to_str().unwrap()): {"hasTrustDialogAccepted": true}});
    let settings = json!({"projects": projects}).to_string();
    fs::write(world.sandbox.home().join(".claude.json"), settings).unwrap();
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.short(), ["held t.md -", "dispatched t.md ccl-auto-0"], "{pass:#?}");
    let held = pass.events[0]["reason"].as_str().unwrap();
    let advice = format!("run `claude` once in {} and accept", stranger.root().display());
    assert!(held.contains(&advice), "{held}");
    assert_eq!(stranger.inbox(), ["t.md"]);
}
