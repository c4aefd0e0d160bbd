//! The files that Claude Code keeps: the registry of sessions and the transcript, shaped as
//! 2.1.332 and 2.1.100 write them. And the log of this stand-in.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::script::{Behaviour, Registry};

/// What the registry says of an agent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Nothing yet.
    Starting,
    /// `idle`
    Idle,
    /// `busy`
    Busy,
    /// `shell`: idle, but a background command runs.
    Shell,
    /// `waiting`, and `waitingFor`
    Waiting(&'static str),
}

/// One conversation and where it is written.
pub struct Session {
    /// The conversation's UUID.
    pub id: String,
    /// The directory in which the agent was started, links resolved.
    pub cwd: String,
    /// `2.1.332` or `2.1.100`.
    pub version: &'static str,
    old: bool,
    has_status: bool,
    config: PathBuf,
    parent: Option<String>,
    cost: f64,
}

impl Session {
    /// The conversation `id` in the current directory.
    pub fn new(id: String, behaviour: &Behaviour) -> Self {
        let home = PathBuf::from(std::env::var_os("HOME").expect("HOME is set"));
        let moved = std::env::var_os("CLAUDE_CONFIG_DIR").map(PathBuf::from);
        let cwd = std::env::current_dir().expect("a working directory");
        Self {
            id,
            cwd: cwd.to_str().expect("its path is UTF-8").to_owned(),
            version: if behaviour.old { "2.1.100" } else { "2.1.332" },
            old: behaviour.old,
            has_status: !behaviour.old && behaviour.registry == Registry::Full,
            config: moved.unwrap_or_else(|| home.join(".claude")),
            parent: None,
            cost: 0.0,
        }
    }

    /// `projects/SLUG/UUID.jsonl`.
    pub fn transcript(&self) -> PathBuf {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let slug: String = self.cwd.chars().map(letter).collect();
        let name = format!("{}.jsonl", self.id);
        self.config.join("projects").join(slug).join(name)
    }

    fn registry_file(&self) -> PathBuf {
        let name = format!("{}.json", std::process::id());
        self.config.join("sessions").join(name)
    }

    /// Notes in the registry what the agent does. In place, as the real one does it, not by
    /// renaming.
    pub fn status(&self, doing: Doing) {
        let now = Timestamp::now().as_millisecond();
        let mut entry = json!({
            "pid": std::process::id(), "sessionId": self.id, "cwd": self.cwd, "startedAt": now,
            "kind": "interactive", "entrypoint": "cli",
        });
        if !self.old {
            entry["version"] = json!(self.version);
        }
        if self.has_status && doing != Doing::Starting {
            entry["status"] = json!(match doing {
                Doing::Starting | Doing::Idle => "idle",
                Doing::Busy => "busy",
                Doing::Shell => "shell",
                Doing::Waiting(_) => "waiting",
            });
            entry["updatedAt"] = json!(now);
            entry["statusUpdatedAt"] = json!(now);
        }
        if let (true, Doing::Waiting(what)) = (self.has_status, doing) {
            entry["waitingFor"] = json!(what);
        }
        let file = self.registry_file();
        fs::create_dir_all(file.parent().expect("a parent")).expect("sessions/");
        fs::write(file, entry.to_string()).expect("the registry file");
    }

    /// The session is over: its registry file goes, and its cost is noted in the transcript.
    pub fn close(&mut self) {
        let _ = fs::remove_file(self.registry_file());
        if !self.old && self.transcript().exists() {
            let cost = json!({"type": "cost-state", "sessionId": self.id,
                              "totalCostUSD": self.cost, "totalAPIDuration": 40});
            self.append(&cost);
        }
    }

    /// The prompt, written after `delay`.
    pub fn user(&mut self, prompt: &str, delay: Duration) {
        let mut record = self.record("user");
        record["message"] = json!({"role": "user", "content": prompt});
        record["promptSource"] = json!("typed");
        if delay.is_zero() {
            return self.append(&record);
        }
        let transcript = self.transcript();
        thread::spawn(move || {
            thread::sleep(delay);
            append_line(&transcript, &record);
        });
    }

    /// The model's answer, which ends the turn.
    pub fn assistant(&mut self, text: &str) {
        self.cost += 0.0003;
        let mut record = self.record("assistant");
        let model = if self.old { "claude-sonnet-4-6" } else { "claude-sonnet-5-5" };
        record["message"] = message(model, text, "end_turn");
        record["message"]["usage"] = json!({"input_tokens": 100, "output_tokens": 10,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0});
        record["requestId"] = json!("req_standin");
        self.append(&record);
    }

    /// The API's refusal; returns the text.
    pub fn api_error(&mut self, kind: &str, says: &str) -> String {
        let (text, status) = match kind {
            "rate_limit" | "unknown" => (
                "API Error: Request rejected (429) · This request would exceed your account's rate \
                 limit. Please try again later.",
                429,
            ),
            "authentication_failed" => ("Invalid API key · Fix external API key", 401),
            "billing_error" => ("Credit balance is too low", 400),
            _ => ("API Error: 500 Internal server error.", 500),
        };
        let text = if says == "OK" { text } else { says };
        let mut record = self.record("assistant");
        record["message"] = message("<synthetic>", text, "stop_sequence");
        record["message"]["stop_sequence"] = json!("");
        record["isApiErrorMessage"] = json!(true);
        record["error"] = json!(self.error_word(kind));
        if !self.old {
            record["apiErrorStatus"] = json!(status);
        }
        self.append(&record);
        text.to_owned()
    }

    /// The word for an error: 2.1.100 has none for what the API itself refuses.
    pub fn error_word<'k>(&self, kind: &'k str) -> &'k str {
        match kind {
            "rate_limit" | "server_error" if self.old => "unknown",
            kind => kind,
        }
    }

    fn record(&mut self, kind: &str) -> Value {
        let uuid = Uuid::new_v4().to_string();
        let parent = self.parent.replace(uuid.clone());
        json!({
            "parentUuid": parent, "isSidechain": false, "type": kind, "uuid": uuid,
            "timestamp": format!("{:.3}", Timestamp::now()), "userType": "external",
            "entrypoint": "cli", "cwd": self.cwd, "sessionId": self.id, "version": self.version,
            "gitBranch": "HEAD",
        })
    }

    fn append(&self, record: &Value) {
        append_line(&self.transcript(), record);
    }
}

fn message(model: &str, text: &str, stop_reason: &str) -> Value {
    json!({
        "id": format!("msg_{}", Uuid::new_v4().simple()), "type": "message", "role": "assistant",
        "model": model, "content": [{"type": "text", "text": text}],
        "stop_reason": stop_reason, "stop_sequence": null,
    })
}

/// Adds a line to a file, in one write.
pub fn append_line(file: &Path, value: &Value) {
    fs::create_dir_all(file.parent().expect("a parent")).expect("the file's directory");
    let mut file =
        OpenOptions::new().create(true).append(true).open(file).expect("the file can be opened");
    file.write_all(format!("{value}\n").as_bytes()).expect("a line is written");
}
