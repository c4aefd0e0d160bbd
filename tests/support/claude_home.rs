//! The files of Claude Code in a throw-away HOME, the real one's and the stand-in's alike.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::wait::{PATIENCE, wait_for};

/// A made-up key; Claude Code remembers approved keys by their last 20 characters.
pub const API_KEY: &str = "sk-ant-api03-made-up-for-the-tests-of-ccl-0000000000";

/// What a HOME for Claude Code says about consent. The default agrees to everything.
#[derive(Clone, Copy, Debug)]
pub struct Consent {
    /// The bypass warning was accepted.
    pub bypass: bool,
    /// The API key was approved.
    pub key_approved: bool,
    /// There is an API key in the environment.
    pub key: bool,
    /// Theme and first steps are done.
    pub onboarding: bool,
}

impl Default for Consent {
    fn default() -> Self {
        Self { bypass: true, key_approved: true, key: true, onboarding: true }
    }
}

/// Writes `.claude.json` and `.claude/settings.json` into `home`; `trusted` are the directories whose
/// trust dialog was accepted.
pub fn prepare_home(home: &Path, trusted: &[&Path], consent: Consent) {
    let mut config = json!({"projects": {}});
    if consent.onboarding {
        config["hasCompletedOnboarding"] = json!(true);
        config["theme"] = json!("dark");
    }
    if consent.key_approved {
        let tail = &API_KEY[API_KEY.len() - 20..];
        config["customApiKeyResponses"] = json!({"approved": [tail], "rejected": []});
    }
    for dir in trusted {
        let real = fs::canonicalize(dir).expect("a trusted directory exists");
        let key = real.to_str().expect("its path is UTF-8");
        config["projects"][key] = json!({"hasTrustDialogAccepted": true});
    }
    let mut settings = json!({});
    if consent.bypass {
        settings["skipDangerousModePermissionPrompt"] = json!(true);
        // Where versions before that setting kept it.
        config["bypassPermissionsModeAccepted"] = json!(true);
    }
    write_json(&home.join(".claude.json"), &config);
    write_json(&home.join(".claude/settings.json"), &settings);
}

fn write_json(path: &Path, value: &Value) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
    fs::write(path, format!("{value:#}\n")).expect("a JSON file");
}

/// The records of the conversation `id`, wherever below `projects/` its transcript lies; empty
/// without one.
pub fn transcript(home: &Path, id: &str) -> Vec<Value> {
    let projects = home.join(".claude/projects");
    let slugs = fs::read_dir(projects).into_iter().flatten().flatten();
    let file = slugs.map(|slug| slug.path().join(format!("{id}.jsonl"))).find(|file| file.exists());
    file.map_or_else(Vec::new, |file| json_lines(&file))
}

/// The entries of the registry of sessions, `.claude/sessions/PID.json`.
pub fn registry(home: &Path) -> Vec<Value> {
    let entries = fs::read_dir(home.join(".claude/sessions"));
    let paths = entries.into_iter().flatten().flatten().map(|e| e.path());
    // It is written in place: one that is just being written does not parse.
    paths
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .filter_map(|path| serde_json::from_str(&fs::read_to_string(path).ok()?).ok())
        .collect()
}

/// Makes Claude Code's files as old as they are after two minutes of rest.
pub fn let_rest(home: &Path) {
    let files = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let then = SystemTime::now() - Duration::from_secs(120);
    let claude = home.join(".claude");
    for slug in files(&claude.join("projects")) {
        for transcript in files(&slug) {
            let transcript = fs::File::open(transcript).expect("a transcript");
            transcript.set_modified(then).expect("its time");
        }
    }
    for file in files(&claude.join("sessions")) {
        // It is written in place, so one look may hit it half written; and it goes with its agent.
        let read = || match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok().map(Some),
            Err(_) => Some(None),
        };
        let entry: Option<Value> = wait_for("the registry can be read", PATIENCE, read);
        if let Some(mut entry) = entry {
            let millis = entry["statusUpdatedAt"].as_i64().unwrap_or_default();
            entry["statusUpdatedAt"] = json!(millis - 120_000);
            fs::write(&file, entry.to_string()).expect("the registry file");
        }
    }
}

/// The JSON objects of a file, one a line; an unfinished last line is left out.
pub fn json_lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line| serde_json::from_str(line).expect("a line of JSON");
    complete.lines().map(parse).collect()
}
