//! Which tmux server is asked, and whether it is the one that has an agent.

use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use super::{Pool, marked};
use crate::error::Failure;
use crate::marker::{self, Server};
use crate::process;
use crate::tmux::Pane;

/// Why an agent cannot be judged.
pub(super) const UNSEEN: &str = "cannot see what runs in its session";

/// What tmux said of its panes when the pass began.
pub(super) enum Panes {
    /// It was not asked, or could not be.
    NotAsked,
    /// There is no server.
    NoServer,
    /// All panes of all sessions.
    Of(Vec<Pane>),
}

impl Pool<'_> {
    /// Whether there is a tmux server.
    pub(crate) fn has_server(&self) -> bool {
        matches!(self.panes, Panes::Of(_))
    }

    pub(super) fn all_panes(&self) -> impl Iterator<Item = &Pane> {
        let panes: &[Pane] = match &self.panes {
            Panes::Of(panes) => panes,
            Panes::NotAsked | Panes::NoServer => &[],
        };
        panes.iter()
    }

    /// Fails where a session would have to be created but there is no tmux server, and none may be started: one started
    /// by a systemd service dies with it, and one that took the place of a server that lives would make its agents
    /// unreachable.
    pub(crate) fn check_server(&self) -> Result<()> {
        if self.has_server() || self.config.pool.max == 0 {
            return Ok(());
        }
        if !self.config.pool.create {
            bail!(Failure::Temporary(
                "no tmux server is running, and pool.autonomous.create is false: start one, with the pool's sessions"
                    .to_owned()
            ));
        }
        if !self.may_start_server {
            bail!(Failure::Temporary(
                "no tmux server is running, and one started from a systemd service would end with it: \
                 run `systemctl --user start ccl-tmux.service`"
                    .to_owned(),
            ));
        }
        for session in marked(&self.config.state_dir)? {
            // A marker that cannot be read is reported where its session is looked at.
            if let Ok(Some(marker)) = session.dispatched()
                && let Some(server) = living_server(marker.pane.as_ref())?
                && !server.socket.exists()
            {
                bail!(Failure::Temporary(socket_gone(server)));
            }
        }
        Ok(())
    }

    /// Fails where the agent's pane lives in another tmux server than the one that was asked, as where `$TMUX` names
    /// a person's own server: a pane that is not listed there must not be taken for gone.
    pub(super) fn check_server_of(
        &self,
        task: &str,
        pane: Option<&marker::AgentPane>,
    ) -> Result<()> {
        if matches!(self.panes, Panes::NotAsked) {
            return Ok(());
        }
        let Some(server) = living_server(pane)? else {
            return Ok(());
        };
        if self.reaches(server) {
            return Ok(());
        }
        let Server { pid, socket } = server;
        let pid = pid.as_raw_pid();
        if !socket.exists() {
            bail!("its task {task} is at work, but {}", socket_gone(server));
        }
        let socket = socket.display();
        if self.all_panes().any(|pane| pane.socket == server.socket) {
            bail!(
                "its task {task} is at work in the tmux server of process {pid}, and a newer server has taken its socket {socket}: `kill -USR1 {pid}` gives it back"
            );
        }
        bail!(
            "its task {task} is at work in the tmux server at {socket} (process {pid}), and `tmux.command` has reached another: call ccl there or outside of tmux, or set `tmux.command: [tmux, -S, {socket}]`"
        )
    }

    /// Whether this server is the one that is asked. Another pass may have made its first session after we looked, so
    /// that tmux is asked once more.
    fn reaches(&self, server: &Server) -> bool {
        let is_of = |pane: &Pane| pane.server == server.pid;
        let look_again = || self.tmux.list_panes().unwrap_or_default();
        self.all_panes().any(is_of) || self.panes_now.get_or_init(look_again).iter().any(is_of)
    }
}

/// The panes of a second look, which is made at most once in a pass.
pub(super) type PanesNow = OnceLock<Vec<Pane>>;

/// The server that has the pane, if the pane lives: its process is a child of its server.
fn living_server(pane: Option<&marker::AgentPane>) -> Result<Option<&Server>> {
    let Some(pane) = pane else { return Ok(None) };
    let process = process::stat(pane.pid).context(UNSEEN)?;
    Ok(pane.server.as_ref().filter(|server| {
        process.is_some_and(|process| process.is_alive() && process.ppid == Some(server.pid))
    }))
}

fn socket_gone(Server { pid, socket }: &Server) -> String {
    let pid = pid.as_raw_pid();
    format!(
        "the socket of its tmux server (process {pid}) is gone, {}: `kill -USR1 {pid}` makes it anew",
        socket.display()
    )
}
