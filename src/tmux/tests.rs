use std::fs;
use std::path::{Path, PathBuf};

use super::{NewPane, Pane, PaneId, is_no_server, is_session_name, path_argument, window_name};

const LINE: &str = "%12 4242 1 -ccl-run=11111111-1111-4111-8111-111111111111_ 3 1795443185 99 /tmp/a b:c/default:ccl auto|x  y";

#[test]
fn a_line_is_read() {
    let pane = Pane::parse(LINE).unwrap();
    assert_eq!(pane.id.as_str(), "%12");
    assert_eq!(pane.pid.as_raw_pid(), 4242);
    assert_eq!((pane.dead, pane.attached), (true, 3));
    assert_eq!(pane.run.unwrap().to_string(), "11111111-1111-4111-8111-111111111111");
    assert_eq!(pane.activity.as_second(), 1_795_443_185);
    assert_eq!(pane.server.as_raw_pid(), 99);
    assert_eq!(pane.socket.to_str(), Some("/tmp/a b:c/default"));
    assert_eq!(pane.session, "ccl auto|x  y");
    for theirs in ["-", "-_sleep_1000_", "-11111111-1111-4111-8111-111111111111", "-ccl-run=1_"] {
        let of_run = "-ccl-run=11111111-1111-4111-8111-111111111111_";
        let persons = Pane::parse(&LINE.replace(of_run, theirs)).unwrap();
        assert_eq!(persons.run, None, "{theirs}");
    }
}

#[test]
fn a_new_pane_is_read() {
    let pane = NewPane::parse("%1 42 99 /tmp/a b/default").unwrap();
    assert_eq!((pane.id.as_str(), pane.pid.as_raw_pid(), pane.server.as_raw_pid()), ("%1", 42, 99));
    assert_eq!(pane.socket.to_str(), Some("/tmp/a b/default"));
    for bad in ["", "%1", "%1 42", "%1 42 99", "1 42 99 /tmp/x", "%1 0 99 /tmp/x"] {
        assert_eq!(NewPane::parse(bad), None, "{bad}");
    }
}

#[test]
fn nothing_in_a_windows_name_is_expanded() {
    assert_eq!(window_name("fix login.md"), "fix_login.md");
    assert_eq!(window_name("#(touch x)%H#{pid};é"), "__touch_x__H__pid__é");
    assert_eq!(window_name(&"x".repeat(100)).len(), 40);
}

#[test]
fn a_path_that_tmux_would_read_otherwise_is_refused() {
    assert_eq!(path_argument("/a;b".as_ref()).unwrap(), "/a;b");
    assert!(path_argument("/a;".as_ref()).is_err());
}

#[test]
fn a_garbage_line_is_none() {
    // A shorter name is a name all the same.
    for end in 0..LINE.find(":c/").unwrap() {
        assert_eq!(Pane::parse(&LINE[..end]), None, "{end}");
    }
    for (good, bad) in [
        ("%12", "12"),
        ("%12", "%"),
        ("%12", "%1;"),
        ("4242", "0"),
        ("4242", "-1"),
        ("1795443185", ""),
        (" ", "_"),
    ] {
        assert_eq!(Pane::parse(&LINE.replacen(good, bad, 1)), None, "{bad}");
    }
}

#[test]
fn only_ids_are_ids() {
    assert!(PaneId::parse("%0").is_some());
    for bad in ["", "%", "0", "%-1", "% 1", "%1 ", "%12345678901", "=a:"] {
        assert_eq!(PaneId::parse(bad), None, "{bad}");
    }
}

#[test]
fn names_that_tmux_would_read_otherwise_are_refused() {
    for good in ["ccl-auto-0", "A_b", "0"] {
        assert!(is_session_name(good), "{good}");
    }
    for bad in
        ["", "-a", "a.b", "a:b", "#(touch x)", "=a", "$1", "@1", "%1", "a b", "é", "a\n", "a*"]
    {
        assert!(!is_session_name(bad), "{bad}");
    }
}

#[test]
fn a_server_that_ends_during_a_call_is_none() {
    for words in [
        "no server running on /tmp/tmux-0/default",
        "error connecting to /tmp/x (No such file or directory)",
        "server exited unexpectedly",
    ] {
        assert!(is_no_server(words), "{words}");
    }
    assert!(!is_no_server("error connecting to /tmp/x (Permission denied)"));
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Nothing is typed into a pane (DESIGN section 6).
#[test]
fn no_source_types_into_a_pane() {
    let sources = files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let naming = |command: &str| {
        let names =
            |path: &&PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap()).contains(command);
        sources.iter().filter(names).collect::<Vec<_>>()
    };
    // In two parts, for this is a source as well.
    for (verb, object) in [("send", "keys"), ("paste", "buffer"), ("load", "buffer")] {
        let typing = naming(&format!("{verb}-{object}"));
        assert!(typing.is_empty(), "{verb}-{object} is in {typing:?}");
    }
    assert!(!naming("new-window").is_empty(), "what opens a window is not found either");
}
