//! Where something is missing: tmux, its server, a project.

use serde_json::json;

use crate::support::Sandbox;
use crate::{names, status, world};

#[test]
fn without_a_tmux_server_the_queues_are_shown_and_each_session_says_so() {
    let mut sandbox = Sandbox::new();
    let tmux = sandbox.tmux_with(|builder| builder.not_running());
    sandbox.project("web").drop_task("a.md", "Do it.\n");
    let json = sandbox.ccl_json(&["status"]);
    assert_eq!(json["sessions"].as_array().unwrap().len(), 4);
    for session in json["sessions"].as_array().unwrap() {
        assert_eq!(session["state"], "missing");
    }
    assert_eq!(names(&json["tasks"], "waiting"), ["a.md"]);
    let (text, stderr, exit) = status(&sandbox, &[]);
    assert_eq!((stderr.as_str(), exit), ("", 0));
    for index in 0..4 {
        let row = format!("ccl-auto-{index}  missing\n    no tmux server is running: ");
        assert!(text.contains(&row), "each row shows its own reason\n{text}");
    }
    assert!(!tmux.socket().exists(), "status starts no server");
}

#[test]
fn without_tmux_itself_the_queues_are_shown_all_the_same() {
    let mut sandbox = Sandbox::new();
    sandbox.config("tmux", json!({"command": ["/nonexistent/tmux"]}));
    sandbox.project("web").drop_task("a.md", "Do it.\n");
    let (text, stderr, exit) = status(&sandbox, &[]);
    assert_eq!(exit, 75, "{stderr}");
    assert!(stderr.contains("/nonexistent/tmux"), "{stderr}");
    assert!(text.contains("a.md"), "{text}");
}

#[test]
fn outside_of_every_project_the_sessions_and_their_projects_are_shown() {
    let (sandbox, tmux) = world(1);
    let project = sandbox.project("web");
    project.drop_task("a.md", "Do it.\n");
    sandbox.ccl(["scan"]).assert().success();
    let command = tmux.command();
    let config = json!({"state_dir": sandbox.state_dir(), "host": "test-host", "tmux": {"command": command}});
    sandbox.config_text(&config.to_string());
    let json = sandbox.ccl_json(&["status"]);
    assert_eq!(json["sessions"][0]["state"], "working");
    assert_eq!(json["projects"][0]["path"], json!(project.root()));
    let (_, stderr, exit) = status(&sandbox, &[]);
    assert_eq!(exit, 0);
    assert!(stderr.contains("there is no .agent-queue in"), "{stderr}");
}
