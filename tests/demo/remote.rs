//! The scene with a cluster: a Ray head of the demo's own, in a network that nobody else sees, and an exchange.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

/// Set in the network of its own.
const INSIDE: &str = "CCL_DEMO_INSIDE";

const TASK: &str = "---\nallow_delegation: true\npreferred_ai: remote\n---\n\
                    Write a word of greeting into a new file, greeting.txt.\n";

/// Stands for Claude Code on the worker: the prompt is its standard input.
const AGENT: &str = "read -r prompt\necho \"worked on $prompt\"\necho hello >greeting.txt\n";

/// Plays the scene if Ray is installed; else says how to.
pub fn play(build_ccl: impl FnOnce() -> Result<PathBuf>) -> Result<()> {
    let Some(bin) = find_ray() else {
        println!(
            "This scene needs Ray: python3 -m venv target/ray && target/ray/bin/pip install 'ray[default]==2.60.0'"
        );
        return Ok(());
    };
    if env::var_os(INSIDE).is_none() {
        return go_inside();
    }
    let scene = Scene { directory: TempDir::with_prefix("ccl-demo-")?, bin, ccl: build_ccl()? };
    scene.prepare()?;
    scene.say("A Ray head starts, as on a cluster; here it is this machine:");
    scene.run("ray", &HEAD, &[&format!("--temp-dir={}", scene.path("r").display())])?;
    scene.say("One task is meant for it. Where would it go?");
    let ccl = |arguments: &[&str]| scene.run("ccl", arguments, &[]);
    ccl(&["decide", ".agent-queue/inbox/greet.md"])?;
    ccl(&["scan"])?;
    scene.say("What is to be worked on lies in the exchange, a bare repository of git:");
    let exchange = scene.path("exchange.git").display().to_string();
    scene.run("git", &["ls-remote", &exchange], &[])?;
    scene.say("A timer would now run this every minute. Until the work is back:");
    let deadline = Instant::now() + Duration::from_secs(300);
    while !scene.path("app/.agent-queue/done/greet.md").exists() {
        if Instant::now() > deadline {
            bail!("the demo's task is not finished; have a look at why: `ccl doctor`");
        }
        thread::sleep(Duration::from_secs(1));
        ccl(&["--quiet", "reap"])?;
    }
    scene.say("It is a branch; nothing of the checkout was touched:");
    scene.run("git", &["log", "--graph", "--oneline", "--all"], &[])?;
    ccl(&["land", "greet"])
}

const HEAD: [&str; 9] = [
    "start",
    "--head",
    "--node-ip-address=127.0.0.1",
    "--dashboard-host=127.0.0.1",
    "--num-cpus=2",
    "--resources={\"ccl\": 2}",
    "--object-store-memory=80000000",
    "--disable-usage-stats",
    "--log-style=record",
];

/// The directory of a `ray` that is installed, here or on the PATH.
fn find_ray() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ray/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    [own].into_iter().chain(env::split_paths(&path)).find(|bin| bin.join("ray").is_file())
}

/// Plays it again with a network and processes of its own, all of which end with it.
fn go_inside() -> Result<()> {
    let program = env::current_exe()?;
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--pid", "--mount-proc", "--fork", "--kill-child"]);
    command.args(["sh", "-c", "ip link set lo up; \"$0\" --remote"]).arg(program);
    let status = command.env(INSIDE, "1").status().context("the scene needs unshare")?;
    ensure!(status.success(), "the scene ended with {status}");
    Ok(())
}

struct Scene {
    directory: TempDir,
    bin: PathBuf,
    ccl: PathBuf,
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A project with a commit and a task, an exchange, and the configuration.
    fn prepare(&self) -> Result<()> {
        fs::create_dir_all(self.path("app/.agent-queue/inbox"))?;
        fs::write(self.path("app/.agent-queue/inbox/greet.md"), TASK)?;
        fs::write(self.path("agent.sh"), AGENT)?;
        let config = json!({
            "dispatcher": {"projects_dir": self.directory.path()},
            "remote": {
                "kind": "ray",
                "url": "http://127.0.0.1:8265",
                "exchange": self.path("exchange.git"),
                "agent": ["sh", self.path("agent.sh")],
            },
            "tmux": {"command": ["tmux", "-S", self.path("socket")]},
            "state_dir": self.path("state"),
        });
        fs::write(self.path("config.yaml"), config.to_string())?;
        let exchange = self.path("exchange.git").display().to_string();
        let commit = ["commit", "--quiet", "--allow-empty", "-m", "Begin"];
        for arguments in [
            &["init", "--quiet", "--initial-branch=main"][..],
            &["init", "--quiet", "--bare", &exchange],
            &[&["-c", "user.name=You", "-c", "user.email=you@localhost"], &commit[..]].concat(),
        ] {
            let status =
                self.command("git").args(arguments).status().context("the scene needs git")?;
            ensure!(status.success(), "git {arguments:?} ended with {status}");
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        println!("\n\x1b[1m# {text}\x1b[0m");
    }

    /// Runs a program as a person would, and shows what it says; `more` of its words are not shown.
    fn run(&self, program: &str, arguments: &[&str], more: &[&str]) -> Result<()> {
        println!("$ {program} {}", arguments.join(" "));
        let mut command = self.command(program);
        if program == "ray" {
            // Two pages on what else could be done with it.
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let status = command.args(arguments).args(more).status();
        let status = status.with_context(|| format!("cannot run {program}"))?;
        ensure!(status.success(), "{program} {arguments:?} ended with {status}");
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = match program {
            "ccl" => Command::new(&self.ccl),
            "ray" => Command::new(self.bin.join("ray")),
            other => Command::new(other),
        };
        let path = env::var_os("PATH").unwrap_or_default();
        let path = [self.bin.clone()].into_iter().chain(env::split_paths(&path));
        command.env("PATH", env::join_paths(path).unwrap_or_default());
        command.env("HOME", self.directory.path()).current_dir(self.path("app"));
        if program == "ccl" {
            command.env("CCL_CONFIG", self.path("config.yaml"));
        }
        command
    }
}
