//! What the stand-in agent is to do. Tests write it (see `fake.rs`), the agent reads it: a
//! JSON list of behaviours, of which the first that fits a launch counts.

use serde::{Deserialize, Serialize};

/// One launch of the agent. The default is a Claude Code 2.1.332 that answers every prompt `OK`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Only for launches one of whose arguments contains this, or in whose directory's path it is.
    pub when: String,
    /// Only for this many launches that it fits; 0: for all.
    pub times: usize,
    /// Like 2.1.100: no status in the registry, no cost, `Stop` without `background_tasks`, and
    /// `unknown` for what the API refuses with a 429 or a 500.
    pub old: bool,
    /// What the registry of sessions shows.
    pub registry: Registry,
    /// Rest before anything is drawn, in milliseconds.
    pub start_delay_ms: u64,
    /// Dialogs before the composer, in this order.
    pub screens: Vec<Screen>,
    /// Prints this and exits with this status, before anything else.
    pub exit_at_once: Option<(String, u8)>,
    /// SIGTERM is only noted.
    pub ignore_sigterm: bool,
    /// Rest between SIGTERM and the exit, in milliseconds.
    pub sigterm_delay_ms: u64,
    /// The turns, one for each prompt; further prompts get the default.
    pub turns: Vec<Turn>,
}

/// One turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turn {
    /// How long it is busy, in milliseconds.
    pub ms: u64,
    /// A shell command run in the agent's directory at the end of that: moves, edits, deletes the
    /// task file, waits for the test.
    pub run: String,
    /// How it ends.
    pub end: Ending,
    /// The answer, or the text of the API error. For an error, `OK` stands for the real text.
    pub says: String,
    /// Commands that go on in the background after it.
    pub background: Vec<String>,
    /// The answer is written to the transcript, and the registry says `idle`, only this
    /// many milliseconds after the hooks were run.
    pub late_ms: u64,
    /// The prompt stands in the transcript only this many milliseconds after it was taken.
    pub prompt_late_ms: u64,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            ms: 0,
            run: String::new(),
            end: Ending::Done,
            says: "OK".to_owned(),
            background: Vec::new(),
            late_ms: 0,
            prompt_late_ms: 0,
        }
    }
}

/// How a turn ends.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The model has answered.
    #[default]
    Done,
    /// The API refused: `rate_limit`, `authentication_failed`, `billing_error`, `server_error`,
    /// `unknown`.
    Error(String),
    /// SIGKILL: terminal and registry stay as they are.
    Crash,
    /// It ends itself, cleanly, with this status.
    Exit(u8),
    /// It stays busy.
    Forever,
    /// A dialog in the middle of the turn; the turn is done once it is answered.
    Ask(Screen),
    /// As if the user had pressed Escape: idle, no record, no hook.
    Interrupted,
}

/// What the registry of sessions shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registry {
    /// As 2.1.332.
    #[default]
    Full,
    /// The session, but not what it is doing.
    WithoutStatus,
}

/// A screen that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Screen {
    /// 2.1.332's; `No, exit` is preselected.
    Trust,
    /// 2.1.200's; Yes is preselected.
    TrustYesFirst,
    /// The bypass warning; `No, exit` is preselected.
    Bypass,
    /// The API key was not approved; No is preselected, either goes on.
    ApiKey,
    /// Nobody is logged in; no answer helps.
    Login,
    /// The first start's colours.
    Theme,
    /// The menu when a limit is reached.
    Limit,
    /// The list of earlier conversations.
    ResumePicker,
    /// A question of the model.
    Question,
    /// A tool's use must be allowed.
    Permission,
}
