//! Markers that cannot be read, and clocks that were wrong when they were written.

use std::fs;

use serde_json::{Value, json};

use super::support::faults::{World, said};
use super::{at_work, let_go, serve};

#[test]
fn markers_that_cannot_be_read_are_named_and_left_alone() {
    let mut world = World::new();
    let two = json!({"autonomous": {"prefix": "k-", "max": 2}});
    world.sandbox.config("pool", two);
    at_work(&world, "held.md", "hold\n");
    let claim = world.project.queue("inbox").join(".held.md.claim");
    let marker = world.sandbox.session_file("k-0", "dispatched");
    for path in [&claim, &marker] {
        let whole = fs::read(path).expect("a marker");
        let newer = String::from_utf8_lossy(&whole).replace("\"version\":1", "\"version\":2");
        for lie in [&b""[..], &whole[..whole.len() / 2], newer.as_bytes(), b"\xff\0{"] {
            fs::write(path, lie).expect("the lie");
            let name = path.file_name().expect("a name").to_string_lossy();
            let other = format!("other-{}.md", world.project.done().len());
            world.project.drop_task(&other, "go\n");
            // The other session goes on serving.
            serve(&world, &[&world.project], || world.project.done().contains(&other));
            let output = world.sandbox.ccl(["scan"]).output().expect("ccl runs");
            assert_eq!(output.status.code(), Some(1), "{}", said(&output));
            assert!(said(&output).contains(&*name), "{}", said(&output));
            assert!(said(&output).contains("left alone"), "{}", said(&output));
            assert_eq!(fs::read(path).expect("a marker"), lie, "{name}");
            world.assert_once("held.md", "under a marker that lies");
        }
        fs::write(path, whole).expect("the truth");
    }
    let_go(&world, "held.md", "with its markers back", 1);
}

#[test]
fn clocks_that_were_off_by_a_year_stop_nothing() {
    let world = World::new();
    at_work(&world, "t.md", "hold\n");
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
    let_go(&world, "t.md", "with a start in the future", 1);
    // A rest that was written a year ahead would last that long.
    let far = |hours| (now + jiff::SignedDuration::from_hours(hours)).to_string();
    let rest = json!({"version": 1, "host": "h", "at": far(24 * 365), "until": far(24 * 365 + 1),
        "reason": "r", "needs_person": false});
    let path = world.sandbox.session_file("k-0", "cooldown");
    fs::write(path, rest.to_string()).expect("a cooldown");
    world.project.drop_task("u.md", "go\n");
    world.converge("u.md", "after a rest from the future");
}
