//! The user's login shell: it gives an agent the environment that a terminal of the user has.

use nix::unistd::{Uid, User};
use std::path::PathBuf;

/// The shell in the user's entry of the passwd database; `None` where there is no entry. The C library is asked, since
/// a user of LDAP has no line in /etc/passwd.
pub(super) fn of_user() -> Option<PathBuf> {
    Some(User::from_uid(Uid::current()).ok()??.shell)
}

/// The login shell, or `/bin/sh` for a user who has none that runs commands.
pub(super) fn usable(login: Option<PathBuf>) -> PathBuf {
    let runs_commands = |shell: &PathBuf| {
        shell.is_absolute()
            && !["nologin", "false"].iter().any(|name| shell.file_name() == Some(name.as_ref()))
    };
    login.filter(runs_commands).unwrap_or_else(|| PathBuf::from("/bin/sh"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_shell_that_runs_no_commands_is_replaced() {
        for (login, used) in [
            (Some("/bin/bash"), "/bin/bash"),
            (Some("/usr/bin/fish"), "/usr/bin/fish"),
            (Some("/home/me/false/zsh"), "/home/me/false/zsh"),
            (Some("/usr/sbin/nologin"), "/bin/sh"),
            (Some("/sbin/nologin"), "/bin/sh"),
            (Some("/bin/false"), "/bin/sh"),
            (Some(""), "/bin/sh"),
            (Some("bash"), "/bin/sh"),
            (None, "/bin/sh"),
        ] {
            assert_eq!(usable(login.map(PathBuf::from)), PathBuf::from(used), "{login:?}");
        }
    }
}
