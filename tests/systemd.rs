//! The units of `systemd/` under a real user manager.

#[path = "support/user_manager.rs"]
mod user_manager;

use user_manager::UserManager;

const UNITS: [&str; 4] = ["ccl.service", "ccl.timer", "ccl-tmux.service", "ccl@.path"];

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let manager = UserManager::start();
    let mut verify = manager.command("systemd-analyze");
    verify.args(["--user", "--man=no", "verify"]);
    verify.args(UNITS.map(|unit| manager.units().join(unit)));
    let output = verify.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn tmux_server_answers_as_soon_as_its_unit_has_started() {
    let manager = UserManager::start();
    manager.systemctl(&["start", "ccl-tmux.service"]);
    let sessions = manager
        .command("tmux")
        .arg("list-sessions")
        .output()
        .unwrap();
    assert!(sessions.status.success(), "{sessions:?}");
}
