//! What lies: names, files, paths, texts, markers, clocks, tmux, terminals. Nothing is lost, nothing
//! is executed that is not the task, and everything that is left alone is said.
#![allow(clippy::expect_used)]

mod support;

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::faults::{World, said};
use support::{Project, wait_until};

/// An agent that writes down where it is and what it was told.
fn reporter(world: &mut World) -> PathBuf {
    let heard = world.sandbox.path().join("heard");
    fs::create_dir(&heard).expect("heard");
    let agent = world.sandbox.path().join("reporter.sh");
    let script = format!(
        "here=$(mktemp {}/XXXXXX)\npwd -P > $here.dir\nprintf %s \"$1\" > $here.text\nrm $here\n",
        heard.display()
    );
    fs::write(&agent, script).expect("the agent");
    world
        .sandbox
        .config("agent", json!({"command": ["sh", agent]}));
    heard
}

/// What the agent heard, in no order; the ends of files are `.text` or `.dir`.
fn heard(directory: &Path, end: &str) -> Vec<String> {
    let names = support::sandbox::names(directory);
    let paths = names.iter().filter(|name| name.ends_with(end));
    paths
        .map(|name| fs::read_to_string(directory.join(name)).expect("a report"))
        .collect()
}

/// Makes passes until nothing that can be worked on waits or is at work.
#[track_caller]
fn serve(world: &World, projects: &[&Project], is_done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_done() {
        for verb in ["scan", "reap"] {
            let output = world.sandbox.ccl([verb]).output().expect("ccl runs");
            assert!(
                Instant::now() < deadline,
                "{projects:?}: {}\n{}",
                said(&output),
                world.tmux.screens()
            );
        }
    }
}

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
    world
        .project
        .drop_task("header.md", format!("---\npriority: [[[{{\n---\n{text}"));

    serve(&world, &[&world.project], || {
        world.project.done().len() == 3 && world.left_in_inbox().len() == 8
    });
    assert_eq!(world.project.done().len(), 3, "{:?}", world.project.done());
    for (name, reason) in [
        ("nul.md", "NUL"),
        ("latin.md", "UTF-8"),
        ("big.md", "MiB"),
        ("empty.md", "is empty"),
    ] {
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
                && event["task"]
                    .as_str()
                    .is_some_and(|task| task.starts_with(name))
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
    assert!(
        told.contains("[201~\ntouch canary\n$(touch canary) `touch canary`\n'\"\\"),
        "{told}"
    );
    assert!(!told.contains('\u{1b}'), "{told:?}");
    assert_no_canary(&world);
}

/// Nothing that stands in a name or a text was run.
#[track_caller]
fn assert_no_canary(world: &World) {
    let found = std::process::Command::new("find")
        .arg(world.sandbox.path())
        .args(["-name", "canary*"])
        .output()
        .expect("find");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
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
    serve(&world, &[&projects[0]], || {
        projects.iter().all(|project| project.done().len() == 1)
    });
    let mut expected: Vec<_> = projects
        .drain(..)
        .map(|project| format!("{}\n", project.root().display()))
        .collect();
    expected.sort();
    let mut told = heard(&heard_dir, ".dir");
    told.sort();
    assert_eq!(told, expected);
    assert_eq!(unnamed.inbox(), ["held.md"]);
    let events = world.sandbox.ccl_json(&["scan"]).to_string();
    assert!(events.contains("not UTF-8"), "{events}");
    assert_no_canary(&world);
}

#[test]
fn markers_that_cannot_be_read_are_named_and_left_alone() {
    let mut world = World::new();
    let two = json!({"autonomous": {"prefix": "k-", "max": 2}});
    world.sandbox.config("pool", two);
    world.go(false);
    world.project.drop_task("held.md", "hold\n");
    world.pass(&["scan"]);
    wait_until("the agent runs", support::PATIENCE, || {
        world.runs("held.md") == 1
    });
    let claim = world.project.queue("inbox").join(".held.md.claim");
    let marker = world.sandbox.session_file("k-0", "dispatched");
    for path in [&claim, &marker] {
        let whole = fs::read(path).expect("a marker");
        let newer = String::from_utf8_lossy(&whole).replace("\"version\":1", "\"version\":2");
        for lie in [
            &b""[..],
            &whole[..whole.len() / 2],
            newer.as_bytes(),
            b"\xff\0{",
        ] {
            fs::write(path, lie).expect("the lie");
            let name = path.file_name().expect("a name").to_string_lossy();
            let other = format!("other-{}.md", world.project.done().len());
            world.project.drop_task(&other, "go\n");
            // The other session goes on serving.
            serve(&world, &[&world.project], || {
                world.project.done().contains(&other)
            });
            let output = world.sandbox.ccl(["scan"]).output().expect("ccl runs");
            assert_eq!(output.status.code(), Some(1), "{}", said(&output));
            assert!(said(&output).contains(&*name), "{}", said(&output));
            assert!(said(&output).contains("left alone"), "{}", said(&output));
            assert_eq!(fs::read(path).expect("a marker"), lie, "{name}");
            world.assert_once("held.md", "under a marker that lies");
        }
        fs::write(path, whole).expect("the truth");
    }
    world.go(true);
    world.converge("held.md", "with its markers back");
    assert_eq!(world.runs("held.md"), 1);
}

#[test]
fn clocks_that_were_off_by_a_year_stop_nothing() {
    let world = World::new();
    world.go(false);
    world.project.drop_task("t.md", "hold\n");
    world.pass(&["scan"]);
    wait_until("the agent runs", support::PATIENCE, || {
        world.runs("t.md") == 1
    });
    let now = jiff::Timestamp::now();
    for hours in [-24 * 365, 24 * 365] {
        let then = (now + jiff::SignedDuration::from_hours(hours)).to_string();
        for path in [
            world.project.queue("inbox").join(".t.md.claim"),
            world.sandbox.session_file("k-0", "dispatched"),
        ] {
            let mut marker: Value =
                serde_json::from_slice(&fs::read(&path).expect("a marker")).expect("JSON");
            marker["at"] = json!(then);
            if marker.get("started_at").is_some() {
                marker["started_at"] = json!(then);
            }
            fs::write(&path, marker.to_string()).expect("the lie");
        }
        world.pass(&["reap"]);
        world.assert_once("t.md", "under a clock that lies");
    }
    world.go(true);
    world.converge("t.md", "with a start in the future");
    assert_eq!(world.runs("t.md"), 1);
    // A rest that was written a year ahead would last that long.
    let far = |hours| (now + jiff::SignedDuration::from_hours(hours)).to_string();
    let rest = json!({"version": 1, "host": "h", "at": far(24 * 365), "until": far(24 * 365 + 1),
        "reason": "r", "needs_person": false});
    let path = world.sandbox.session_file("k-0", "cooldown");
    fs::write(path, rest.to_string()).expect("a cooldown");
    world.project.drop_task("u.md", "go\n");
    world.converge("u.md", "after a rest from the future");
}

#[test]
fn a_tmux_that_hangs_or_talks_nonsense_costs_one_pass() {
    for (script, word) in [
        ("sleep 1000", "gave no answer"),
        ("echo nonsense", "cannot be read"),
        ("printf '%%1 2 3\\n\\n'", "cannot be read"),
        ("head -c 20000000 /dev/zero", "16 MiB"),
        ("echo no; echo bad >&2; exit 3", "bad"),
        ("kill -9 $$", "signal"),
    ] {
        let mut world = World::new();
        let stand_in = world.sandbox.path().join("tmux.sh");
        fs::write(&stand_in, format!("#!/bin/sh\n{script}\n")).expect("a stand-in");
        fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755)).expect("a mode");
        let real = world.tmux.command();
        world.project.drop_task("t.md", "go\n");
        world.sandbox.config("tmux", json!({"command": [stand_in]}));
        let output = world.sandbox.ccl(["scan"]).output().expect("ccl runs");
        assert_eq!(
            output.status.code(),
            Some(75),
            "{script}: {}",
            said(&output)
        );
        assert!(said(&output).contains(word), "{script}: {}", said(&output));
        assert_eq!(world.project.inbox(), ["t.md"]);
        world.sandbox.config("tmux", json!({"command": real}));
        world.converge("t.md", script);
        assert_eq!(world.runs("t.md"), 1);
    }
}

#[test]
fn a_session_whose_name_begins_like_ours_is_not_ours() {
    let mut world = World::new();
    let pane = world.tmux.new_session("k-10", &[]);
    world.tmux.run(&["kill-session", "-t", "=k-0:"]);
    world.sandbox.config(
        "pool",
        json!({"autonomous": {"start_index": 1, "create": false}}),
    );
    let before = world.tmux.capture(&pane);
    world.project.drop_task("t.md", "go\n");
    let output = world.pass(&["scan"]);
    assert!(
        said(&output).contains("k-1 does not exist"),
        "{}",
        said(&output)
    );
    assert_eq!(world.project.inbox(), ["t.md"]);
    world
        .sandbox
        .config("pool", json!({"autonomous": {"create": true}}));
    serve(&world, &[&world.project], || {
        world.project.done() == ["t.md"]
    });
    assert_eq!(world.tmux.capture(&pane), before);
}

#[test]
fn whatever_stands_on_the_command_line_is_not_run() {
    let world = World::new();
    for shell in ["bash", "zsh", "dash", "fish"] {
        for (case, keys) in [
            ("half a line", &["touch canary-half"][..]),
            (
                "an open quote",
                &["echo 'open", "Enter", "touch canary-quote"],
            ),
            ("copy mode", &[]),
        ] {
            let task = format!("{shell}-{}.md", case.replace(' ', "-"));
            world.tmux.run(&["kill-session", "-t", "=k-0:"]);
            let pane = world.tmux.new_session("k-0", &[shell]);
            for key in keys {
                world.tmux.send_keys(&pane, &[key]);
                let shown = key.trim_end_matches("Enter");
                world.tmux.wait_for_text(&pane, shown);
            }
            if keys.is_empty() {
                world.tmux.run(&["copy-mode", "-t", &pane]);
            }
            world.project.drop_task(&task, "go\n");
            world.converge(&task, case);
            assert_eq!(world.runs(&task), 1, "{shell}, {case}");
        }
    }
    assert_no_canary(&world);
}

#[test]
fn nothing_is_typed_into_an_editor() {
    let world = World::new();
    let pane = "=k-0:";
    let file = world.sandbox.path().join("edited");
    world
        .tmux
        .type_line(pane, &format!("vi {}", file.display()));
    world.tmux.wait_for_text(pane, "~");
    world.tmux.send_keys(pane, &["i"]);
    world.project.drop_task("t.md", "go\n");
    for _ in 0..3 {
        let output = world.pass(&["scan"]);
        assert!(
            said(&output).contains("in the foreground"),
            "{}",
            said(&output)
        );
        assert_eq!(world.project.inbox(), ["t.md"]);
    }
    world.tmux.send_keys(pane, &["Escape", ":wq", "Enter"]);
    wait_until("the editor has written", support::PATIENCE, || {
        file.exists()
    });
    assert_eq!(fs::read_to_string(&file).expect("the file").trim(), "");
    world.converge("t.md", "after the editor");
}

#[test]
fn a_suspended_agent_is_not_replaced() {
    let world = World::new();
    world.go(false);
    world.project.drop_task("t.md", "hold\n");
    world.pass(&["scan"]);
    wait_until("the agent runs", support::PATIENCE, || {
        world.runs("t.md") == 1
    });
    world.tmux.send_keys("=k-0:", &["C-z"]);
    world.tmux.wait_until("the shell says so", || {
        world.tmux.capture("=k-0:").contains("topped")
    });
    for verb in ["scan", "reap", "scan"] {
        world.pass(&[verb]);
        assert_eq!(world.project.task_places("t.md"), ["inbox/t.md.dispatched"]);
    }
    world.tmux.type_line("=k-0:", "fg");
    world.go(true);
    world.converge("t.md", "after it was suspended");
    assert_eq!(world.runs("t.md"), 1);
}

#[test]
fn an_agent_that_outlives_its_session_is_ended_before_another_one_starts() {
    let world = World::new();
    world.go(false);
    world
        .project
        .drop_task("t.md", "hold, without its session\n");
    world.pass(&["scan"]);
    wait_until("the agent runs", support::PATIENCE, || {
        world.runs("t.md") == 1
    });
    let agents = || {
        let agent = world.sandbox.path().join("agent.sh");
        let out = std::process::Command::new("pgrep")
            .args(["-f", "--"])
            .arg(agent)
            .output();
        let out = out.expect("pgrep");
        String::from_utf8_lossy(&out.stdout).lines().count()
    };
    assert_eq!(agents(), 1);
    world.tmux.run(&["kill-session", "-t", "=k-0:"]);
    for verb in ["reap", "scan", "reap"] {
        world.pass(&[verb]);
        world.assert_once("t.md", "without its session");
        assert!(agents() <= 1, "{}", world.shown());
    }
    world.go(true);
    world.converge("t.md", "after its session had gone");
    assert_eq!(world.runs("t.md"), 2);
}
