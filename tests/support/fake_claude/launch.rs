//! One launch: its arguments, the behaviour chosen for it, its hooks and its log.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::files::append_line;
use crate::script::Behaviour;

/// How the program was called.
pub struct Launch {
    /// `--session-id`.
    pub session_id: Option<String>,
    /// `--resume` with a UUID.
    pub resume: Option<String>,
    /// The last argument.
    pub prompt: Option<String>,
    /// `--settings`, parsed.
    settings: Value,
    log: PathBuf,
}

impl Launch {
    /// From the command line; an argument that Claude Code does not know ends the program.
    pub fn from_args() -> Self {
        let home = PathBuf::from(std::env::var_os("HOME").expect("HOME is set"));
        let mut launch = Self {
            session_id: None,
            resume: None,
            prompt: None,
            settings: Value::Null,
            log: home.join(".fake-claude.log.jsonl"),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--dangerously-skip-permissions" => {}
                "--model" | "--fallback-model" => drop(args.next()),
                "--session-id" => launch.session_id = args.next(),
                "--resume" => launch.resume = args.next(),
                "--settings" => launch.settings = settings(&args.next().unwrap_or_default()),
                "--" => launch.prompt = args.next(),
                option if option.starts_with('-') => refuse(option),
                _ => launch.prompt = Some(arg),
            }
        }
        launch
    }

    /// Appends an event to the log.
    pub fn log(&self, event: &str, mut details: Value) {
        details["event"] = json!(event);
        details["pid"] = json!(std::process::id());
        append_line(&self.log, &details);
    }

    /// Chooses the behaviour and notes the launch, under a lock: launches at the same time count.
    pub fn choose_behaviour(&self) -> Behaviour {
        let lock = File::create(self.log.with_extension("lock")).expect("the lock file");
        fs2::FileExt::lock_exclusive(&lock).expect("the lock");
        let argv: Vec<_> = std::env::args().collect();
        let cwd = std::env::current_dir().unwrap_or_default();
        let cwd = cwd.to_string_lossy();
        let earlier = fs::read_to_string(&self.log).unwrap_or_default();
        let earlier: Vec<Value> = parse_lines(&earlier);
        let fits = |(index, behaviour): &(usize, Behaviour)| {
            let used = earlier.iter().filter(|e| e["behaviour"] == json!(index)).count();
            (behaviour.times == 0 || used < behaviour.times)
                && (cwd.contains(&behaviour.when)
                    || argv.iter().any(|arg| arg.contains(&behaviour.when)))
        };
        let script = read_script(&self.log.with_file_name(".fake-claude.json"));
        let chosen = script.into_iter().enumerate().find(fits);
        let env: serde_json::Map<_, _> = std::env::vars().map(|(k, v)| (k, json!(v))).collect();
        let index = chosen.as_ref().map(|(index, _)| index);
        let start = json!({"argv": argv, "cwd": cwd, "env": env, "behaviour": index});
        self.log("start", start);
        chosen.map(|(_, behaviour)| behaviour).unwrap_or_default()
    }

    /// Starts the hooks of `event`, one after the other: the user's own and those of `--settings`.
    /// They do not belong to the terminal's foreground.
    pub fn run_hooks(&self, event: &str, payload: &Value) -> Hooks {
        let own = self.log.with_file_name(".claude/settings.json");
        let own = fs::read_to_string(own).unwrap_or_default();
        let own: Value = serde_json::from_str(&own).unwrap_or_default();
        let commands = [&own, &self.settings].into_iter().flat_map(|s| commands(s, event));
        let mut payload = payload.clone();
        payload["hook_event_name"] = json!(event);
        self.log("hook", payload.clone());
        Hooks { commands: commands.collect(), payload: payload.to_string() }
    }
}

/// Hooks to be run.
pub struct Hooks {
    commands: Vec<String>,
    payload: String,
}

impl Hooks {
    /// Runs them to their end, with the payload on standard input.
    pub fn run(&self) {
        for command in &self.commands {
            let mut child = shell(command, Stdio::piped());
            let mut input = child.stdin.take().expect("a pipe");
            // A hook need not read it.
            let _ = input.write_all(self.payload.as_bytes());
            drop(input);
            let _ = child.wait();
        }
    }
}

/// Starts `command` in a process group of its own, its output discarded.
pub fn shell(command: &str, input: Stdio) -> Child {
    Command::new("/bin/sh")
        .args(["-c", command])
        .env("CLAUDECODE", "1")
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("a shell")
}

fn commands(settings: &Value, event: &str) -> Vec<String> {
    let groups = settings["hooks"][event].as_array();
    let hooks = groups.into_iter().flatten().filter_map(|g| g["hooks"].as_array());
    let commands = hooks.flatten().filter_map(|hook| hook["command"].as_str());
    commands.map(str::to_owned).collect()
}

fn settings(argument: &str) -> Value {
    let text = match argument.trim_start().starts_with('{') {
        true => argument.to_owned(),
        false => fs::read_to_string(argument).unwrap_or_default(),
    };
    serde_json::from_str(&text).unwrap_or_else(|e| {
        eprintln!("Error: Invalid JSON provided to --settings: {e}");
        std::process::exit(1)
    })
}

fn read_script(beside_log: &Path) -> Vec<Behaviour> {
    let named = std::env::var_os("FAKE_CLAUDE_SCRIPT").map(PathBuf::from);
    let path = named.unwrap_or_else(|| beside_log.to_path_buf());
    match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).expect("the script is a list of behaviours"),
        Err(_) => Vec::new(),
    }
}

fn parse_lines(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn refuse(option: &str) -> ! {
    eprintln!("error: unknown option '{option}'");
    std::process::exit(1)
}
