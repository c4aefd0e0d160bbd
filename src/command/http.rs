//! `ccl http`: answers one request that stands on standard input. Changes nothing.
//!
//! systemd's socket activation makes a server of it, `ccl-http.socket`. A request that is refused or broken off is no
//! failure of the command.

use std::io;
use std::time::Duration;

use anyhow::{Error, Result};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::status::{self, Collected};
use super::{Context, report};
use crate::cli::ReportFormat;
use crate::error::{self, TEMPORARY};
use crate::last_scan;
use crate::log::Log;
use crate::report::{OVERDUE, POLICY, Report, TaskState, metrics};
use crate::text::local_time;
use crate::web::request::read;
use crate::web::{Asked, Connection, Received, Refusal, Request, Response};

/// The time limit for the head to come, and again for the response to be taken.
const LIMIT: Duration = Duration::from_secs(5);

/// How often a browser that shows the page asks for it again, in seconds.
const REFRESH: &str = "30";

const TEXT: &str = "text/plain; charset=utf-8";

/// Answers the request, also where the configuration cannot be read: then `/healthz` says so.
pub(super) fn run<'a>(
    log: &Log,
    now: Timestamp,
    context: impl Fn() -> Result<Context<'a>>,
) -> Report {
    let context = context();
    let hosts = context.as_ref().map_or(&[][..], |context| &context.config.http_hosts);
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let connection = Connection::new(&stdin, &stdout, LIMIT);
    let answered = connection.receive(|head| read(head, hosts)).and_then(|received| {
        let (response, is_head) = match received {
            Received::Asked(Asked::Whole(request)) => {
                (respond(&request, &context, log), request.is_head)
            }
            Received::Asked(Asked::Refused(refusal)) => ((&refusal).into(), refusal.is_head),
            Received::TooSlow => {
                let sentence = format!("no whole request came within {} s", LIMIT.as_secs());
                ((&Refusal::new(408, sentence)).into(), false)
            }
            // A client that has sent nothing gets no answer. `Incomplete` is never returned: `receive` reads on.
            Received::Broken(0) | Received::Asked(Asked::Incomplete) => return Ok(()),
            Received::Broken(_) => ((&Refusal::new(400, "the request has no end")).into(), false),
        };
        connection.answer(&response.bytes(now, is_head))
    });
    if let Err(error) = answered {
        log.debug(format_args!("the connection has broken off: {error}"));
    }
    Report::Text(String::new())
}

fn respond(request: &Request, context: &Result<Context<'_>>, log: &Log) -> Response {
    let Some(resource) = Resource::at(&request.path) else {
        let paths: Vec<&str> = RESOURCES.iter().map(|(path, _)| *path).collect();
        return Response::problem(404, &format!("there are {}", paths.join(", ")));
    };
    let context = match context {
        Ok(context) => *context,
        Err(error) if matches!(resource, Resource::Health) => {
            return health(vec![format!("{error:#}")]);
        }
        Err(error) => return failure(error),
    };
    resource.read(context, request).unwrap_or_else(|error| {
        // A wrong request is the client's fault: were it logged, anybody could fill the journal.
        if error::exit_code(&error) != 2 {
            log.error(format_args!("{error:#}"));
        }
        failure(&error)
    })
}

/// What can be asked for.
#[derive(Debug, Clone, Copy)]
enum Resource {
    Page,
    Status,
    Delegated,
    Report,
    Watchdog,
    Metrics,
    Health,
}

const RESOURCES: [(&str, Resource); 7] = [
    ("/", Resource::Page),
    ("/api/status", Resource::Status),
    ("/api/delegated/status", Resource::Delegated),
    ("/api/report", Resource::Report),
    ("/watchdog/status", Resource::Watchdog),
    ("/metrics", Resource::Metrics),
    ("/healthz", Resource::Health),
];

impl Resource {
    fn at(path: &str) -> Option<Self> {
        RESOURCES.iter().find(|(known, _)| *known == path).map(|(_, resource)| *resource)
    }

    fn read(self, context: Context<'_>, request: &Request) -> Result<Response> {
        let collect = || status::collect(context);
        Ok(match self {
            Self::Page => page(context, &collect()?),
            Self::Status => json(Report::Status(collect()?.status).json()?),
            Self::Delegated => json(collect()?.status.delegated_json()?),
            Self::Report => work_report(context, request)?,
            Self::Watchdog => json(collect()?.status.watchdog_json()?),
            Self::Metrics => {
                let Collected { status, exit, .. } = collect()?;
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                Response::new(200, kind, metrics(&status, exit))
            }
            Self::Health => health(illnesses(context)),
        })
    }
}

fn page(context: Context<'_>, collected: &Collected) -> Response {
    let page = status::page(context, collected);
    let policy = format!("{POLICY}; frame-ancestors 'none'");
    Response::new(200, "text/html; charset=utf-8", page)
        .with_line("Content-Security-Policy", &policy)
        .with_line("Refresh", REFRESH)
}

fn work_report(context: Context<'_>, request: &Request) -> Result<Response> {
    let since = request.parameter("since").unwrap_or_else(|| "24h".to_owned());
    let answer = report::run(context, &since, Some(ReportFormat::Json), false)?;
    Ok(json(answer.report.json()?))
}

fn json(text: String) -> Response {
    Response::new(200, "application/json", text)
}

/// What could not be answered, and whether it may be later.
fn failure(error: &Error) -> Response {
    let status = match error::exit_code(error) {
        2 => 400,
        TEMPORARY => 503,
        _ => 500,
    };
    Response::problem(status, &format!("{error:#}"))
}

fn health(illnesses: Vec<String>) -> Response {
    match illnesses.is_empty() {
        true => Response::new(200, TEXT, "ok\n".to_owned()),
        false => Response::new(503, TEXT, illnesses.join("\n") + "\n"),
    }
}

/// Whether a waiting task could be handed out here and now: it waits for no time, task, agent or person. Where the
/// status cannot be read, one may be ready.
fn is_any_ready(context: Context<'_>) -> bool {
    let Ok(Collected { status, .. }) = status::collect(context) else { return true };
    let mut tasks = status.tasks.iter();
    tasks.any(|task| {
        let is_local = task.provider.is_none_or(|provider| !provider.is_remote());
        task.state == TaskState::Waiting && task.waits.is_none() && is_local
    })
}

/// Why tasks are not handed out as they should be, a sentence each.
fn illnesses(context: Context<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut waits = false;
    match context.projects() {
        Ok(projects) => {
            for project in projects {
                match project.list() {
                    Ok(inbox) => waits |= !inbox.waiting.is_empty(),
                    Err(error) => found.push(format!("{error:#}")),
                }
            }
        }
        Err(error) => found.push(format!("{error:#}")),
    }
    match context.pool() {
        Err(error) => found.push(format!("{error:#}")),
        Ok(pool) => {
            let has_server = pool.has_server() || context.config.pool.max == 0;
            // Asked last: it reads the whole status.
            if waits && !has_server && is_any_ready(context) {
                found.push("tasks wait, and no tmux server is running".to_owned());
            }
        }
    }
    match last_scan::read(&context.config.state_dir) {
        None => found.push("no scan has been made yet".to_owned()),
        Some(passed) if context.now.duration_since(passed) > OVERDUE => {
            let at = local_time(passed, context.now, &TimeZone::system());
            found.push(format!("the last scan ended at {at}"));
        }
        Some(_) => {}
    }
    found
}
