//! The real Claude Code, installed from npm once, in a throw-away HOME that talks to
//! [`super::MessagesApi`].

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::claude_home::{API_KEY, Consent};
use super::messages_api::MessagesApi;

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
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/claude-code");
        let prefix = root.join(version);
        fs::create_dir_all(&prefix).expect("target/claude-code");
        let lock = fs::File::create(root.join(format!("{version}.lock"))).expect("a lock file");
        fs2::FileExt::lock_exclusive(&lock).expect("the lock on the installation");
        // Written last: an installation that was cut off is made again.
        let complete = prefix.join("complete");
        if !complete.exists() {
            npm_install(&prefix, version);
            fs::write(&complete, version).expect("the mark of a complete installation");
        }
        Self { bin: prefix.join("node_modules/.bin") }
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

fn npm_install(prefix: &Path, version: &str) {
    let out = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--prefix"])
        .arg(prefix)
        .arg(format!("@anthropic-ai/claude-code@{version}"))
        .output()
        .expect("npm can be started");
    assert!(
        out.status.success(),
        "npm cannot install Claude Code {version}: {}\n{}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
}
