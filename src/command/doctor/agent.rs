//! The agent, as the login shell that starts it sees it.

use crate::checkout::checkout_of;
use crate::config::{self, AgentConfig, AgentKind, Config};
use crate::environment::Environment;
use crate::hold::{Choice, Holds};
use crate::queue::Project;
use crate::report::DoctorRow;
use crate::subprocess::Call;
use crate::task::Header;
use crate::tmux::Tmux;

use super::{LIMIT, ask, numbers};
use crate::command::Context;
use crate::command::trust::Trusts;

/// From this version on its transcript, registry and hooks are those that `ccl` reads.
const OLDEST_CLAUDE: [u32; 3] = [2, 1, 100];

/// The PATH that a window gets where no tmux server runs that could be asked: systemd's own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Is the agent on the PATH that the start-up files of the login shell make, and does it do what `ccl` needs? The shell
/// is started as for an agent, but without a terminal.
pub(super) fn program(
    config: &Config,
    agent: &AgentConfig,
    tmux: &Tmux,
    environment: &Environment,
) -> DoctorRow {
    let program = agent.program();
    let shell = agent.shell().display();
    if program.contains('/') && !program.starts_with('/') {
        return DoctorRow::skipped("agent", format!("{program} is looked up in each project"));
    }
    // sh looks the program up, as in the script that starts the agent. The marks tell the answer from what start-up
    // files print.
    let question = r#"printf "\nccl:%s:%s:ccl\n" "$(command -v -- "$CCL_DOCTOR")" "$IS_SANDBOX""#;
    let answer = match ask(in_shell(config, agent, tmux, environment, question)) {
        Ok(answer) => answer,
        Err(error) => {
            return DoctorRow::bad(
                "agent",
                format!("cannot ask the login shell {shell}: {error:#}"),
                format!("see why `{shell} -l -i -c true` does not end well"),
            );
        }
    };
    // Claude Code refuses that, unless IS_SANDBOX=1.
    let skips_permissions_as_root = agent.kind == AgentKind::Claude
        && rustix::process::geteuid().is_root()
        && agent.command.iter().any(|word| word == "--dangerously-skip-permissions");
    let found = answer.lines().find_map(|line| {
        let marked = line.strip_prefix("ccl:")?.strip_suffix(":ccl")?;
        marked.rsplit_once(':')
    });
    match found {
        None => DoctorRow::skipped("agent", format!("{shell} cannot be asked for {program}")),
        Some(("", _)) => DoctorRow::bad(
            "agent",
            format!("{program} is not on the PATH of the login shell {shell}"),
            "install it, extend PATH in the shell's start-up file, or give its full path in agent.command",
        ),
        Some((_, sandbox)) if skips_permissions_as_root && sandbox != "1" => DoctorRow::bad(
            "agent",
            format!("{program} refuses to skip permissions as root"),
            "run ccl as another user, or set IS_SANDBOX=1 in the shell's start-up file",
        ),
        Some((place, _)) if agent.kind == AgentKind::Claude => version(
            place,
            ask(in_shell(config, agent, tmux, environment, r#"exec "$CCL_DOCTOR" --version"#)),
        ),
        Some((place, _)) => DoctorRow::good("agent", format!("{place}, by {shell}")),
    }
}

/// Can the agent use what its configuration names beside the program: its key, its directory?
pub(super) fn files(agent: &AgentConfig) -> Vec<DoctorRow> {
    let mut rows = Vec::new();
    if let Some(file) = &agent.api_key_file {
        rows.push(match config::private_key(file) {
            Ok(_) => DoctorRow::good(
                "key",
                format!("{} has one, for nobody else to read", file.display()),
            ),
            Err(error) => DoctorRow::bad(
                "key",
                format!("{error:#}"),
                "put the key of the Anthropic API there, as one line, with mode 600",
            ),
        });
    }
    if let (AgentKind::Claude, Some(directory)) = (agent.kind, agent.claude.config_dir()) {
        let shown = directory.display();
        rows.push(match directory.is_dir() {
            true => DoctorRow::good("config_dir", format!("{shown} is there")),
            false => DoctorRow::bad(
                "config_dir",
                format!("{shown} is no directory"),
                format!("run `CLAUDE_CONFIG_DIR={shown} claude` once and log in"),
            ),
        });
    }
    rows
}

/// `claude --version` prints `2.1.332 (Claude Code)`. A program in front of Claude Code, such as `env`, prints
/// something else, which is not judged.
fn version(place: &str, printed: anyhow::Result<String>) -> DoctorRow {
    let printed = match printed {
        Ok(printed) => printed,
        Err(error) => {
            return DoctorRow::bad(
                "agent",
                format!("{place} --version: {error:#}"),
                format!("see what `{place} --version` says"),
            );
        }
    };
    let version = printed.lines().find_map(|line| line.trim().strip_suffix(" (Claude Code)"));
    match version {
        Some(version) if numbers(version).is_some_and(|it| it < OLDEST_CLAUDE) => DoctorRow::bad(
            "agent",
            format!("{place} is Claude Code {version}: older than 2.1.100 is not supported"),
            "run `claude update`, or install it anew",
        ),
        Some(version) => DoctorRow::good("agent", format!("{place}, Claude Code {version}")),
        None => DoctorRow::good("agent", place),
    }
}

/// The login shell with its start-up files read, and then `sh` with this script. `CCL_DOCTOR` is the agent's program.
fn in_shell(
    config: &Config,
    agent: &AgentConfig,
    tmux: &Tmux,
    environment: &Environment,
    script: &str,
) -> Call {
    // A window has the PATH of the tmux server, before start-up files extend it.
    let path = tmux.display_global("#{PATH}").ok().filter(|path| !path.is_empty());
    let shell = agent.shell().as_os_str();
    let mut call = Call::in_own_session(shell, LIMIT);
    // Exported behind the start-up files, as in the script that starts the agent. The values are in variables, so that
    // no shell has to quote them.
    let own = |name: &str| format!("CCL_DOCTOR_{name}");
    let exports: String =
        agent.env.keys().map(|name| format!("export {name}=\"${}\"; ", own(name))).collect();
    call.command
        .args(["-l", "-i", "-c", &format!("exec sh -c '{exports}{script}'")])
        .env_clear()
        .current_dir(&config.home)
        .env("HOME", &config.home)
        .env("SHELL", shell)
        .env("PATH", path.as_deref().unwrap_or(PATH))
        .env("TERM", "dumb")
        .env("CCL_DOCTOR", agent.program())
        .envs(agent.env.iter().map(|(name, value)| (own(name), value)));
    for name in ["USER", "LOGNAME", "LANG"] {
        call.command.envs(environment.var(name).map(|value| (name, value)));
    }
    call
}

/// Does Claude Code trust the projects, where a task would go to it? One finding where it does, else one for each that
/// it refuses. One more, and no fault, for each repository that only newer versions refuse.
pub(super) fn trust(context: Context<'_>, projects: &[Project]) -> Vec<DoctorRow> {
    let agents = &context.config.agents;
    let lineup = Holds::new(context.config, context.now).lineup();
    let (mut trusts, header) = (Trusts::default(), Header::default());
    let (mut refused, mut asked, mut looked_at) = (Vec::new(), Vec::new(), 0);
    for project in projects {
        let path = project.path();
        // What is wrong with its rules is a finding of its own.
        let rules = context.config.project_rules(&project.rules_path()).ok();
        let pin = rules.as_ref().and_then(|rules| rules.agent.as_deref());
        let agent = match lineup.choose(context.wanted("", &header, pin)) {
            Choice::Agent { agent, .. } => agent,
            Choice::Wait(_) | Choice::Last(_) => {
                pin.and_then(|pin| agents.named(pin)).unwrap_or_else(|| agents.first())
            }
        };
        let Some(trust) = trusts.of(agent) else { continue };
        looked_at += 1;
        let shown = path.display();
        if trust.refuses(path) {
            let detail = format!("Claude Code does not trust {shown}");
            refused.push(DoctorRow::bad("trust", detail, trust.remedy(path)));
        } else if checkout_of(path).is_some_and(|top| trust.refuses_in_repository(path, top)) {
            let detail = format!(
                "{shown} is in a git repository below what Claude Code trusts: 2.1.332, and perhaps others, asks there"
            );
            let note = DoctorRow::skipped("trust", detail);
            asked.push(DoctorRow { remedy: Some(trust.remedy(path)), ..note });
        }
    }
    if looked_at == 0 && !projects.is_empty() {
        return vec![DoctorRow::skipped("trust", "only Claude Code asks for it")];
    }
    if refused.is_empty() {
        let detail = format!("Claude Code refuses none of the {looked_at} project(s)");
        refused.push(DoctorRow::good("trust", detail));
    }
    refused.into_iter().chain(asked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claude_code_before_2_1_100_is_not_supported() {
        for (printed, ok, word) in [
            ("2.1.99 (Claude Code)\n", false, "Claude Code 2.1.99"),
            ("hello\n2.0.330 (Claude Code)\n", false, "2.0.330"),
            ("2.1.100 (Claude Code)\n", true, "2.1.100"),
            ("2.1.100-beta.1 (Claude Code)\n", true, "beta"),
            ("3.0.0 (Claude Code)", true, "3.0.0"),
            ("env (GNU coreutils) 1.1", true, "/bin/x"),
            ("next (Claude Code)", true, "next"),
        ] {
            let check = version("/bin/x", Ok(printed.to_owned()));
            assert_eq!(check.ok, Some(ok), "{printed}");
            assert!(check.detail.contains(word), "{}", check.detail);
        }
        assert_eq!(version("/bin/x", Err(anyhow::anyhow!("no answer"))).ok, Some(false));
    }
}
