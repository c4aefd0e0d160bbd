//! tmux, and the agent as the shell of a session sees it.

use crate::agent::claude::Trust;
use crate::config::{AgentKind, Config};
use crate::environment::Environment;
use crate::queue::Project;
use crate::report::Check;
use crate::tmux::{Tmux, TmuxError};

use super::{LIMIT, ask};
use crate::subprocess::Call;

/// `new-session -N`, which never starts a server, came with this one.
const OLDEST: (u32, u32) = (3, 2);

/// What a session gets where no server runs that could be asked: systemd's own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Is there a tmux, and is it new enough?
pub fn tmux(tmux: &Tmux) -> Check {
    let install = "install tmux 3.2 or later, or set tmux.command";
    match tmux.version() {
        Err(error) => Check::bad("tmux", error.to_string(), install),
        Ok(version) => match number(&version) {
            Some(number) if number < OLDEST => {
                Check::bad("tmux", format!("{version} is too old"), install)
            }
            // A build of tmux's own branch has no number.
            _ => Check::good("tmux", version),
        },
    }
}

/// `tmux 3.3a` → 3.3, `tmux next-3.6` → 3.6.
fn number(version: &str) -> Option<(u32, u32)> {
    let text = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    let (major, rest) = text.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Does a server run? That there is none is no fault by itself: a pass by hand starts one.
pub fn server(tmux: &Tmux) -> Check {
    match tmux.list_panes() {
        Ok(panes) => Check::good("server", format!("a tmux server runs, {} pane(s)", panes.len())),
        Err(TmuxError::NoServer) => Check::skipped(
            "server",
            "no tmux server runs: a pass starts one, under systemd ccl-tmux.service does",
        ),
        Err(error) => Check::bad("server", error.to_string(), "see what `tmux ls` says"),
    }
}

/// Is the agent on the PATH that a session's shell sees? The shell is started as tmux starts it, a login shell that
/// reads its start-up files, but without a terminal.
pub fn agent(config: &Config, tmux: &Tmux, environment: &Environment) -> Check {
    let program = config.agent.command.first().map_or("", String::as_str);
    if program.contains('/') && !program.starts_with('/') {
        return Check::skipped("agent", format!("{program} is looked up in each project"));
    }
    let (shell, path) = session_shell(tmux, environment);
    // sh does the looking up, as in the script that starts the agent; the marks keep what start-up files print apart.
    let question =
        r#"exec sh -c 'printf "\nccl:%s:%s:ccl\n" "$(command -v -- "$CCL_DOCTOR")" "$IS_SANDBOX"'"#;
    let mut call = Call::in_own_session(&shell, LIMIT);
    call.command.args(["-lic", question]).env_clear().current_dir(&config.home);
    call.command.env("HOME", &config.home).env("SHELL", &shell);
    call.command.env("PATH", path).env("TERM", "dumb");
    call.command.env("CCL_DOCTOR", program);
    for name in ["USER", "LOGNAME", "LANG"] {
        call.command.envs(environment.var(name).map(|value| (name, value)));
    }
    let answer = match ask(call) {
        Ok(answer) => answer,
        Err(error) => {
            return Check::bad(
                "agent",
                format!("cannot ask the login shell {shell}: {error:#}"),
                format!("see why `{shell} -lic true` does not end well"),
            );
        }
    };
    let found = answer.lines().find_map(|line| {
        let marked = line.strip_prefix("ccl:")?.strip_suffix(":ccl")?;
        marked.rsplit_once(':')
    });
    match found {
        None => Check::skipped("agent", format!("{shell} cannot be asked for {program}")),
        Some(("", _)) => Check::bad(
            "agent",
            format!("{program} is not on the PATH of the login shell {shell}"),
            "install it, extend PATH in the shell's start-up file, or give its full path in agent.command",
        ),
        Some((_, sandbox)) if refuses_root(config) && sandbox != "1" => Check::bad(
            "agent",
            format!("{program} refuses to skip permissions as root"),
            "run ccl as another user, or set IS_SANDBOX=1 in the shell's start-up file",
        ),
        Some((place, _)) => Check::good("agent", format!("{place}, by {shell}")),
    }
}

/// Claude Code does so unless `IS_SANDBOX=1`.
fn refuses_root(config: &Config) -> bool {
    config.agent.kind == AgentKind::Claude
        && rustix::process::geteuid().is_root()
        && (config.agent.command.iter()).any(|word| word == "--dangerously-skip-permissions")
}

/// The shell and the PATH that a new session starts with.
fn session_shell(tmux: &Tmux, environment: &Environment) -> (String, String) {
    let of_server = tmux.display_global("#{default-shell}\n#{PATH}");
    match of_server.as_deref().unwrap_or_default().split_once('\n') {
        Some((shell, path)) if !shell.is_empty() => (shell.to_owned(), path.to_owned()),
        _ => {
            let shell = environment.var("SHELL").and_then(|shell| shell.to_str());
            (shell.unwrap_or("/bin/sh").to_owned(), PATH.to_owned())
        }
    }
}

/// Does Claude Code trust the projects? One finding where it does, else one for each that it refuses.
pub fn trust(config: &Config, projects: &[Project]) -> Vec<Check> {
    if config.agent.kind != AgentKind::Claude {
        return vec![Check::skipped("trust", "only Claude Code asks for it")];
    }
    let trust = Trust::read(&config.claude_json);
    let refused: Vec<Check> = projects
        .iter()
        .map(Project::path)
        .filter(|path| trust.refuses(path))
        .map(|path| {
            let path = path.display();
            Check::bad(
                "trust",
                format!("Claude Code does not trust {path}"),
                format!("run `claude` once in {path} and accept"),
            )
        })
        .collect();
    if refused.is_empty() {
        let count = projects.len();
        return vec![Check::good("trust", format!("nothing is refused in {count} project(s)"))];
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (text, expected) in [
            ("tmux 3.3a", Some((3, 3))),
            ("tmux 3.10", Some((3, 10))),
            ("tmux next-3.6", Some((3, 6))),
            ("tmux 2.9a", Some((2, 9))),
            ("tmux master", None),
            ("", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
        assert!(number("tmux 3.10") > Some(OLDEST));
    }
}
