//! The real Claude Code, installed from npm once, in a throw-away HOME that talks to
//! [`super::MessagesApi`].

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::claude_home::{API_KEY, Consent};
use super::messages_api::MessagesApi;
use super::npm;

/// The newest version that `ccl` is measured on.
pub const CURRENT: &str = "2.1.332";
/// One in between: it keeps a status in its registry, and writes no cost.
pub const EARLIER: &str = "2.1.200";
/// The oldest one that is supported: no status in its registry, no cost, a 429 is `unknown`.
pub const OLDEST: &str = "2.1.100";

/// An installed version of Claude Code.
pub struct RealClaude {
    bin: PathBuf,
}

impl RealClaude {
    /// Installs `@anthropic-ai/claude-code@VERSION` below `target/claude-code/` unless it is there;
    /// tests that ask at the same time wait for one installation.
    pub fn install(version: &str) -> Self {
        Self { bin: npm::install("@anthropic-ai/claude-code", version, "claude-code") }
    }

    /// The directory that holds `claude`.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The environment of a pane in which `claude` is this version and asks `api`: to be handed to
    /// the tmux server.
    pub fn env(&self, api: &MessagesApi, consent: Consent) -> Vec<(OsString, OsString)> {
        let mut path = self.bin.clone().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").expect("PATH is set"));
        let mut env: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), path),
            ("IS_SANDBOX".into(), "1".into()),
            ("DISABLE_AUTOUPDATER".into(), "1".into()),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC".into(), "1".into()),
            ("ANTHROPIC_BASE_URL".into(), api.url().into()),
        ];
        if consent.key {
            env.push(("ANTHROPIC_API_KEY".into(), API_KEY.into()));
        }
        env
    }
}
