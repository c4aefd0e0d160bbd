//! The engine of `remote:`, its exchange, and what of each project does not travel.

use std::collections::HashSet;

use uuid::Uuid;

use crate::checkout::{Exchange, Moved};
use crate::config::{Config, RemoteEngine};
use crate::queue::Project;
use crate::remote::{self, Departure, ErrorKind, Limits};
use crate::report::DoctorRow;

/// Nothing where there is no `remote:`.
pub(super) fn checks(config: &Config, projects: &[Project]) -> Vec<DoctorRow> {
    let Some(settings) = &config.remote else { return Vec::new() };
    let mut checks = vec![engine(settings)];
    let mut asked = HashSet::new();
    for project in projects {
        let shown = project.path().display();
        match remote::departure(settings, project.path()) {
            Err(error) => checks.push(DoctorRow::bad(
                "travel",
                format!("nobody knows whether tasks of {shown} can go to Ray"),
                format!("{error:#}"),
            )),
            // No failure: the project may have no task that is to go there.
            Ok(Departure::Held(why)) => checks.push(DoctorRow {
                remedy: Some(why),
                ..DoctorRow::skipped("travel", format!("no task of {shown} can go to Ray"))
            }),
            Ok(Departure::Ready(travel)) => {
                if asked.insert(travel.url.clone()) {
                    let exchange = Exchange { project: project.path(), url: &travel.url };
                    checks.push(answer(exchange));
                }
            }
        }
    }
    if asked.is_empty() {
        let why = "no project can go there, so that nobody has asked it";
        checks.push(DoctorRow::skipped("exchange", why));
    }
    checks
}

/// The engine's version. Asking for it shows that the token is accepted, too.
fn engine(settings: &RemoteEngine) -> DoctorRow {
    let client = match remote::ray_client(settings, Limits::default()) {
        Ok(client) => client,
        Err(error) => {
            return DoctorRow::bad("remote", format!("{error:#}"), "check the proxy's variables");
        }
    };
    let error = match client.version() {
        Ok(version) => {
            let url = settings.url.as_str();
            let token = if settings.token.is_some() { ", and takes the token" } else { "" };
            return DoctorRow::good("remote", format!("{url} answers: Ray {version}{token}"));
        }
        Err(error) => error,
    };
    let remedy = match (error.kind, settings.token.is_some()) {
        (ErrorKind::Unauthorized, false) => {
            "set remote.token_file: Ray asks for a token".to_owned()
        }
        (ErrorKind::Unauthorized, true) => {
            "put the token of this Ray into remote.token_file".to_owned()
        }
        (ErrorKind::Busy | ErrorKind::Failing, _) => "try again in a while".to_owned(),
        _ => "check remote.url, whether the head runs (`ray status` there), and the tunnel to it"
            .to_owned(),
    };
    DoctorRow::bad("remote", error.text, remedy)
}

/// Whether a run's ref can be made there by compare-and-swap, and removed. It makes and removes one.
fn answer(exchange: Exchange<'_>) -> DoctorRow {
    let url = exchange.url;
    let probe = format!("refs/ccl/doctor/{}", Uuid::new_v4());
    let asked = exchange.list().and_then(|refs| Ok((refs, exchange.try_swap(&probe)?)));
    match asked {
        Ok((_, Moved::Refused)) => DoctorRow::bad(
            "exchange",
            format!("{url} refuses to make a ref that is not there"),
            format!("see what `git push {url} HEAD:{probe}` says"),
        ),
        Ok((refs, Moved::Yes)) => {
            let runs = refs.keys().filter(|name| name.ends_with("/base")).count();
            DoctorRow::good(
                "exchange",
                format!("{url} can be read and written, {runs} run(s) in it"),
            )
        }
        Err(error) => DoctorRow::bad(
            "exchange",
            format!("{url}: {error}"),
            format!("make it with `git init --bare`, and see what `git ls-remote {url}` says"),
        ),
    }
}
