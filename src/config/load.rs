//! Finds the file, and combines it with the environment and the command line.

use super::agents::AgentSections;
use super::file::{self, File};
use super::{
    AgentConfig, Agents, ClaudeFiles, Config, Overrides, Projects, Secutools, ServerUrl, key,
};
use crate::durable;
use crate::environment::Environment;
use crate::error::{Failure, unreadable_config};
use crate::text::{escape, path_text};
use anyhow::Result;
use jiff::SignedDuration;
use rustix::system::uname;
use std::path::{Component, Path, PathBuf};

/// A limit whose reset is further off is not waited for, unless the file says otherwise.
const RESET_FURTHER_THAN: SignedDuration = SignedDuration::from_mins(15);

impl Config {
    /// Reads the file and the environment, checks everything and fills in the defaults. A mistake that a person has to
    /// mend is a [`Failure::Config`] that names file, line and key, or the variable.
    pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Self> {
        let home = home(environment)?;
        let (path, mut file) = read(overrides, environment, &home)?;
        // The file's relative paths start at its own directory. Paths of the command line, $CCL_CONFIG and
        // $CLAUDE_CONFIG_DIR start at the current one.
        let base = path.as_deref().and_then(Path::parent).unwrap_or(&home);
        let resolve = |path: PathBuf| absolute(&path, base, &home);
        let claude = environment
            .var("CLAUDE_CONFIG_DIR")
            .map(|dir| absolute_here(Path::new(dir), environment))
            .transpose()?;
        let agents = agents(&mut file, claude.as_deref(), &home, resolve)?;
        for dedicated in &mut file.pool.dedicated {
            dedicated.project = resolve(std::mem::take(&mut dedicated.project));
        }
        let directory =
            file.dispatcher.projects_dir.take().or(file.pool.shared_projects_dir.take());
        let projects = if !overrides.projects.is_empty() {
            let given = overrides.projects.iter().map(|path| absolute_here(path, environment));
            Projects::Given(given.collect::<Result<_, _>>()?)
        } else if let Some(directory) = directory {
            Projects::ChildrenOf(resolve(directory))
        } else if !file.pool.dedicated.is_empty() {
            Projects::Dedicated
        } else {
            Projects::NearestTo(environment.current_dir.clone().unwrap_or_default())
        };
        let url = match environment.var("SECUTOOLS_URL") {
            Some(value) => Some(key::variable("SECUTOOLS_URL", value, ServerUrl::parse)?),
            None => file.secutools.url,
        };
        let notifiers = std::mem::take(&mut file.notify).into_iter();
        let notifiers = notifiers.map(|section| section.0.resolve(environment, resolve)).collect();
        let remote = std::mem::take(&mut file.remote);
        let remote = remote.map(|section| section.resolve(environment, resolve)).transpose()?;
        let api_key = key::api_key(environment, file.secutools.api_key_file.take().map(resolve))?;
        Ok(Self {
            state_dir: state_dir(overrides, file.state_dir.map(resolve), environment, &home)?,
            file: path,
            pool: file.pool.autonomous,
            dedicated: file.pool.dedicated,
            projects,
            dispatcher: file.dispatcher,
            agents,
            prices: file.prices,
            secutools_budget: file.secutools.budget,
            auto_routes: file.routing.auto,
            defaults: file.defaults,
            secutools: Secutools::new(url, api_key, environment),
            remote: remote.flatten(),
            tmux: file.tmux.command,
            notifiers,
            http_hosts: file.http.hosts.into_iter().map(|host| host.0).collect(),
            host: file.host.unwrap_or_else(|| uname().nodename().to_string_lossy().into_owned()),
            claude: ClaudeFiles::of(claude.as_deref(), &home),
            home,
            tmux_pane: tmux_pane(environment),
            warnings: file.warnings,
        })
    }
}

/// The agents of the file; `claude` is `$CLAUDE_CONFIG_DIR`, which applies to agents without a directory of their own.
fn agents(
    file: &mut File,
    claude: Option<&Path>,
    home: &Path,
    resolve: impl Fn(PathBuf) -> PathBuf,
) -> Result<Agents, Failure> {
    let AgentSections(mut all) = std::mem::take(&mut file.agents);
    match file.agent.take() {
        Some(_) if !all.is_empty() => {
            return Err(Failure::Config(
                "`agent` and `agents` are both given: move what `agent` says to `agents`, below a name of its own"
                    .to_owned(),
            ));
        }
        only if all.is_empty() => {
            let mut only = only.unwrap_or_default();
            // It has no key to be named by: journals and holds know it by its kind.
            only.name = only.kind.as_str().to_owned();
            all.push(only);
        }
        _ => {}
    }
    for agent in &mut all {
        let AgentConfig { config_dir, api_key_file, .. } = agent;
        for path in [config_dir, api_key_file].into_iter().flatten() {
            *path = resolve(std::mem::take(path));
        }
        agent.claude = ClaudeFiles::of(agent.config_dir.as_deref().or(claude), home);
    }
    let failover = file.failover.take();
    let failover = failover.map(|names| names.into_iter().map(|name| name.0).collect());
    let reset = file.reset_further_than.unwrap_or(RESET_FURTHER_THAN);
    Agents::new(all, failover, reset)
}

fn home(environment: &Environment) -> Result<PathBuf, Failure> {
    environment.absolute_path("HOME").ok_or_else(|| {
        Failure::Config("HOME is not set to an absolute path; set it to your home directory".into())
    })
}

/// Finds, reads and parses the file: `--config`, `$CCL_CONFIG`, `$XDG_CONFIG_HOME/ccl/config.yaml`,
/// `~/.config/ccl/config.yaml`. A file that was named must exist, the default one need not.
fn read(
    overrides: &Overrides,
    environment: &Environment,
    home: &Path,
) -> Result<(Option<PathBuf>, File)> {
    let named =
        overrides.config.as_deref().or_else(|| environment.var("CCL_CONFIG").map(Path::new));
    let path = match named {
        Some(path) => absolute_here(path, environment)?,
        None => environment
            .absolute_path("XDG_CONFIG_HOME")
            .unwrap_or_else(|| home.join(".config"))
            .join("ccl/config.yaml"),
    };
    let text = std::fs::read_to_string(&path);
    // A file that was named has to be there.
    let text = if named.is_some() { text.map(Some) } else { durable::if_there(text) };
    let failed = || format!("cannot read the configuration {}", path.display());
    let Some(text) = text.map_err(|error| unreadable_config(failed(), error))? else {
        return Ok((None, File::default()));
    };
    let file = file::parse(&text, &path)?;
    Ok((Some(path), file))
}

/// The path as seen from `base`, with `~` replaced and without `.` in it.
fn absolute(path: &Path, base: &Path, home: &Path) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => without_dots(&home.join(rest)),
        Err(_) => without_dots(&base.join(path)),
    }
}

/// The path as seen from the current directory.
fn absolute_here(path: &Path, environment: &Environment) -> Result<PathBuf, Failure> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let here = environment.current_dir.as_deref().ok_or_else(|| {
        Failure::Config(format!(
            "{} is relative, but the current directory is gone; cd to one that exists",
            path.display()
        ))
    })?;
    Ok(without_dots(&here.join(path)))
}

fn without_dots(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// The state directory: `--state-dir`, `state_dir`, `$XDG_STATE_HOME/ccl`, `~/.local/state/ccl`. Its path stands in
/// scripts and in tmux's arguments, so it has to be text of one line.
fn state_dir(
    overrides: &Overrides,
    from_file: Option<PathBuf>,
    environment: &Environment,
    home: &Path,
) -> Result<PathBuf, Failure> {
    let path = match (&overrides.state_dir, from_file) {
        (Some(given), _) => absolute_here(given, environment)?,
        (None, Some(path)) => path,
        (None, None) => environment
            .absolute_path("XDG_STATE_HOME")
            .unwrap_or_else(|| home.join(".local/state"))
            .join("ccl"),
    };
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(path),
        _ => Err(Failure::Config(format!(
            "the state directory {} has control characters or is not UTF-8; set state_dir to another one",
            escape(&path_text(&path))
        ))),
    }
}

/// The pane that `ccl` was called in. Outside of tmux `$TMUX_PANE` means nothing.
fn tmux_pane(environment: &Environment) -> Option<String> {
    environment.var("TMUX")?;
    let pane = environment.var("TMUX_PANE")?.to_str()?;
    let digits = pane.strip_prefix('%')?;
    let is_id = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_id.then(|| pane.to_owned())
}
