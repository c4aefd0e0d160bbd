//! Which of several sources counts.

use super::*;
use crate::environment::Environment;

fn named(path: &Path) -> Overrides {
    Overrides { config: Some(path.to_owned()), ..Overrides::default() }
}

#[test]
fn the_flag_goes_before_the_variable_and_that_before_the_default_places() {
    let home = Home::with("host: home");
    assert_eq!(home.load().host, "home");
    home.write("xdg/ccl/config.yaml", "host: xdg");
    let home = home.set("XDG_CONFIG_HOME", "HOME/xdg");
    assert_eq!(home.load().host, "xdg");
    home.write("variable.yaml", "host: variable");
    let home = home.set("CCL_CONFIG", "HOME/variable.yaml");
    assert_eq!(home.load().host, "variable");
    home.write("flag.yaml", "host: flag");
    assert_eq!(home.load_with(&named(&home.path("flag.yaml"))).unwrap().host, "flag");
}

#[test]
fn a_relative_name_is_seen_from_the_current_directory() {
    let home = Home::new();
    home.write("sub/c.yaml", "host: here\nstate_dir: ./s");
    let config = home.load_with(&named(Path::new("./sub/c.yaml"))).unwrap();
    assert_eq!(config.host, "here");
    assert_eq!(config.file, Some(home.path("sub/c.yaml")));
    assert_eq!(config.state_dir, home.path("sub/s"));
}

#[test]
fn a_named_file_must_be_there() {
    let home = Home::new();
    assert_eq!(
        home.complaint_with(&named(Path::new("no.yaml"))),
        "cannot read the configuration HOME/no.yaml: it does not exist"
    );
    let home = home.set("CCL_CONFIG", "HOME");
    assert_eq!(home.complaint(), "cannot read the configuration HOME: it is a directory");
    fs::write(home.path("latin1.yaml"), b"host: caf\xe9").unwrap();
    assert_eq!(
        home.complaint_with(&named(&home.path("latin1.yaml"))),
        "cannot read the configuration HOME/latin1.yaml: it is not UTF-8 text"
    );
}

#[test]
fn a_default_file_that_cannot_be_read_is_an_error_too() {
    let home = Home::new();
    fs::create_dir_all(home.path(".config/ccl/config.yaml")).unwrap();
    assert_eq!(
        home.complaint(),
        "cannot read the configuration HOME/.config/ccl/config.yaml: it is a directory"
    );
}

#[test]
fn variables_that_are_empty_or_relative_where_they_must_not_be_do_not_count() {
    let home = Home::with("host: home")
        .set("XDG_CONFIG_HOME", "relative")
        .set("XDG_STATE_HOME", "")
        .set("CCL_CONFIG", "");
    let config = home.load();
    assert_eq!(config.host, "home");
    assert_eq!(config.state_dir, home.path(".local/state/ccl"));
}

#[test]
fn the_state_directory_comes_from_the_flag_the_file_or_the_environment() {
    let home = Home::new().set("XDG_STATE_HOME", "HOME/xdg");
    assert_eq!(home.load().state_dir, home.path("xdg/ccl"));
    home.write(".config/ccl/config.yaml", "state_dir: ~/file");
    assert_eq!(home.load().state_dir, home.path("file"));
    let flag = Overrides { state_dir: Some("flag".into()), ..Overrides::default() };
    assert_eq!(home.load_with(&flag).unwrap().state_dir, home.path("flag"));
}

#[test]
fn a_state_directory_that_is_no_line_of_text_is_refused() {
    assert_eq!(
        Home::new().set("XDG_STATE_HOME", "/a\nb").complaint(),
        r"the state directory /a\nb/ccl has control characters or is not UTF-8; set state_dir to another one"
    );
}

#[test]
fn without_a_home_there_is_a_sentence() {
    for variables in [vec![], vec![("HOME", "")], vec![("HOME", "relative")]] {
        let error =
            Config::load(&Overrides::default(), &Environment::of(variables, "/")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "HOME is not set to an absolute path; set it to your home directory"
        );
    }
}

#[test]
fn claude_code_may_have_been_moved() {
    let home = Home::new().set("CLAUDE_CONFIG_DIR", "HOME/c");
    let config = home.load();
    assert_eq!(config.agents.first().claude.directory, home.path("c"));
    assert_eq!(config.agents.first().claude.state, home.path("c/.claude.json"));
}

#[test]
fn the_pane_counts_only_inside_tmux() {
    let pane = |home: Home| home.load().tmux_pane;
    assert_eq!(pane(Home::new().set("TMUX_PANE", "%3")), None);
    let inside = || Home::new().set("TMUX", "/tmp/tmux-0/default,1,0");
    assert_eq!(pane(inside().set("TMUX_PANE", "%3")), Some("%3".to_owned()));
    for odd in ["3", "%", "%3x", "=main"] {
        assert_eq!(pane(inside().set("TMUX_PANE", odd)), None, "{odd}");
    }
}
