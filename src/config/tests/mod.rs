//! A made-up home with a made-up environment; no test sees the real ones.

mod file;
mod key;
mod precedence;

use super::*;
use crate::environment::Environment;
use anyhow::Result;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A home directory of its own, and variables.
pub(crate) struct Home {
    dir: TempDir,
    variables: Vec<(String, String)>,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let variables = vec![("HOME".to_owned(), dir.path().to_str().unwrap().to_owned())];
        Self { dir, variables }
    }

    /// A home whose default configuration is this text.
    pub(crate) fn with(text: &str) -> Self {
        let home = Self::new();
        home.write(".config/ccl/config.yaml", text);
        home
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables
            .push((name.to_owned(), value.replace("HOME", self.dir.path().to_str().unwrap())));
        self
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn project(&self, relative: &str) -> PathBuf {
        fs::create_dir_all(self.path(relative).join(".agent-queue")).unwrap();
        self.path(relative)
    }

    fn environment(&self) -> Environment {
        Environment::of(self.variables.clone(), self.dir.path())
    }

    pub(crate) fn load_with(&self, overrides: &Overrides) -> Result<Config> {
        Config::load(overrides, &self.environment())
    }

    pub(crate) fn load(&self) -> Config {
        self.load_with(&Overrides::default()).unwrap()
    }

    /// The sentence of the configuration error, with the home's path as `HOME`.
    fn complaint(&self) -> String {
        self.complaint_with(&Overrides::default())
    }

    fn complaint_with(&self, overrides: &Overrides) -> String {
        self.sentence(&self.load_with(overrides).unwrap_err())
    }

    pub(crate) fn sentence(&self, error: &anyhow::Error) -> String {
        assert_eq!(crate::error::exit_code(error), 78, "{error:?}");
        format!("{error:#}").replace(self.dir.path().to_str().unwrap(), "HOME")
    }
}

#[test]
fn without_a_file_everything_is_default() {
    let home = Home::new();
    let config = home.load();
    assert_eq!(config.file, None);
    assert_eq!(config.pool, PoolConfig::default());
    let names: Vec<String> = config.pool.session_names().collect();
    assert_eq!(names, ["ccl-auto-0", "ccl-auto-1", "ccl-auto-2", "ccl-auto-3"]);
    assert_eq!(config.dedicated, []);
    assert_eq!(config.projects, Projects::NearestTo(home.path("")));
    assert_eq!(config.dispatcher.prompt_timeout, Duration::from_secs(30));
    assert_eq!(config.dispatcher.cooldown, Duration::from_secs(300));
    assert_eq!(config.dispatcher.max_attempts, 3);
    assert_eq!(config.dispatcher.stale_after, Duration::from_secs(7200));
    assert_eq!(config.dispatcher.models.for_priority(Priority::Critical), "opus");
    for priority in [Priority::High, Priority::Default, Priority::Low] {
        assert_eq!(config.dispatcher.models.for_priority(priority), "sonnet");
    }
    assert_eq!(config.agents.first().command, ["claude", "--dangerously-skip-permissions"]);
    assert_eq!(config.agents.first().kind, AgentKind::Claude);
    assert!(config.agents.first().shell().is_absolute());
    assert_eq!(config.warnings, [] as [&str; 0]);
    assert!(config.agents.first().hooks);
    assert_eq!(config.agents.first().questions, Questions::Refuse);
    assert_eq!(config.secutools.unwrap_err(), DelegationOff::NotConfigured);
    assert_eq!(config.tmux, ["tmux"]);
    assert_eq!(config.state_dir, home.path(".local/state/ccl"));
    assert_eq!(config.agents.first().claude.directory, home.path(".claude"));
    assert_eq!(config.agents.first().claude.state, home.path(".claude.json"));
    assert_eq!(config.host, rustix::system::uname().nodename().to_str().unwrap());
    assert_eq!(config.tmux_pane, None);
}

#[test]
fn further_names_for_http_are_hosts_without_a_port() {
    let home = Home::with("http: {hosts: [ccl.example., '[2001:db8::1]', 192.0.2.7]}\n");
    assert_eq!(home.load().http_hosts, ["ccl.example", "[2001:db8::1]", "192.0.2.7"]);
    assert_eq!(Home::new().load().http_hosts, [""; 0]);
}

#[test]
fn the_message_is_filled_in_once() {
    let dispatcher =
        Dispatcher { message: "{task}: {body} {x y} { {task}".to_owned(), ..Dispatcher::default() };
    assert_eq!(
        dispatcher.fill_message("a.md", "the {body} and {task} of it"),
        "a.md: the {body} and {task} of it {x y} { a.md"
    );
    let default = Dispatcher::default().fill_message("a.md", "Fix it.");
    assert!(default.starts_with("[a.md] Fix it.\n\nIMPORTANT: carry out"), "{default}");
}

#[test]
fn session_names_start_at_the_configured_index() {
    let pool = PoolConfig { prefix: "w".to_owned(), start_index: 9999, max: 2, create: false };
    assert_eq!(pool.session_names().collect::<Vec<_>>(), ["w9999", "w10000"]);
}
