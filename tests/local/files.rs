//! What may lie in an inbox besides good tasks: held back with a sentence, or filed with a reason, never lost.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde_json::json;

use super::support::{PATIENCE, wait_until};
use super::world::{World, ending};

#[test]
fn files_of_every_odd_kind_are_held_with_a_sentence() {
    let world = World::commands(9);
    let project = world.project("web");
    let inbox = project.queue("inbox");
    let target = world.sandbox.path().join("target");
    fs::write(&target, "not a task of this inbox").unwrap();
    std::os::unix::fs::symlink(&target, inbox.join("link.md")).unwrap();
    std::os::unix::fs::symlink("/nowhere", inbox.join("dangling.md")).unwrap();
    fs::hard_link(&target, inbox.join("second-link.md")).unwrap();
    fs::create_dir(inbox.join("directory.md")).unwrap();
    let fifo = inbox.join("fifo.md");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let long = format!("{}.md", "x".repeat(198));
    project.drop_task(&long, "long");
    project.drop_task("tab\tbell\u{7}.md", "controls");
    project.drop_task(OsStr::from_bytes(b"latin-\xe9.md"), "not UTF-8");
    // Not tasks at all.
    project.drop_task("notes.txt", "x");
    project.drop_task(".hidden.md", "x");
    project.drop_task("stray.md.dispatched", "somebody else's");

    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.code, 0, "{pass:#?}");
    for (task, sentence) in [
        ("link.md", "links are not followed"),
        ("dangling.md", "links are not followed"),
        ("second-link.md", "more than one hard link"),
        ("directory.md", "not a regular file"),
        ("fifo.md", "not a regular file"),
        (long.as_str(), "more than 200 bytes"),
        ("tab\tbell\u{7}.md", "control characters"),
        ("latin-\u{fffd}.md", "not UTF-8"),
    ] {
        let reason = pass.reason(task);
        assert!(reason.contains(sentence), "{task}: {reason}");
    }
    assert!(pass.events.iter().all(|event| event["event"] == "held"));
    assert_eq!(pass.events.len(), 8, "{pass:#?}");
    assert_eq!(project.inbox().len(), 11);
    assert_eq!((project.done(), project.failed()), (vec![], vec![]));
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());

    // As text, nothing of a name reaches the terminal as it is.
    let out = world.sandbox.ccl(["scan"]).output().unwrap();
    let printed = [out.stdout, out.stderr].concat();
    assert!(!printed.contains(&7), "{}", String::from_utf8_lossy(&printed));
}

#[test]
fn what_no_agent_can_work_on_is_filed_with_its_reason() {
    let world = World::commands(5);
    let project = world.project("web");
    let inbox = project.queue("inbox");
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("large.md", vec![b'x'; 1024 * 1024 + 1], "larger than 1 MiB"),
        ("huge.md", vec![b'x'; 3 * 1024 * 1024], "larger than 1 MiB"),
        ("latin.md", b"caf\xe9\n".to_vec(), "byte at offset 3 is NUL or not UTF-8"),
        ("nul.md", b"a\0b\n".to_vec(), "byte at offset 1 is NUL"),
        ("blank.md", b"\xef\xbb\xbf \r\n\t".to_vec(), "the file is empty"),
    ];
    for (name, bytes, _) in &cases {
        let path = project.drop_task(name, bytes);
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        fs::File::open(path).unwrap().set_modified(old).unwrap();
    }
    project.drop_task("large-enough.md", vec![b'x'; 1024 * 1024]);
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.code, 0, "{pass:#?}");
    for (name, bytes, sentence) in &cases {
        let reason = pass.reason(name);
        assert!(reason.contains(sentence), "{name}: {reason}");
        assert!(!inbox.join(name).exists());
        let filed = fs::read(project.queue("failed").join(name)).unwrap();
        // The reason is in the file where that is text, else beside it.
        let beside = format!("failed/{name}.reason");
        let noted = match filed == *bytes {
            true => ending(&project, &beside),
            false => ending(&project, &format!("failed/{name}")),
        };
        assert!(filed.starts_with(bytes), "{name}");
        assert!(noted["reason"].as_str().unwrap().contains(sentence), "{noted}");
        assert_eq!(noted["outcome"], "failed");
    }
    for untouched in ["latin.md", "nul.md", "huge.md"] {
        let beside = format!("{untouched}.reason");
        assert!(project.failed().contains(&beside), "{:?}", project.failed());
    }
    assert!(pass.short().iter().any(|event| event == "dispatched large-enough.md ccl-auto-0"));
}

#[test]
fn a_file_that_is_still_being_written_waits_for_its_writer() {
    let world = World::commands(2);
    let project = world.project("web");
    let path = project.queue("inbox").join("slow.md");
    let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    writer.write_all(b"The first half").unwrap();
    let pass = world.ccl(&["scan"]);
    assert_eq!((pass.code, pass.short()), (0, vec!["held slow.md -".to_owned()]));
    assert!(pass.reason("slow.md").contains("still being written"));
    let inode = fs::metadata(&path).unwrap().ino();

    writer.write_all(b" and the second.\n").unwrap();
    drop(writer);
    assert_eq!(world.scan(), ["dispatched slow.md ccl-auto-0"]);
    let taken = project.queue("inbox").join("slow.md.dispatched");
    assert_eq!(fs::metadata(taken).unwrap().ino(), inode);
    let got = world.got("slow.md");
    assert!(got[0].contains("The first half and the second."), "{got:?}");
}

#[test]
fn held_tasks_that_come_first_take_no_session_from_those_behind_them() {
    const HELD: usize = 40;
    let world = World::commands(2);
    let project = world.project("web");
    let held = |number: usize| project.drop_task(format!("a{number:02}.md"), "Do it.\n");
    let writers: Vec<_> = (0..HELD)
        .map(|number| {
            let open = OpenOptions::new().append(true).open(held(number));
            open.unwrap()
        })
        .collect();
    for name in ["b.md", "c.md", "d.md"] {
        project.drop_task(name, "Do it.\n");
    }
    let mut events = world.scan();
    events.sort();
    assert_eq!(events.len(), HELD + 2, "{events:?}");
    assert!(events[0].starts_with("dispatched b.md "), "{events:?}");
    assert!(events[1].starts_with("dispatched c.md "), "{events:?}");
    assert!(events[2..].iter().all(|event| event.starts_with("held a")));
    drop(writers);
}

#[test]
fn an_empty_file_that_an_editor_has_just_made_is_not_filed_at_once() {
    let world = World::commands(1);
    let project = world.project("web");
    let path = project.queue("inbox").join("new.md");
    // `touch`, and then the editor writes.
    fs::write(&path, "").unwrap();
    for _ in 0..2 {
        fs::File::open(&path).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
        let pass = world.ccl(&["scan"]);
        assert_eq!(pass.short(), ["held new.md -"], "{pass:#?}");
        assert!(pass.reason("new.md").contains("still being written"));
    }
    fs::write(&path, "Do it.\n").unwrap();
    assert_eq!(world.scan(), ["dispatched new.md ccl-auto-0"]);

    // One that nobody fills is filed in time.
    let forgotten = project.queue("inbox").join("forgotten.md");
    fs::write(&forgotten, "").unwrap();
    world.wait_for_exit("ccl-auto-0");
    world.pass(&["reap"]);
    wait_until("it is filed", PATIENCE, || {
        world.scan();
        !forgotten.exists()
    });
    assert_eq!(project.task_places("forgotten.md"), ["failed/forgotten.md"]);
    let end = ending(&project, "failed/forgotten.md");
    assert_eq!(end["reason"], json!("the file is empty: write what is to be done"));
}

#[test]
fn a_project_whose_path_is_no_text_takes_no_session_from_others() {
    let world = World::commands(1);
    let odd = world.sandbox.projects_dir().join(OsStr::from_bytes(b"a-\xe9"));
    let odd = super::support::Project::make(&odd);
    odd.drop_task("odd.md", "---\npriority: critical\n---\nx");
    world.project("web").drop_task("good.md", "x");
    let pass = world.ccl(&["scan"]);
    assert_eq!(pass.code, 0, "{pass:#?}");
    assert_eq!(pass.short(), ["held odd.md -", "dispatched good.md ccl-auto-0"]);
    assert!(pass.reason("odd.md").contains("not UTF-8"), "{pass:#?}");
    assert_eq!(odd.inbox(), ["odd.md"]);
}
