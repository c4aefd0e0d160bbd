//! The real Ray, installed by pip once, in a network and process namespace of its own: nothing of it is seen outside, and
//! nothing outlives the test.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use super::wait::wait_for;
use super::{PATIENCE, Sandbox};

/// The version that `ccl` is measured on.
pub const VERSION: &str = "2.60.0";

/// Where its dashboard listens in the namespace.
pub const URL: &str = "http://127.0.0.1:8265";

/// A request in Python: a machine that has Ray has that.
const ASK: &str = "import os, sys, urllib.request as u
def ask(path, body):
    head = {'Authorization': 'Bearer ' + os.environ['RAY_AUTH_TOKEN'], 'Content-Type': 'application/json'}
    return u.urlopen(u.Request(sys.argv[1] + path, body, head)).read().decode()";

/// Installs `ray[default]` into `target/ray` unless it is there; tests that ask at the same time wait for one
/// installation. The directory that holds `ray`.
pub fn install() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let place = target.join("ray");
    fs::create_dir_all(&target).expect("target");
    let lock = fs::File::create(target.join("ray.lock")).expect("a lock file");
    fs2::FileExt::lock_exclusive(&lock).expect("the lock on the installation");
    // Written last: an installation that was cut off is made again.
    let complete = place.join("complete");
    if fs::read_to_string(&complete).is_ok_and(|version| version == VERSION) {
        return place.join("bin");
    }
    let run = |program: &Path, args: &[&str]| {
        let out = Command::new(program).args(args).output().expect("python3 can be started");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{} {args:?}: {said}", program.display());
    };
    run(Path::new("python3"), &["-m", "venv", "--clear", place.to_str().expect("UTF-8")]);
    run(&place.join("bin/pip"), &["install", "-q", &format!("ray[default]=={VERSION}")]);
    fs::write(&complete, VERSION).expect("the mark of a complete installation");
    place.join("bin")
}

/// A namespace with a loopback device, in which a Ray may run.
pub struct RealRay {
    /// `unshare`; with it everything in the namespace ends.
    holder: Child,
    /// The first process in there.
    first: String,
    bin: PathBuf,
    directory: PathBuf,
    token: String,
}

impl RealRay {
    /// A namespace without a Ray; `directory` is for its files and its jobs'.
    pub fn new(directory: &Path, token: &str) -> Self {
        let bin = install();
        let mapped = !rustix::process::geteuid().is_root();
        // Ends with the thread that starts it, whatever ends that.
        let mut holder = Command::new("setpriv");
        holder.args(["--pdeathsig", "KILL", "unshare"]);
        holder.args(mapped.then_some("--map-root-user"));
        holder.args(["--net", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-c"]);
        holder.arg("ip link set lo up; while :; do sleep 3600; done");
        let holder = holder.stdin(Stdio::null()).spawn().expect("unshare runs");
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let first = wait_for("the first process of the namespace", PATIENCE, || {
            let children = fs::read_to_string(&children).ok()?;
            children.split_whitespace().next().map(str::to_owned)
        });
        let ray =
            Self { holder, first, bin, directory: directory.to_owned(), token: token.to_owned() };
        wait_for("the loopback device", PATIENCE, || {
            let up = ray.run(["ip", "addr", "show", "lo"]);
            String::from_utf8_lossy(&up.stdout).contains("127.0.0.1").then_some(())
        });
        ray
    }

    /// The words before a command that is to run in the namespace.
    pub fn enter(&self) -> Vec<OsString> {
        let mut words = vec!["nsenter".to_owned(), "-t".to_owned(), self.first.clone()];
        if !rustix::process::geteuid().is_root() {
            words.extend(["-U".to_owned(), "--preserve-credentials".to_owned()]);
        }
        words.extend(["-n", "-p", "-m", "--"].map(str::to_owned));
        words.into_iter().map(OsString::from).collect()
    }

    /// Lets the sandbox's `ccl` run in there.
    pub fn take_in(&self, sandbox: &mut Sandbox) {
        sandbox.wrap(self.enter());
    }

    /// Runs a command in there, with a worker's environment.
    pub fn run<S: Into<OsString>>(&self, words: impl IntoIterator<Item = S>) -> Output {
        let words: Vec<OsString> =
            self.enter().into_iter().chain(words.into_iter().map(Into::into)).collect();
        let mut path = self.bin.clone().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").expect("PATH is set"));
        Command::new(&words[0])
            .args(&words[1..])
            .current_dir(&self.directory)
            .env_clear()
            .env("PATH", path)
            .env("HOME", &self.directory)
            .env("TMPDIR", &self.directory)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("RAY_AUTH_MODE", "token")
            .env("RAY_AUTH_TOKEN", &self.token)
            .stdin(Stdio::null())
            .output()
            .expect("nsenter runs")
    }

    /// Starts a head whose node has these resources.
    pub fn start(&self, resources: &str) {
        // On a machine that has much else to do, Ray itself may not wait long enough for its parts.
        let started = (0..5).any(|_| {
            self.try_start(resources) || {
                self.kill_head();
                false
            }
        });
        assert!(started, "no Ray starts: see {}", self.directory.join("r").display());
    }

    fn try_start(&self, resources: &str) -> bool {
        let temporary = format!("--temp-dir={}", self.directory.join("r").display());
        let out = self.run([
            "ray",
            "start",
            "--head",
            "--node-ip-address=127.0.0.1",
            "--port=6379",
            "--dashboard-host=127.0.0.1",
            "--dashboard-port=8265",
            "--num-cpus=4",
            &format!("--resources={resources}"),
            "--object-store-memory=80000000",
            "--disable-usage-stats",
            &temporary,
        ]);
        out.status.success()
    }

    /// `kill -9` of all that is Ray's own there: the head dies and forgets, and so do its jobs' supervisors.
    pub fn kill_head(&self) {
        // A file, so that no command line of ours looks like Ray's.
        let script = "of='^ray::|/site-packages/ray/'
            while pgrep gcs_server || pgrep raylet || pgrep -f \"$of\"; do
                pkill -9 gcs_server; pkill -9 raylet; pkill -9 -f \"$of\"; sleep 0.1
            done";
        let file = self.directory.join("kill-head");
        fs::write(&file, script).expect("a script");
        self.run([OsString::from("sh"), file.into_os_string()]);
    }

    /// Posts these jobs as they stand.
    pub fn post(&self, bodies: &[String]) {
        let script = format!("{ASK}\nfor body in sys.argv[2:]: ask('/api/jobs/', body.encode())");
        let words = ["python3", "-c", &script, URL].map(str::to_owned);
        let out = self.run(words.into_iter().chain(bodies.iter().cloned()));
        assert!(out.status.success(), "{out:?}");
    }

    /// What Ray answers to the question for a path; empty where it does not.
    pub fn get(&self, path: &str) -> String {
        let script = format!("{ASK}\nprint(ask(sys.argv[2], None))");
        let out = self.run(["python3", "-c", &script, URL, path]);
        String::from_utf8(out.stdout).expect("UTF-8")
    }
}

impl Drop for RealRay {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
