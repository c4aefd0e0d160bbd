//! What the demo stands on: directories, a tmux server, a stand-in for
//! secutools, and the built `ccl`. All of it goes when the demo ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::clear::{self, clear};
use super::nested_cargo;
use super::secutools_server::SecutoolsServer;

/// Shows what it was given, and takes a moment over it; in the second scene it does it, too: one word the wrong way, until
/// the check's words are in its prompt.
const AGENT: &str = r#"printf '%s\n\n' "$2" | tee -a "$1/received.txt"; sleep 1
commit() { git add . && git -c user.name=Agent -c user.email=agent@localhost commit --quiet -m "$1" || exit; }
case "$2" in
*'ended with 1'*) echo Hello > greeting.txt; commit 'Mend greeting.txt' ;;
*greeting.txt*) echo hello > greeting.txt; commit 'Add greeting.txt' ;;
*farewell.txt*) echo Goodbye > farewell.txt; commit 'Add farewell.txt' ;;
esac
echo 'I have done it.'
"#;

/// What holds in the repository of the second scene.
const RULES: &str = "isolation: worktree   # each task has one, on the branch ccl/TASK\n\
                     land: rebase          # what is done is brought into the branch it started from\n\
                     check: \"! grep -l '^[a-z]' *.txt\"   # but only where this judges it to be good\n";

/// Who works on the demo's tasks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AgentChoice {
    /// A line of shell.
    Shell,
    /// The Claude Code that is on the PATH.
    Claude,
}

impl AgentChoice {
    /// `--agent claude`, or nothing.
    pub fn from_arguments() -> Result<Self> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => Ok(Self::Shell),
            ["--agent", "claude"] => Ok(Self::Claude),
            _ => bail!("usage: demo [--agent claude | --remote]"),
        }
    }
}

pub struct Stage {
    directory: PathBuf,
    /// The project of the scene.
    project: PathBuf,
    agent: AgentChoice,
    ccl: PathBuf,
    secutools: SecutoolsServer,
}

impl Stage {
    /// Builds `ccl` and makes a project, a configuration and the servers.
    pub fn set(agent: AgentChoice) -> Result<Self> {
        let directory = match agent {
            AgentChoice::Shell => TempDir::with_prefix("ccl-demo-")?,
            // Claude Code's trust is inherited from above.
            AgentChoice::Claude => TempDir::with_prefix_in("ccl-demo-", std::env::current_dir()?)?,
        };
        let secutools = SecutoolsServer::start();
        secutools.auto_finish(
            2,
            "Version 2 is faster.\nIt needs less memory.\nNothing was removed.",
            json!({"amount": "0.0042", "currency": "USD"}),
        );
        let ccl = build_ccl()?;
        // From here on `clear` removes it, once nothing writes into it any more.
        let directory = directory.keep();
        let project = directory.join("shop");
        let stage = Self { ccl, directory, project, agent, secutools };
        fs::create_dir_all(stage.project.join(".agent-queue/inbox"))?;
        // Its tasks do not get into each other's way: any number may be at work at once.
        fs::write(stage.project.join(".agent-queue/project.yaml"), "parallel: 0\n")?;
        fs::create_dir_all(stage.path("home"))?;
        fs::write(stage.path("agent.sh"), AGENT)?;
        fs::write(stage.path("config.yaml"), stage.configuration())?;
        ensure!(stage.tmux(&["-V"]).is_ok(), "the demo needs tmux: sudo apt-get install -y tmux");
        Ok(stage)
    }

    pub fn agent(&self) -> AgentChoice {
        self.agent
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Goes on in a project that is a git repository with one commit.
    pub fn go_to_a_repository(&mut self) -> Result<()> {
        self.project = self.path("app");
        let queue = self.project.join(".agent-queue");
        fs::create_dir_all(queue.join("inbox"))?;
        fs::write(queue.join("project.yaml"), RULES)?;
        let you = ["-c", "user.name=You", "-c", "user.email=you@localhost"];
        let first = ["-c", "commit.gpgSign=false", "commit", "--quiet", "--allow-empty"];
        let first = [&you[..], &first, &["-m", "Begin"]].concat();
        for arguments in [&["init", "--quiet", "--initial-branch=main"], &first[..]] {
            let status = self.surroundings(Command::new("git").args(arguments)).status();
            let status = status.context("the demo needs git: sudo apt-get install -y git")?;
            ensure!(status.success(), "git {arguments:?} ended with {status}");
        }
        Ok(())
    }

    /// Shows what git says in the project.
    pub fn git(&self, arguments: &[&str]) -> Result<()> {
        println!("$ git {}", arguments.join(" "));
        let mut git = Command::new("git");
        git.args(["--no-pager", "-c", "color.ui=false"]).args(arguments);
        let status = self.surroundings(&mut git).status().context("cannot run git")?;
        ensure!(status.success(), "git {arguments:?} ended with {status}");
        Ok(())
    }

    fn configuration(&self) -> String {
        let root = self.directory.display();
        let agent = match self.agent {
            AgentChoice::Shell => {
                let command = ["sh".into(), self.path("agent.sh"), self.directory.clone()];
                // What the end of a check would do is done by the demo's passes, which show it.
                json!({"kind": "command", "command": command, "hooks": false})
            }
            AgentChoice::Claude => json!({"kind": "claude"}),
        };
        json!({
            "pool": {"autonomous": {"prefix": "demo-", "max": 2}},
            "dispatcher": {"projects_dir": root.to_string()},
            "agent": agent,
            "secutools": {"url": self.secutools.url()},
            "tmux": {"command": self.tmux_command()},
            "state_dir": self.path("state"),
        })
        .to_string()
    }

    fn tmux_command(&self) -> Vec<String> {
        let socket = self.path("tmux.socket").display().to_string();
        ["tmux", "-f", "/dev/null", "-S", &socket].map(String::from).to_vec()
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let command = self.tmux_command();
        let output = self
            .surroundings(Command::new(&command[0]).args(&command[1..]).args(arguments))
            .output()
            .context("cannot run tmux")?;
        ensure!(output.status.success(), "tmux {arguments:?} failed");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Nothing of the user's own but what the agent needs.
    fn surroundings<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .current_dir(&self.project)
            .env_remove("TMUX")
            .env_remove("TMUX_PANE")
            .env(clear::MARK, &self.directory)
            .env("SECUTOOLS_API_KEY", "a-key-for-the-demo");
        if self.agent == AgentChoice::Shell {
            command.env("HOME", self.path("home")).env("SHELL", "/bin/sh").env("PS1", "$ ");
        }
        command
    }

    /// Puts a task into the inbox the safe way: written aside, then renamed.
    pub fn drop_task(&self, name: &str, text: &str) -> Result<()> {
        let aside = self.path(name);
        fs::write(&aside, text)?;
        fs::rename(aside, self.project.join(".agent-queue/inbox").join(name))?;
        Ok(())
    }

    pub fn say(&self, text: &str) {
        println!("\n\x1b[1m# {text}\x1b[0m");
    }

    /// Runs `ccl` as a person would, and shows what it says.
    pub fn ccl(&self, arguments: &[&str]) -> Result<()> {
        println!("$ ccl {}", arguments.join(" "));
        let mut command = Command::new(&self.ccl);
        command.arg("--config").arg(self.path("config.yaml")).args(arguments);
        let status = self.surroundings(&mut command).status().context("cannot run ccl")?;
        ensure!(status.success(), "ccl {arguments:?} ended with {status}");
        Ok(())
    }

    pub fn wait_a_moment(&self, moment: Duration) {
        thread::sleep(moment);
    }

    pub fn patience(&self) -> Duration {
        Duration::from_secs(match self.agent {
            AgentChoice::Shell => 60,
            AgentChoice::Claude => 900,
        })
    }

    /// How many tasks are not filed yet.
    pub fn unfinished(&self) -> Result<usize> {
        let names = names(&self.project.join(".agent-queue/inbox"))?;
        Ok(names
            .iter()
            .filter(|name| name.ends_with(".md") || name.ends_with(".dispatched"))
            .count())
    }

    /// Why a session has a cooldown, or an agent is held, if one is: then the tasks would not be finished soon.
    pub fn trouble(&self) -> Result<Option<String>> {
        for directory in ["state/sessions", "state/agents"].map(|name| self.path(name)) {
            // No agent was ever held.
            for name in names(&directory).unwrap_or_default() {
                if !name.ends_with(".cooldown") && !name.ends_with(".hold") {
                    continue;
                }
                let marker = fs::read(directory.join(&name))?;
                let marker: serde_json::Value = serde_json::from_slice(&marker)?;
                return Ok(Some(format!("{name}: {}", marker["reason"])));
            }
        }
        Ok(None)
    }

    pub fn show_session(&self, name: &str) -> Result<()> {
        // An agent that has just started may not have written anything yet.
        let deadline = Instant::now() + Duration::from_secs(5);
        let screen = loop {
            let screen = self.tmux(&["capture-pane", "-p", "-t", &format!("={name}:")])?;
            if !screen.trim().is_empty() || Instant::now() > deadline {
                break screen;
            }
            self.wait_a_moment(Duration::from_millis(50));
        };
        for line in screen.lines().filter(|line| !line.trim().is_empty()) {
            println!("  | {line}");
        }
        Ok(())
    }

    pub fn show_queue(&self) -> Result<()> {
        for folder in ["inbox", "done", "failed"] {
            let directory = self.project.join(".agent-queue").join(folder);
            let names = if directory.exists() { names(&directory)? } else { Vec::new() };
            let names = if names.is_empty() { "(empty)".to_owned() } else { names.join("  ") };
            println!("{:<8} {names}", format!("{folder}/"));
        }
        Ok(())
    }

    pub fn show(&self, file: &str) -> Result<()> {
        let path = self.project.join(".agent-queue").join(file);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for line in text.lines() {
            println!("  | {line}");
        }
        Ok(())
    }

    /// What the shell agent was given, word for word.
    pub fn show_received(&self) -> Result<()> {
        if self.agent == AgentChoice::Shell {
            self.say("What the agents were given, word for word:");
            for line in fs::read_to_string(self.path("received.txt"))?.lines() {
                println!("  | {line}");
            }
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A server that has ended already is no trouble.
        let _ = self.tmux(&["kill-server"]);
        if let Err(error) = clear(&self.directory) {
            eprintln!("{error:#}");
        }
    }
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Cargo builds an example without the program: build it, the same way.
pub fn build_ccl() -> Result<PathBuf> {
    eprintln!("Building ccl …");
    let profile = nested_cargo::build(&["--bin", "ccl"]).map_err(Error::msg)?;
    Ok(profile.join("ccl"))
}
