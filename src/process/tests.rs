use rustix::process::getpid;

use super::{Stat, environ_has, stat};

const LINE: &str =
    "4242 (a) b) (c) S 1 4240 4200 34821 4240 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 2 3";

#[test]
fn a_name_with_blanks_and_parentheses_is_no_trouble() {
    let read = Stat::parse(LINE).unwrap();
    assert_eq!(read.pid.as_raw_pid(), 4242);
    assert_eq!(read.state, 'S');
    assert_eq!(read.ppid.unwrap().as_raw_pid(), 1);
    assert_eq!(read.pgrp.unwrap().as_raw_pid(), 4240);
    assert_eq!(read.foreground.unwrap().as_raw_pid(), 4240);
    assert!(read.is_alive());
}

#[test]
fn no_terminal_means_no_foreground() {
    let read = Stat::parse(&LINE.replace("34821 4240", "0 -1")).unwrap();
    assert_eq!(read.foreground, None);
    assert!(!Stat::parse(&LINE.replace(") S", ") Z")).unwrap().is_alive());
}

#[test]
fn half_a_line_is_none() {
    for end in 0..LINE.find("4194304").unwrap() {
        assert_eq!(Stat::parse(&LINE[..end]), None, "{end}");
    }
}

#[test]
fn this_process_is_seen() {
    let me = stat(getpid()).unwrap().unwrap();
    assert_eq!(me.pid, getpid());
    assert!(me.is_alive());
    let path = std::env::var("PATH").unwrap();
    assert!(environ_has(me.pid, "PATH", &path).unwrap());
    assert!(!environ_has(me.pid, "PATH", "").unwrap());
    assert!(!environ_has(me.pid, "PAT", &format!("H={path}")).unwrap());
}
