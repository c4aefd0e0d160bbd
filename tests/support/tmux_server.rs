//! A real tmux server of a test's own, on a private socket and with a controlled environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::wait::poll;

/// Every process started under the server carries this variable with the socket's path, so that
/// `Drop` finds them all, however they were started.
pub const MARK: &str = "CCL_TEST_TMUX";

/// A tmux server on a socket of its own; it lives without sessions and is killed, with everything
/// that runs in it, when the value is dropped, also by a panic.
///
/// ```ignore
/// let tmux = TmuxServer::start();                       // its own throw-away HOME
/// tmux.new_session("ccl-auto-0", &[]);                  // a login bash, 200x50
/// tmux.run(&["send-keys", "-t", "=ccl-auto-0:", "echo hi", "Enter"]);
/// tmux.wait_for_text("=ccl-auto-0:", "hi");
/// ```
pub struct TmuxServer {
    socket: PathBuf,
    home: PathBuf,
    env: BTreeMap<OsString, OsString>,
    // Removed after `Drop` has ended the server.
    _dir: TempDir,
}

/// What a [`TmuxServer`] is started with.
pub struct Builder {
    home: Option<PathBuf>,
    shell: String,
    env: BTreeMap<OsString, OsString>,
    running: bool,
}

impl Builder {
    /// HOME of the panes; start-up files are written there unless they exist. Default: a new empty
    /// directory.
    pub fn home(mut self, home: &Path) -> Self {
        self.home = Some(home.to_path_buf());
        self
    }

    /// The default shell of the panes, an absolute path. Default: `/bin/bash`.
    pub fn shell(mut self, shell: &str) -> Self {
        self.shell = shell.to_owned();
        self
    }

    /// A variable of the server's global environment, which every pane inherits. `PATH` works too:
    /// the shell's start-up files set it again after `/etc/profile` has overwritten it.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Many variables at once.
    pub fn envs<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.env.extend(vars.into_iter().map(|(k, v)| (k.into(), v.into())));
        self
    }

    /// Only the socket's path is made, no server is started on it.
    pub fn not_running(mut self) -> Self {
        self.running = false;
        self
    }

    /// Starts the server.
    pub fn start(self) -> TmuxServer {
        let dir =
            tempfile::Builder::new().prefix("ccl-tmux-").tempdir().expect("a temporary directory");
        let socket = dir.path().join("socket");
        let home = self.home.unwrap_or_else(|| dir.path().join("home"));
        fs::create_dir_all(&home).expect("HOME");
        let mut env = base_environment(&home, &self.shell);
        env.extend(self.env);
        env.insert(MARK.into(), socket.clone().into());
        write_startup_files(&home, &env);
        let server = TmuxServer { socket, home, env, _dir: dir };
        if self.running {
            server.start_server();
        }
        server
    }
}

impl TmuxServer {
    /// A running server with a HOME of its own, no sessions, and bash as the default shell.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A server with choices.
    pub fn builder() -> Builder {
        Builder { home: None, shell: "/bin/bash".to_owned(), env: BTreeMap::new(), running: true }
    }

    /// Starts the server (again, for instance after `kill-server`).
    pub fn start_server(&self) {
        self.run(&["start-server", ";", "set-option", "-g", "exit-empty", "off"]);
    }

    /// What reaches this server, for `tmux.command` in a configuration.
    pub fn command(&self) -> Vec<String> {
        let socket = self.socket.to_str().expect("a temporary path is UTF-8");
        ["tmux", "-S", socket, "-f", "/dev/null"].map(str::to_owned).to_vec()
    }

    /// The path of the socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// HOME of the panes.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The server's environment, as its panes inherit it.
    pub fn env(&self) -> &BTreeMap<OsString, OsString> {
        &self.env
    }

    /// A command that runs tmux with `args`, for tests that need its status or standard input.
    pub fn tmux(&self, args: &[&str]) -> Command {
        let words = self.command();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args).env_clear().envs(&self.env);
        command
    }

    /// Runs tmux with `args`, whatever comes of it.
    pub fn try_run(&self, args: &[&str]) -> Output {
        self.tmux(args).output().expect("tmux can be started")
    }

    /// Runs tmux with `args` and returns its standard output; panics if it fails.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        let out = self.try_run(args);
        assert!(
            out.status.success(),
            "tmux {args:?}: {}\n{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).expect("tmux prints UTF-8")
    }

    /// Makes a detached session of 200x50 that runs `argv`, or the default shell as a login shell
    /// where `argv` is empty, and waits until a shell has drawn its prompt. Returns the pane's id.
    #[track_caller]
    pub fn new_session(&self, name: &str, argv: &[&str]) -> String {
        let pane = self.new_session_unready(name, argv);
        self.wait_until("the shell draws its prompt", || !self.capture(&pane).trim().is_empty());
        pane
    }

    /// Like [`Self::new_session`], but returns while the shell is still starting.
    #[track_caller]
    pub fn new_session_unready(&self, name: &str, argv: &[&str]) -> String {
        let home = self.home.to_str().expect("HOME is UTF-8");
        let mut args = vec!["new-session", "-d", "-P", "-F", "#{pane_id}"];
        args.extend(["-s", name, "-x", "200", "-y", "50", "-c", home, "--"]);
        args.extend(argv);
        self.run(&args).trim().to_owned()
    }

    /// The names of all sessions, sorted.
    pub fn sessions(&self) -> Vec<String> {
        let out = self.try_run(&["list-sessions", "-F", "#{session_name}"]);
        let mut names: Vec<_> =
            String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// The panes of all windows of a session, by their ids.
    #[track_caller]
    pub fn windows(&self, session: &str) -> Vec<String> {
        let target = format!("={session}:");
        let panes = self.run(&["list-panes", "-s", "-t", &target, "-F", "#{pane_id}"]);
        panes.lines().map(str::to_owned).collect()
    }

    /// The panes, dead or alive, that `ccl` has opened for agents; none where there is no server or no session.
    pub fn agent_windows(&self) -> Vec<String> {
        let out = self.try_run(&["list-panes", "-a", "-F", "#{pane_id} #{pane_start_command}"]);
        let panes = String::from_utf8_lossy(&out.stdout).into_owned();
        panes.lines().filter(|pane| pane.contains("CCL_SCRIPT")).map(str::to_owned).collect()
    }

    /// The visible screen of `target` (`=NAME:` or a pane's id), wrapped lines joined.
    #[track_caller]
    pub fn capture(&self, target: &str) -> String {
        self.run(&["capture-pane", "-p", "-J", "-t", target])
    }

    /// Types `keys` (tmux key names) into `target`.
    #[track_caller]
    pub fn send_keys(&self, target: &str, keys: &[&str]) {
        let mut args = vec!["send-keys", "-t", target];
        args.extend(keys);
        self.run(&args);
    }

    /// Types `line` literally into `target`, then Enter.
    #[track_caller]
    pub fn type_line(&self, target: &str, line: &str) {
        self.run(&["send-keys", "-t", target, "-l", line]);
        self.run(&["send-keys", "-t", target, "Enter"]);
    }

    /// The value of a format (`#{pane_pid}` …) at `target`.
    #[track_caller]
    pub fn format(&self, target: &str, format: &str) -> String {
        self.run(&["display-message", "-p", "-t", target, format]).trim_end().to_owned()
    }

    /// Waits until `text` stands on the screen of `target`; returns the screen.
    #[track_caller]
    pub fn wait_for_text(&self, target: &str, text: &str) -> String {
        self.wait_for(&format!("{text:?} on the screen of {target}"), || {
            Some(self.capture(target)).filter(|screen| screen.contains(text))
        })
    }

    /// [`super::wait_until`] with [`super::PATIENCE`], whose panic shows every pane's screen.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut ready: impl FnMut() -> bool) {
        self.wait_for(what, || ready().then_some(()));
    }

    /// [`super::wait_for`] with [`super::PATIENCE`], whose panic shows every pane's screen.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, find: impl FnMut() -> Option<T>) -> T {
        poll(super::PATIENCE, find)
            .unwrap_or_else(|| panic!("waited in vain: {what}\n{}", self.screens()))
    }

    /// Every pane with its processes and its screen, for messages.
    pub fn screens(&self) -> String {
        let format = "#{pane_id}\t#{session_name} #{pane_current_command} dead=#{pane_dead} mode=#{pane_mode}";
        let out = self.try_run(&["list-panes", "-a", "-F", format]);
        let mut text = String::from_utf8_lossy(&out.stderr).into_owned();
        for line in String::from_utf8_lossy(&out.stdout).lines() {
            let pane = line.split('\t').next().unwrap_or_default();
            let screen = self.try_run(&["capture-pane", "-p", "-J", "-t", pane]);
            text += &format!("--- {line}\n{}\n", screen_text(&screen));
        }
        text
    }

    /// The processes that were started under this server, itself included.
    pub fn processes(&self) -> Vec<i32> {
        let mark = format!("{MARK}={}", self.socket.display());
        fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid: &i32| {
                // Empty or unreadable for a zombie: that one is as good as gone.
                let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environ.split(|&b| b == 0).any(|var| var == mark.as_bytes())
            })
            .collect()
    }

    fn wait_for_end(&self, limit: Duration) -> bool {
        poll(limit, || self.processes().is_empty().then_some(())).is_some()
    }
}

impl Drop for TmuxServer {
    fn drop(&mut self) {
        let _ = self.try_run(&["kill-server"]);
        if self.wait_for_end(Duration::from_secs(2)) {
            return;
        }
        // A program that ignores the hang-up, or a background job.
        for pid in self.processes().into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        if !self.wait_for_end(Duration::from_secs(5)) {
            eprintln!("left behind by {}: {:?}", self.socket.display(), self.processes());
        }
    }
}

fn screen_text(out: &Output) -> String {
    let screen = String::from_utf8_lossy(&out.stdout);
    screen.trim_end().to_owned()
}

fn base_environment(home: &Path, shell: &str) -> BTreeMap<OsString, OsString> {
    let path = std::env::var_os("PATH").expect("PATH is set");
    BTreeMap::from([
        ("PATH".into(), path),
        ("HOME".into(), home.into()),
        ("SHELL".into(), shell.into()),
        ("TERM".into(), "xterm-256color".into()),
        ("LANG".into(), "C.UTF-8".into()),
        ("USER".into(), "test".into()),
        ("LOGNAME".into(), "test".into()),
    ])
}

/// Start-up files that give a plain prompt and undo what `/etc/profile` does to PATH.
fn write_startup_files(home: &Path, env: &BTreeMap<OsString, OsString>) {
    let path = env[&OsString::from("PATH")].to_str().expect("PATH is UTF-8");
    let path = shlex::try_quote(path).expect("PATH has no NUL");
    let lines = format!("export PATH={path}\nPS1='$ '\n");
    let fish = home.join(".config/fish");
    fs::create_dir_all(&fish).expect("fish's directory");
    if !fish.join("config.fish").exists() {
        let lines = format!("set -gx PATH (string split : {path})\n");
        fs::write(fish.join("config.fish"), lines).expect("a start-up file");
    }
    // Without a .zshrc zsh asks what to do about it.
    for name in [".profile", ".bashrc", ".zshrc", ".zprofile"] {
        let file = home.join(name);
        if !file.exists() {
            fs::write(&file, &lines).expect("a start-up file");
        }
    }
}
