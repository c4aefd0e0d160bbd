//! Whether `ccl` runs inside a systemd service: a tmux server started there would end with the service.

use std::fs;

/// The systemd service that this process runs in, `ccl.service`; none outside of one, or where that cannot be found out.
///
/// The environment does not show it: panes inherit `INVOCATION_ID` from the server's unit. A pane lies in the cgroup of
/// its tmux server's unit: called in a pane, this names the server's service. Without a login manager the services of
/// ssh and cron hold their users' sessions.
pub(crate) fn in_service() -> Option<String> {
    unit_of_cgroup(&fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// The innermost unit in a text such as `/proc/self/cgroup` holds, if that is a service.
fn unit_of_cgroup(cgroups: &str) -> Option<String> {
    cgroups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        // cgroup v2 names no controllers; in v1 systemd's own hierarchy holds the units.
        if !controllers.is_empty() && controllers != "name=systemd" {
            return None;
        }
        let unit = path.rsplit('/').find(|name| {
            [".service", ".scope", ".slice"].iter().any(|kind| name.ends_with(kind))
        })?;
        unit.ends_with(".service").then(|| unit.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::unit_of_cgroup;

    #[test]
    fn the_innermost_unit_counts() {
        let user = "/user.slice/user-1000.slice/user@1000.service";
        for (cgroups, unit) in [
            ("0::/system.slice/ccl.service\n".to_owned(), Some("ccl.service")),
            (format!("0::{user}/app.slice/ccl.service\n"), Some("ccl.service")),
            (
                format!("0::{user}/app.slice/ccl@a\\x2db.service/inner\n"),
                Some("ccl@a\\x2db.service"),
            ),
            (format!("0::{user}/app.slice/app-foot-1.scope\n"), None),
            (format!("0::{user}/init.scope\n"), None),
            (format!("0::{user}/tmux-spawn-1.scope/x\n"), None),
            (format!("0::{user}\n"), Some("user@1000.service")),
            ("0::/user.slice/user-0.slice/session-3.scope\n".to_owned(), None),
            ("0::/\n".to_owned(), None),
            (
                "12:cpu:/system.slice/a.service\n1:name=systemd:/system.slice/b.service\n0::/\n"
                    .to_owned(),
                Some("b.service"),
            ),
            ("0::/a:b/ccl.service\n".to_owned(), Some("ccl.service")),
            ("nonsense\n\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(unit_of_cgroup(&cgroups).as_deref(), unit, "{cgroups}");
        }
    }
}
