//! Hostile names, files, texts and paths.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use serde_json::{Value, json};

use super::support::Project;
use super::support::faults::World;
use super::{assert_no_canary, heard, reporter, serve};

#[test]
fn hostile_files_are_held_with_a_sentence_and_the_others_run() {
    let mut world = World::new();
    let heard_dir = reporter(&mut world);
    let inbox = world.project.queue("inbox");
    let outside = world.sandbox.path().join("outside.md");
    fs::write(&outside, "outside\n").expect("a file");
    std::os::unix::fs::symlink(&outside, inbox.join("link.md")).expect("a link");
    fs::hard_link(&outside, inbox.join("twin.md")).expect("a link");
    fs::create_dir(inbox.join("dir.md")).expect("a directory");
    let fifo = inbox.join("fifo.md");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("a fifo");
    let long = format!("{}.md", "x".repeat(200));
    fs::write(inbox.join(&long), "long\n").expect("a file");
    fs::write(inbox.join("esc\u{1b}[2J\n.md"), "controls\n").expect("a file");
    let not_text = OsString::from_vec(b"caf\xe9.md".to_vec());
    fs::write(inbox.join(&not_text), "latin\n").expect("a file");
    let _open = fs::File::create(inbox.join("open.md")).expect("a file");
    world.project.drop_task("nul.md", "a\0b");
    world.project.drop_task("latin.md", b"caf\xe9\n");
    world.project.drop_task("big.md", "x".repeat((1 << 20) + 1));
    world.project.drop_task("empty.md", "\u{feff} \n\n");
    let odd = "a b;$(touch canary)#(touch canary)`touch canary`'\".md";
    world.project.drop_task(odd, "plain\n");
    let text = "\u{1b}[201~\ntouch canary\n$(touch canary) `touch canary`\n'\"\\\n";
    world.project.drop_task("keys.md", text);
    world.project.drop_task("header.md", format!("---\npriority: [[[{{\n---\n{text}"));

    serve(&world, &[&world.project], || {
        world.project.done().len() == 3 && world.left_in_inbox().len() == 8
    });
    assert_eq!(world.project.done().len(), 3, "{:?}", world.project.done());
    for (name, reason) in
        [("nul.md", "NUL"), ("latin.md", "UTF-8"), ("big.md", "MiB"), ("empty.md", "is empty")]
    {
        let beside = format!("failed/{name}.reason");
        let told = match world.project.queue(&beside).exists() {
            true => world.project.read(&beside),
            false => world.project.read(&format!("failed/{name}")),
        };
        assert!(told.contains(reason), "{name}: {told}");
    }
    let events = world.sandbox.ccl_json(&["scan"])["events"].clone();
    for (name, reason) in [
        ("link.md", "links are not followed"),
        ("twin.md", "more than one hard link"),
        ("dir.md", "not a regular file"),
        ("fifo.md", "not a regular file"),
        (&long, "more than 200 bytes"),
        ("esc", "control characters"),
        ("caf", "not UTF-8"),
        ("open.md", "still being written"),
    ] {
        let is_it = |event: &&Value| {
            event["event"] == "held"
                && event["task"].as_str().is_some_and(|task| task.starts_with(name))
        };
        let event = events.as_array().into_iter().flatten().find(is_it);
        let told = event.map(Value::to_string).unwrap_or_default();
        assert!(told.contains(reason), "{name}: {events:#}");
    }
    let plain = world.sandbox.ccl(["scan"]).output().expect("ccl runs");
    assert!(!plain.stdout.contains(&0x1b) && !plain.stderr.contains(&0x1b));
    assert_eq!(fs::read_to_string(&outside).expect("outside"), "outside\n");
    let told = heard(&heard_dir, ".text").join("|");
    assert!(told.contains(odd), "{told}");
    assert!(told.contains("[201~\ntouch canary\n$(touch canary) `touch canary`\n'\"\\"), "{told}");
    assert!(!told.contains('\u{1b}'), "{told:?}");
    assert_no_canary(&world);
}

#[test]
fn odd_project_and_state_paths_are_only_paths() {
    let mut world = World::new();
    let heard_dir = reporter(&mut world);
    let odd = "it's \"a\" $(touch canary) `touch canary` #(touch canary) ;&|{}[] ~";
    let state = world.sandbox.path().join(odd).join("state");
    world.sandbox.config("state_dir", json!(state));
    let mut projects = vec![
        world.sandbox.project(odd),
        world.sandbox.project("-rf"),
        world.sandbox.project("new\nline"),
    ];
    for (index, project) in projects.iter().enumerate() {
        project.drop_task(format!("t{index}.md"), "go\n");
    }
    let raw = world.sandbox.projects_dir();
    let raw = raw.join(OsString::from_vec(b"caf\xe9".to_vec()));
    let unnamed = Project::make(&raw);
    unnamed.drop_task("held.md", "go\n");
    serve(&world, &[&projects[0]], || projects.iter().all(|project| project.done().len() == 1));
    let mut expected: Vec<_> =
        projects.drain(..).map(|project| format!("{}\n", project.root().display())).collect();
    expected.sort();
    let mut told = heard(&heard_dir, ".dir");
    told.sort();
    assert_eq!(told, expected);
    assert_eq!(unnamed.inbox(), ["held.md"]);
    let events = world.sandbox.ccl_json(&["scan"]).to_string();
    assert!(events.contains("not UTF-8"), "{events}");
    assert_no_canary(&world);
}
