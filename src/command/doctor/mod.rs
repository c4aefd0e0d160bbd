//! `ccl doctor`: what a pass needs, and how to mend what is missing.

use super::{Context, Outcome};
use crate::doctor::service::{self, Units};
use crate::doctor::{disk, server, terminal};
use crate::environment::Environment;
use crate::report::{Check, Report};
use crate::tmux::Tmux;

/// Looks at everything; what is not well is no error of the program, but its exit status.
pub(super) fn run(context: Context<'_>, environment: &Environment) -> Outcome {
    let config = context.config;
    let tmux = Tmux::new(config.tmux.clone());
    let mut checks = vec![
        terminal::tmux(&tmux),
        terminal::server(&tmux),
        terminal::agent(config, &tmux, environment),
        disk::state(&config.state_dir),
    ];
    match context.projects() {
        Ok(projects) => {
            checks.extend(disk::queues(&projects));
            checks.extend(terminal::trust(config, &projects));
        }
        Err(error) => checks.push(Check::bad(
            "queue",
            format!("{error:#}"),
            "name your projects in ~/.config/ccl/config.yaml, or call ccl in one",
        )),
    }
    let units = Units::read();
    let service_has_key = units.as_ref().is_ok_and(Units::load_the_key);
    checks.extend(server::checks(&config.secutools, service_has_key));
    match &units {
        Ok(units) => checks.extend(units.checks(context.now)),
        Err(error) => {
            checks.push(Check::skipped("units", format!("no systemd manager of yours: {error:#}")))
        }
    }
    if units.is_ok_and(|units| units.are_installed()) {
        let name = ["USER", "LOGNAME"].map(|name| environment.var(name)?.to_str());
        checks.push(service::linger(name.into_iter().flatten().next()));
    }
    let exit = u8::from(checks.iter().any(|check| check.ok == Some(false)));
    Outcome { report: Report::Checks { checks }, exit }
}
