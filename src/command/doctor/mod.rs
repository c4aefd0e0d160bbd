//! `ccl doctor`: what a pass needs, and how to mend what is missing.
//!
//! Nothing here changes anything but a cooldown whose cause is found mended: the disk is tried out with temporary
//! files, the exchange with a ref that is removed again; the login shell is asked for a path, the server for a job that
//! does not exist.

mod agent;
mod disk;
mod git;
mod mounts;
mod remote;
mod server;
mod units;

use std::time::Duration;

use anyhow::{Result, bail};

use self::units::Units;
use super::{Answer, Context};
use crate::config::KEY_VARIABLES;
use crate::environment::Environment;
use crate::report::{DoctorRow, Report};
use crate::session::Session;
use crate::subprocess::Call;
use crate::tmux::{Tmux, TmuxError};

/// The time limit for a program to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// `new-session -N`, which never starts a server, came with this one.
const OLDEST_TMUX: [u32; 2] = [3, 2];

/// A check that fails is no error: it only sets the exit status.
pub(super) fn run(context: Context<'_>, environment: &Environment) -> Answer {
    let config = context.config;
    let tmux = Tmux::new(config.tmux.clone());
    let mut checks = vec![tmux_program(&tmux), tmux_server(&tmux)];
    let mut unproven = Vec::new();
    for agent in config.agents.all() {
        // Where there are several, each row says which one it is about.
        let named = |row: DoctorRow| match config.agents.all() {
            [_only] => row,
            _ => DoctorRow { detail: format!("{}: {}", agent.name, row.detail), ..row },
        };
        let program = agent::program(config, agent, &tmux, environment);
        if program.ok != Some(true) {
            unproven.push(agent.name.as_str());
        }
        checks.push(named(program));
        checks.extend(agent::files(agent).into_iter().map(named));
    }
    checks.extend(end_cooldowns(context, &unproven));
    checks.push(disk::state(&config.state_dir));
    match context.projects() {
        Ok(projects) => {
            checks.extend(disk::queues(&projects));
            checks.extend(mounts::checks(&projects));
            checks.extend(git::checks(config, &projects));
            checks.extend(remote::checks(config, &projects));
            checks.extend(agent::trust(context, &projects));
        }
        Err(error) => checks.push(DoctorRow::bad(
            "queue",
            format!("{error:#}"),
            "name your projects in ~/.config/ccl/config.yaml, or call ccl in one",
        )),
    }
    let units = Units::read();
    let service_has_key = units.as_ref().is_ok_and(Units::load_the_key);
    checks.extend(server::checks(&config.secutools, service_has_key));
    checks.extend(match units {
        Ok(units) => units.checks(context.now, environment),
        Err(error) => {
            vec![DoctorRow::skipped("units", format!("no systemd manager of yours: {error:#}"))]
        }
    });
    let exit = u8::from(checks.iter().any(|check| check.ok == Some(false)));
    Answer { report: Report::Checks { checks }, exit }
}

/// Ends the cooldowns whose cause was an agent's program, where that works now. `unproven` are the agents whose program
/// does not, or may not. One finding for all of them.
fn end_cooldowns(context: Context<'_>, unproven: &[&str]) -> Option<DoctorRow> {
    let state_dir = &context.config.state_dir;
    let sessions = context.config.pool.session_names().map(|name| Session::new(state_dir, &name));
    let is_mended = |session: &Session| {
        // An unreadable one is reported by the pass that meets it.
        let cooldown = session.cooldown(context.now).ok().flatten();
        cooldown.filter(|it| it.of_program).is_some_and(|it| match it.agent.as_deref() {
            Some(agent) => !unproven.contains(&agent),
            None => unproven.is_empty(),
        })
    };
    let mended: Vec<Session> = sessions.filter(is_mended).collect();
    if mended.is_empty() {
        return None;
    }
    let names = mended.iter().map(Session::name).collect::<Vec<_>>().join(", ");
    Some(match mended.iter().try_for_each(Session::end_cooldown) {
        Ok(()) => DoctorRow::good(
            "cooldown",
            format!("the cooldown of {names} is over: its cause is mended"),
        ),
        Err(error) => DoctorRow::bad(
            "cooldown",
            format!("the cooldown of {names} cannot be ended: {error:#}"),
            "see to the permissions of the state directory",
        ),
    })
}

/// Is there a tmux, and is it new enough?
fn tmux_program(tmux: &Tmux) -> DoctorRow {
    let install = "install tmux 3.2 or later, or set tmux.command";
    match tmux.version() {
        Err(error) => DoctorRow::bad("tmux", error.to_string(), install),
        Ok(version) if numbers(&version).is_some_and(|it| it < OLDEST_TMUX) => {
            DoctorRow::bad("tmux", format!("{version} is too old"), install)
        }
        // A build of tmux's own branch has no number.
        Ok(version) => DoctorRow::good("tmux", version),
    }
}

/// The first `N` numbers of a version: `tmux next-3.3a` → [3, 3], `2.1.100-beta.1` → [2, 1, 100].
fn numbers<const N: usize>(version: &str) -> Option<[u32; N]> {
    let is_other = |c: char| !c.is_ascii_digit();
    let parts = version.trim_start_matches(is_other).splitn(N, '.');
    let numbers = parts.map_while(|part| part.split(is_other).next()?.parse().ok());
    numbers.collect::<Vec<u32>>().try_into().ok()
}

/// Where no server runs, nothing is wrong: a pass by hand starts one.
fn tmux_server(tmux: &Tmux) -> DoctorRow {
    match tmux.list_panes() {
        Ok(panes) => {
            DoctorRow::good("server", format!("a tmux server runs, {} pane(s)", panes.len()))
        }
        Err(TmuxError::NoServer) => DoctorRow::skipped(
            "server",
            "no tmux server runs: a pass starts one, under systemd ccl-tmux.service does",
        ),
        Err(error) => DoctorRow::bad("server", error.to_string(), "see what `tmux ls` says"),
    }
}

/// What a program writes to standard output. It is an error only if it writes nothing there and fails.
fn ask(mut call: Call) -> Result<String> {
    for variable in KEY_VARIABLES {
        call.command.env_remove(variable);
    }
    let output = call.run()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() && printed.trim().is_empty() {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(printed)
}

impl DoctorRow {
    fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, ok: Some(true), detail: detail.into(), remedy: None }
    }

    fn bad(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, ok: Some(false), detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// It does not apply, or cannot be known from here.
    fn skipped(check: &'static str, why: impl Into<String>) -> Self {
        Self { check, ok: None, detail: why.into(), remedy: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (text, expected) in [
            ("tmux 3.3a", Some([3, 3])),
            ("tmux 3.10", Some([3, 10])),
            ("tmux next-3.6", Some([3, 6])),
            ("tmux 2.9a", Some([2, 9])),
            ("tmux master", None),
            ("", None),
        ] {
            assert_eq!(numbers(text), expected, "{text}");
        }
        assert!(numbers("tmux 3.10") > Some(OLDEST_TMUX));
    }
}
