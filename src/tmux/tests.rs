use super::{Pane, PaneId, as_last_argument, is_session_name};

const LINE: &str = "%12 4242 1 2 0 1 0 3 1795443185 99 /dev/pts/7 /tmp/a b:c/default:ccl auto|x  y";

#[test]
fn a_line_is_read() {
    let pane = Pane::parse(LINE).unwrap();
    assert_eq!(pane.id.as_str(), "%12");
    assert_eq!(pane.pid.as_raw_pid(), 4242);
    assert_eq!((pane.windows, pane.panes, pane.attached), (1, 2, 3));
    assert_eq!((pane.linked, pane.dead, pane.in_mode), (false, true, false));
    assert_eq!(pane.activity.as_second(), 1_795_443_185);
    assert_eq!(pane.server.as_raw_pid(), 99);
    assert_eq!(pane.tty.to_str(), Some("/dev/pts/7"));
    assert_eq!(pane.socket.to_str(), Some("/tmp/a b:c/default"));
    assert_eq!(pane.session, "ccl auto|x  y");
    assert!(!pane.is_alone());
    assert!(Pane::parse(&LINE.replace(" 1 2 0", " 1 1 0")).unwrap().is_alone());
    assert!(!Pane::parse(&LINE.replace(" 1 2 0", " 1 1 1")).unwrap().is_alone());
    assert!(!Pane::parse(&LINE.replace(" 1 2 0", " 2 1 0")).unwrap().is_alone());
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
fn a_semicolon_at_the_end_stays_a_semicolon() {
    assert_eq!(as_last_argument("a;"), "a\\;");
    assert_eq!(as_last_argument("a\\;"), "a\\\\;");
    assert_eq!(as_last_argument("a;b"), "a;b");
    assert_eq!(as_last_argument(";"), "\\;");
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
