//! Claude Code's own files: which directories it trusts, its registry, its transcripts.
//!
//! None of it is a contract of Claude Code's: files may be missing and keys
//! renamed. What is missing is skipped, and unknown is never taken for idle.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::transcript::{self, RunSummary};
use crate::config::{ClaudeFiles, Questions};
use crate::durable;
use crate::money::Cost;

/// Up to this many bytes of a transcript are read; a longer one is read from
/// its end.
const MAX_TRANSCRIPT: u64 = 64 << 20;

/// The directories that a person has allowed Claude Code to trust.
#[derive(Debug)]
pub(crate) struct Trust {
    entries: Option<HashMap<String, TrustEntry>>,
    /// `CLAUDE_CONFIG_DIR` for the command by which a person allows it, where that has to be set.
    config_dir: Option<PathBuf>,
}

#[derive(Debug, Deserialize, Default)]
struct TrustEntry {
    #[serde(default, rename = "hasTrustDialogAccepted")]
    accepted: bool,
}

impl Trust {
    /// Reads `~/.claude.json`. Where it is missing or says nothing of projects,
    /// nothing is known and nothing is held for it.
    pub(crate) fn read(files: &ClaudeFiles) -> Self {
        #[derive(Deserialize)]
        struct Settings {
            projects: Option<HashMap<String, TrustEntry>>,
        }
        let entries = fs::read(&files.state)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Settings>(&bytes).ok())
            .and_then(|settings| settings.projects);
        Self { entries, config_dir: files.config_dir().map(Path::to_owned) }
    }

    /// Whether the file says that neither `project` nor a directory above it is
    /// trusted. Entries are keyed by real paths.
    pub(crate) fn refuses(&self, project: &Path) -> bool {
        self.refuses_below(project, Path::new("/"))
    }

    /// Whether the file says that neither `project` nor a directory above it, up
    /// to `top`, is trusted; `top` is its git repository. For newer versions,
    /// trust above the repository does not count. Measured: 2.1.332 asks there, 2.1.200 does not.
    pub(crate) fn refuses_in_repository(&self, project: &Path, top: &Path) -> bool {
        let top = top.canonicalize().unwrap_or_else(|_| top.to_owned());
        self.refuses_below(project, &top)
    }

    fn refuses_below(&self, project: &Path, top: &Path) -> bool {
        let Some(entries) = &self.entries else {
            return false;
        };
        let real = project.canonicalize().unwrap_or_else(|_| project.to_owned());
        !real
            .ancestors()
            .take_while(|directory| directory.starts_with(top))
            .filter_map(Path::to_str)
            .any(|directory| entries.get(directory).is_some_and(|entry| entry.accepted))
    }

    pub(crate) fn advice(&self, project: &Path) -> String {
        format!("Claude Code does not trust the project: {}", self.remedy(project))
    }

    pub(crate) fn remedy(&self, project: &Path) -> String {
        let variable = self.config_dir.as_ref().map_or(String::new(), |dir| {
            let quoted = super::quote_path(dir).unwrap_or_else(|_| dir.display().to_string());
            format!("CLAUDE_CONFIG_DIR={quoted} ")
        });
        format!("run `{variable}claude` once in {} and accept", project.display())
    }
}

/// What the registry says of a live session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Registered {
    pub pid: i32,
    session_id: String,
    /// `idle`, `busy` …; absent in some versions.
    pub status: Option<String>,
    /// Milliseconds since 1970.
    pub(crate) status_updated_at: Option<i64>,
}

impl Registered {
    /// What the file of the process `pid` says of `session`; `None` if it is
    /// about another one. Files are written in place: one that is met half
    /// written says that something is going on.
    pub fn read(bytes: &[u8], pid: i32, session: &str) -> Option<Self> {
        let entry = serde_json::from_slice(bytes).unwrap_or(Self {
            pid,
            session_id: session.to_owned(),
            status: Some("being written".to_owned()),
            status_updated_at: None,
        });
        (entry.session_id == session).then_some(Self { pid, ..entry })
    }
}

/// Looks the session up in `sessions/*.json`. Files of killed processes stay
/// behind, so the caller decides of which process a file counts.
pub(crate) fn registered(
    claude_dir: &Path,
    session: Uuid,
    is_alive: impl Fn(i32) -> bool,
) -> Option<Registered> {
    let session = session.to_string();
    fs::read_dir(claude_dir.join("sessions"))
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find_map(|path| {
            let pid = path.file_stem()?.to_str()?.parse().ok()?;
            if !is_alive(pid) {
                return None;
            }
            Registered::read(&fs::read(&path).ok()?, pid, &session)
        })
}

/// The record of one conversation, `projects/*/UUID.jsonl`, as it was found: Claude Code goes on writing, and what comes
/// later is for the next look, so that two readings of one are of the same records.
#[derive(Debug)]
pub struct Transcript {
    path: PathBuf,
    length: u64,
    modified: Option<Timestamp>,
}

impl Transcript {
    /// Looks for it in every directory of `projects/`: their names follow rules that differ between
    /// versions. One that cannot be looked for is an error: it is evidence, and must not be taken
    /// for missing.
    pub fn find(claude_dir: &Path, session: Uuid) -> Result<Option<Self>> {
        let projects = claude_dir.join("projects");
        let name = format!("{session}.jsonl");
        let find = || -> io::Result<Option<Self>> {
            for entry in fs::read_dir(&projects)? {
                let path = entry?.path().join(&name);
                match fs::metadata(&path) {
                    Ok(metadata) if metadata.is_file() => {
                        let modified = durable::modified(&metadata);
                        return Ok(Some(Self { path, length: metadata.len(), modified }));
                    }
                    Ok(_) => {}
                    Err(error) if durable::is_no_directory(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(None)
        };
        match find() {
            Err(error) if durable::is_no_directory(&error) => Ok(None),
            found => found.with_context(|| format!("cannot search {}", projects.display())),
        }
    }

    /// In bytes, when it was found.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// What it says of the time since its first `from` bytes.
    pub fn summary(&self, from: u64) -> Result<RunSummary> {
        Ok(transcript::summarise(&self.read(from..self.length)?))
    }

    /// The last tool that was used in the present turn, as far as the end of the transcript shows it.
    pub(crate) fn last_tool(&self) -> Option<String> {
        const END: u64 = 256 << 10;
        let end = self.read(self.length.saturating_sub(END)..self.length).ok()?;
        transcript::last_tool(&end)
    }

    /// What the session has cost since the first `from` bytes, where Claude Code wrote it down: it
    /// does so when it exits, for the conversation as a whole. Its floats are noted to a billionth
    /// of a dollar.
    pub(crate) fn cost(&self, from: u64) -> Result<Option<Cost>> {
        let total = |range| -> Result<Option<f64>> {
            Ok(transcript::summarise(&self.read(range)?).total_cost_usd)
        };
        let Some(after) = total(from..self.length)? else {
            return Ok(None);
        };
        let before = if from == 0 { None } else { total(0..from)? };
        Ok(Cost::of(&format!("{:.9}", after - before.unwrap_or(0.0)), "USD"))
    }

    /// The bytes in `range`, of a very long range the last. A transcript that has become shorter
    /// than the range's start was written anew, and says nothing of what came after.
    fn read(&self, range: Range<u64>) -> Result<String> {
        let read = || -> io::Result<String> {
            let mut file = File::open(&self.path)?;
            let length = file.metadata()?.len();
            let end = range.end.min(length);
            let start = range.start.max(end.saturating_sub(MAX_TRANSCRIPT));
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.take(end.saturating_sub(start)).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().with_context(|| format!("cannot read {}", self.path.display()))
    }
}

/// How long nothing has changed in a session's transcript and registry entry.
pub(crate) fn quiet_for(
    transcript: Option<&Transcript>,
    registered: Option<&Registered>,
    now: Timestamp,
) -> Duration {
    let written = transcript.and_then(|transcript| transcript.modified);
    let status = registered
        .and_then(|entry| entry.status_updated_at)
        .and_then(|at| Timestamp::from_millisecond(at).ok());
    // After the clock was set back the time lies in the future: that counts as just as long ago.
    written.max(status).map(|last| now.duration_since(last).unsigned_abs()).unwrap_or_default()
}

/// A text that changes whenever Claude Code or a subagent of its goes on. It is compared as a whole, and never parsed.
pub(crate) fn signs(
    transcript: Option<&Transcript>,
    registered: Option<&Registered>,
) -> Result<String> {
    let registered = registered.map(|it| (it.pid, it.status.as_deref(), it.status_updated_at));
    let Some(Transcript { path, length, modified }) = transcript else {
        return Ok(format!("{registered:?}"));
    };
    // Measured on all three versions: `SLUG/UUID/subagents/agent-*.jsonl`.
    let subagents = path.with_extension("").join("subagents");
    let mut files = Vec::new();
    for entry in durable::list_dir(&subagents)? {
        let entry = entry?;
        // A file that has just gone is a change as well.
        let metadata = entry.metadata().ok();
        files.push((entry.file_name(), metadata.map(|it| (it.len(), it.modified().ok()))));
    }
    files.sort();
    Ok(format!("{registered:?} {length} {modified:?} {files:?}"))
}

/// Whether the last `Stop` hook named work that goes on in the background.
pub(crate) fn has_background(stop: &Path) -> bool {
    let bytes = fs::read(stop).unwrap_or_default();
    let payload: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut tasks = payload["background_tasks"].as_array().into_iter().flatten();
    // One without a status may be running.
    tasks.any(|task| task["status"].as_str().is_none_or(|status| status == "running"))
}

/// The events whose hooks call `ccl`: a turn that ended, one that the API refused, and the exit.
const HOOK_EVENTS: [&str; 3] = ["Stop", "StopFailure", "SessionEnd"];

/// The settings of a run, which add to the user's own: Claude Code runs `hook` with an event's name, waits for nobody unless
/// `questions` says so, and has its key printed from a file. `None` where there is nothing to set. Versions that do not
/// know a key ignore it.
pub(crate) fn settings(
    hook: Option<&Path>,
    questions: Questions,
    api_key_file: Option<&Path>,
) -> Result<Option<String>> {
    let mut settings = Map::new();
    if let Some(hook) = hook {
        let mut hooks = Map::new();
        for event in HOOK_EVENTS {
            let command = format!("sh {} {event}", super::quote_path(hook)?);
            let entry = json!([{ "hooks": [{ "type": "command", "command": command }] }]);
            hooks.insert(event.to_owned(), entry);
        }
        settings.insert("hooks".to_owned(), hooks.into());
    }
    if questions == Questions::Refuse {
        settings.insert("permissions".to_owned(), json!({ "denyInsteadOfPrompting": true }));
        // At a limit it would go on by itself, beside the next agent.
        settings.insert("autoContinueAtUsageLimit".to_owned(), json!(false));
    }
    if let Some(file) = api_key_file {
        // The key itself is in no argument and no variable.
        settings
            .insert("apiKeyHelper".to_owned(), json!(format!("cat {}", super::quote_path(file)?)));
    }
    Ok((!settings.is_empty()).then(|| Value::from(settings).to_string()))
}

/// The conversation that another program asks to resume in this session:
/// `~/.claude-context/NAME-resume-id.txt`, if it holds a UUID.
pub(crate) fn resume_request(home: &Path, session_name: &str) -> Option<(PathBuf, Uuid)> {
    let path = home.join(".claude-context").join(format!("{session_name}-resume-id.txt"));
    let id = Uuid::try_parse(fs::read_to_string(&path).ok()?.trim()).ok()?;
    Some((path, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_inherited_from_above_and_unknown_is_not_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let project = root.join("a/b");
        fs::create_dir_all(&project).unwrap();
        let file = root.join(".claude.json");
        let files = ClaudeFiles { directory: root.join(".claude"), state: file.clone() };
        let refuses = |json: String| {
            fs::write(&file, json).unwrap();
            Trust::read(&files).refuses(&project)
        };
        let entry = |path: &Path, accepted: bool| {
            format!(
                r#"{{"projects":{{"{}":{{"hasTrustDialogAccepted":{accepted}}}}}}}"#,
                path.display()
            )
        };
        assert!(!refuses(entry(&project, true)));
        assert!(!refuses(entry(&root, true)));
        assert!(refuses(entry(&project, false)));
        assert!(refuses(entry(&project.join("c"), true)));
        assert!(refuses(r#"{"projects":{}}"#.to_owned()));
        assert!(!refuses("{}".to_owned()));
        assert!(!refuses("nonsense".to_owned()));
        // In a repository of its own.
        fs::write(&file, entry(&root, true)).unwrap();
        let trust = Trust::read(&files);
        assert!(trust.refuses_in_repository(&project, &project));
        assert!(!trust.refuses_in_repository(&project, &root));
        assert!(trust.advice(&project).contains(": run `claude` once in /"));
        let own =
            ClaudeFiles { directory: root.join("it's"), state: root.join("it's/.claude.json") };
        let trust = Trust::read(&own);
        assert!(!trust.refuses(&project));
        let command =
            format!("run `CLAUDE_CONFIG_DIR=\"{}\" claude` once in", root.join("it's").display());
        assert!(trust.advice(&project).contains(&command), "{}", trust.advice(&project));
    }

    #[test]
    fn the_settings_of_a_run_hold_what_is_to_be_set_and_no_more() {
        let settings = |hook: Option<&str>, questions| {
            let text = settings(hook.map(Path::new), questions, None).unwrap();
            text.map(|text| serde_json::from_str::<Value>(&text).unwrap())
        };
        let refuse = json!({
            "permissions": {"denyInsteadOfPrompting": true}, "autoContinueAtUsageLimit": false,
        });
        assert_eq!(settings(None, Questions::Wait), None);
        assert_eq!(settings(None, Questions::Refuse), Some(refuse.clone()));
        let mut both = settings(Some("/it's/a.hook"), Questions::Refuse).unwrap();
        let hooks = both.as_object_mut().unwrap().remove("hooks").unwrap();
        assert_eq!(both, refuse);
        assert_eq!(hooks.as_object().unwrap().len(), 3);
        let command = "sh \"/it's/a.hook\" StopFailure";
        assert_eq!(hooks["StopFailure"][0]["hooks"][0]["command"], command);
        assert_eq!(settings(Some("/it's/a.hook"), Questions::Wait), Some(json!({"hooks": hooks})));
    }

    #[test]
    fn every_reading_of_a_transcript_is_of_what_was_found() {
        let dir = tempfile::tempdir().unwrap();
        let id = Uuid::new_v4();
        let slug = dir.path().join("projects/slug");
        fs::create_dir_all(&slug).unwrap();
        let answer = |text: &str| {
            let content = json!([{"type": "text", "text": text}]);
            let message = json!({"content": content, "stop_reason": "end_turn"});
            json!({"type": "assistant", "message": message}).to_string() + "\n"
        };
        let prompt = json!({"type": "user", "message": {"content": "Go on"}}).to_string() + "\n";
        let before = answer("first");
        let path = slug.join(format!("{id}.jsonl"));
        fs::write(&path, format!("{before}{prompt}")).unwrap();
        let found = Transcript::find(dir.path(), id).unwrap().unwrap();
        let from = u64::try_from(before.len()).unwrap();
        let whole = found.summary(0).unwrap();
        // Claude Code writes on between two readings of one look.
        fs::write(&path, format!("{before}{prompt}{}", answer("second"))).unwrap();
        assert_eq!(found.summary(0).unwrap(), whole);
        assert_eq!(found.summary(from).unwrap().turn, transcript::Turn::Open);
        let later = Transcript::find(dir.path(), id).unwrap().unwrap();
        assert_eq!(later.summary(from).unwrap().turn, transcript::Turn::Ended);
        assert_eq!(later.summary(0).unwrap().answer.as_deref(), Some("second"));
    }

    #[test]
    fn what_a_subagent_writes_is_a_sign_of_life() {
        let dir = tempfile::tempdir().unwrap();
        let id = Uuid::new_v4();
        let slug = dir.path().join("projects/slug");
        fs::create_dir_all(&slug).unwrap();
        let write = |path: &str, text: &str| fs::write(slug.join(path), text).unwrap();
        let seen = || {
            let transcript = Transcript::find(dir.path(), id).unwrap();
            signs(transcript.as_ref(), None).unwrap()
        };
        let mut all = vec![seen()];
        write(&format!("{id}.jsonl"), "{}\n");
        all.push(seen());
        assert_eq!(seen(), all[1]);
        fs::create_dir_all(slug.join(format!("{id}/subagents"))).unwrap();
        write(&format!("{id}/subagents/agent-a.jsonl"), "{}\n");
        all.push(seen());
        assert_eq!(seen(), all[2]);
        write(&format!("{id}/subagents/agent-a.jsonl"), "{}\n{}\n");
        all.push(seen());
        let registered = Registered { pid: 7, ..Registered::default() };
        all.push(signs(None, Some(&registered)).unwrap());
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len(), "{all:#?}");
    }

    #[test]
    fn a_registry_file_of_a_dead_process_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let session = Uuid::new_v4();
        fs::create_dir(dir.path().join("sessions")).unwrap();
        let write = |pid: i32, status: &str| {
            fs::write(
                dir.path().join(format!("sessions/{pid}.json")),
                format!(r#"{{"pid":{pid},"sessionId":"{session}","status":"{status}","statusUpdatedAt":5}}"#),
            )
            .unwrap();
        };
        write(1, "busy");
        write(2, "idle");
        fs::write(dir.path().join("sessions/3.json"), "half {").unwrap();
        let half = registered(dir.path(), session, |pid| pid == 3).unwrap();
        assert_ne!(half.status.as_deref(), Some("idle"));
        let found = registered(dir.path(), session, |pid| pid == 2).unwrap();
        assert_eq!(found.status.as_deref(), Some("idle"));
        assert!(registered(dir.path(), session, |_| false).is_none());
        assert!(registered(dir.path(), Uuid::new_v4(), |pid| pid != 3).is_none());
    }
}
