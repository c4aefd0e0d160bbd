//! The API key is searched for wherever `ccl` could have left it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::json;

use super::support::write_program;
use crate::pool::Binary;
use crate::secutools_server::Step;
use crate::world::{KEY, TASK};

/// Every file below `directory` that holds the key.
fn holders(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(holders(&path));
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            if bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

fn assert_silent(output: &Output) {
    for bytes in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains(KEY), "{text}");
    }
}

#[test]
fn the_key_is_in_no_file_no_output_and_no_childs_hands() {
    let mut world = Binary::new();
    // Notes its arguments and its environment, and is no tmux.
    let tmux = world.sandbox.path().join("tmux.sh");
    let noted = world.sandbox.path().join("noted");
    let script = format!("#!/bin/sh\n{{ echo \"$@\"; env; }} >> {}\nexit 1\n", noted.display());
    write_program(&tmux, &script);
    world.sandbox.config("tmux", json!({"command": [tmux]}));
    world.project.drop_task("local.md", "Stay here.\n");
    for step in [Step::Behave, Step::Echo(422), Step::Echo(500), Step::Echo(202), Step::Echo(401)] {
        world.project.drop_task(format!("{}.md", world.server.requests().len()), TASK);
        world.server.otherwise(step);
        for args in [
            &["scan", "-v"][..],
            &["reap", "-v"],
            &["assign", "ccl-auto-0", "-v"],
            &["status"],
            &["decide", "projects/web/.agent-queue/inbox/local.md"],
            &["job", "get", "job-1"],
        ] {
            for json in [false, true] {
                let mut args = args.to_vec();
                args.extend(json.then_some("--json"));
                assert_silent(&world.run(&args));
            }
        }
    }
    assert!(noted.exists(), "nobody asked tmux");
    assert!(world.server.requests().len() > 10, "nobody asked the server");
    assert_eq!(holders(world.sandbox.path()), [""; 0]);
}

#[test]
fn a_key_from_a_file_goes_nowhere_else() {
    let mut world = Binary::new();
    let file = world.sandbox.home().join("key");
    fs::write(&file, KEY).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    world.sandbox.config("secutools", json!({"api_key_file": file}));
    world.sandbox.env("SECUTOOLS_API_KEY", "");
    world.project.drop_task("T.md", TASK);
    assert_silent(&world.pass(&["scan"]));
    assert_eq!(world.server.jobs().len(), 1);
    assert_eq!(holders(world.sandbox.path()), [file.display().to_string()]);
}
