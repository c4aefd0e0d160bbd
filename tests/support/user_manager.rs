//! A real `systemd --user` manager, with a HOME and a runtime directory of its own and nothing else's units.
//!
//! It lives in a mount namespace (systemd asks for `/run/systemd/system`, and for cgroups at `/sys/fs/cgroup`; nobody
//! lingers) and in a
//! cgroup of its own, in which every process ends with the test, however that ends. It needs root, but no systemd
//! as process 1. Measured with systemd 252 and tmux 3.3a.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use super::journal::Journal;
use super::wait::{PATIENCE, poll};

/// Runs until its standard input is closed; then everything in the cgroup is killed. `$1` is the manager's directory, `$2`
/// the cgroup's name.
const GUARDIAN: &str = r#"
set -eu
# Credentials are mounted in a namespace of systemd's own, and shared with this one.
mount --make-rshared /
mount -t tmpfs none /run
mkdir -p /run/systemd/system /run/systemd/journal
ln -s "$1/journal" /run/systemd/journal/stdout
mount -t tmpfs none /var/lib/systemd
mkdir /var/lib/systemd/linger
mount -t cgroup2 none /sys/fs/cgroup
own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
group=$own/$2
mkdir "$group"
(
    echo 0 > "$group/cgroup.procs"
    exec env -i HOME="$1/home" XDG_RUNTIME_DIR="$1/run" TMUX_TMPDIR="$1/run" USER=root LOGNAME=root SHELL=/bin/bash \
        LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin SYSTEMD_LOG_TARGET=console \
        SYSTEMD_UNIT_PATH="$1/home/.config/systemd/user:$1/targets" \
        SYSTEMD_GENERATOR_PATH="$1/none" SYSTEMD_ENVIRONMENT_GENERATOR_PATH="$1/none" \
        "$(command -v /usr/lib/systemd/systemd /lib/systemd/systemd | head -n 1)" --user < /dev/null
) &
read -r end || true
echo 1 > "$group/cgroup.kill"
wait
until find "$group" -depth -type d -exec rmdir {} + 2> /dev/null; do sleep 0.02; done
"#;

/// A process, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(pub u32);

impl Process {
    /// Its words; empty when it has ended.
    pub fn words(self) -> Vec<String> {
        strings(&format!("/proc/{}/cmdline", self.0))
    }

    /// `NAME=VALUE`, as it was started.
    pub fn environment(self) -> Vec<String> {
        strings(&format!("/proc/{}/environ", self.0))
    }
}

fn strings(path: &str) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// The manager; everything in it ends when it is dropped.
pub struct UserManager {
    dir: TempDir,
    group: String,
    guardian: Child,
    journal: Journal,
}

impl UserManager {
    /// Starts one that knows the units of `systemd/` and has `ccl` where `cargo install` puts it.
    #[track_caller]
    pub fn start() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "a systemd manager of its own needs root: run `sudo -E cargo test --test systemd`"
        );
        let dir = TempDir::with_prefix("ccl-systemd-").unwrap();
        install(dir.path());
        let journal = Journal::listen(dir.path().join("journal"));
        let group = dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let log = fs::File::create(dir.path().join("manager.log")).unwrap();
        let guardian = Command::new("unshare")
            .args(["--mount", "sh", "-c", GUARDIAN, "sh"])
            .arg(dir.path())
            .arg(&group)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("unshare is installed (util-linux)");
        let mut manager = Self { dir, group, guardian, journal };
        manager.wait_until_ready();
        manager
    }

    #[track_caller]
    fn wait_until_ready(&mut self) {
        let ready = poll(PATIENCE, || {
            let ended = self.guardian.try_wait().unwrap();
            let state = self.systemctl_unchecked(&["is-active", "default.target"]);
            (ended.is_some() || state.status.success()).then_some(ended.is_none())
        });
        let log = self.log();
        assert_eq!(ready, Some(true), "systemd --user did not start:\n{log}");
    }

    /// Everything that belongs to it lies here.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// HOME of every unit.
    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// What the manager itself has to say.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path().join("manager.log")).unwrap_or_default()
    }

    /// A program in the manager's environment and mount namespace, outside of its cgroup.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg("--mount")
            .arg(format!("--target={}", self.guardian.id()))
            .args(["--", program])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.home())
            .env("XDG_RUNTIME_DIR", self.path().join("run"))
            .env("TMUX_TMPDIR", self.path().join("run"))
            .env("SHELL", "/bin/bash")
            .env("USER", "root")
            .env("LANG", "C.UTF-8");
        command
    }

    /// `systemctl --user ARGS…`
    pub fn systemctl_unchecked(&self, args: &[&str]) -> Output {
        let mut command = self.command("systemctl");
        command.arg("--user").args(args);
        command.output().expect("systemctl is installed")
    }

    /// `systemctl --user ARGS…`; panics unless it succeeds.
    #[track_caller]
    pub fn systemctl(&self, args: &[&str]) -> String {
        let output = self.systemctl_unchecked(args);
        assert!(
            output.status.success(),
            "systemctl --user {args:?}: {}\n{}\n{}\n{:#?}",
            String::from_utf8_lossy(&output.stderr),
            // Its exit status: 200 and above are systemd's own, for what it could not set up.
            String::from_utf8_lossy(&self.systemctl_unchecked(&["status", "ccl.service"]).stdout),
            self.log(),
            self.journal
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// `property("ccl.service", "ExecMainStatus")`
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        let value = self.systemctl(&["show", "--value", "--property", name, unit]);
        value.trim_end().to_owned()
    }

    /// Adds a drop-in to a unit.
    #[track_caller]
    pub fn drop_in(&self, unit: &str, text: &str) {
        let directory = self.units().join(format!("{unit}.d"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("test.conf"), text).unwrap();
        self.systemctl(&["daemon-reload"]);
    }

    /// Where the user's own units lie.
    pub fn units(&self) -> PathBuf {
        units(self.path())
    }

    /// The processes in a unit's cgroup.
    pub fn processes(&self, unit: &str) -> Vec<Process> {
        let (group, unit) = (format!("/{}/", self.group), format!("/{unit}"));
        let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.parse().ok()
        });
        let inside = |pid: &u32| {
            let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
            path.is_some_and(|path| path.contains(&group) && path.ends_with(&unit))
        };
        numbers.filter(inside).map(Process).collect()
    }

    /// What `ccl` wrote to the journal, line by line, `<N>` in front; waits for a pass that is at work.
    #[track_caller]
    pub fn said(&self) -> Vec<String> {
        self.journal.of("ccl")
    }

    /// Polls until `ready` holds; panics with `what`, the journal and the manager's log if it does not.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut ready: impl FnMut() -> bool) {
        if poll(PATIENCE, || ready().then_some(())).is_none() {
            let (journal, log) = (&self.journal, self.log());
            panic!("waited {PATIENCE:?} in vain: {what}\n{journal:#?}\n{log}");
        }
    }
}

impl Drop for UserManager {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        if let Err(error) = self.guardian.wait() {
            eprintln!("cannot end the manager: {error}");
        }
    }
}

fn units(dir: &Path) -> PathBuf {
    dir.join("home/.config/systemd/user")
}

/// Lays out the manager's directory: the targets that every manager has, the units under test, `ccl`.
fn install(dir: &Path) {
    for sub in ["run", "targets", "home/.config/systemd", "home/.cargo/bin"] {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    fs::set_permissions(dir.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
    let systemd = Path::new("/usr/lib/systemd/user");
    copy(systemd, &dir.join("targets"), |name| {
        name.ends_with(".target") || name.ends_with(".slice") || name == "systemd-exit.service"
    });
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    copy(&ours, &units(dir), |name| !name.ends_with(".d"));
    let ccl = dir.join("home/.cargo/bin/ccl");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ccl"), ccl).unwrap();
}

/// Copies the files of a directory whose names are wanted.
fn copy(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) {
    fs::create_dir_all(to).unwrap();
    let entries = fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if wanted(name.to_str().unwrap()) && entry.path().is_file() {
            fs::copy(entry.path(), to.join(&name)).unwrap();
        }
    }
}
