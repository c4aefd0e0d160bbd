//! The units in the user's manager: enabled, running, and when the last pass was.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{LIMIT, ask};
use crate::environment::Environment;
use crate::report::DoctorRow;
use crate::subprocess::Call;
use crate::text::local_time;

/// The timer comes every minute, and a pass may take five.
const OVERDUE: SignedDuration = SignedDuration::from_mins(10);

/// The properties of `ccl`'s units in the user's manager, by unit and name.
pub(super) struct Units(HashMap<String, HashMap<String, String>>);

impl Units {
    /// Fails where there is no systemd, or no manager of this user.
    pub(super) fn read() -> Result<Self> {
        const PROPERTIES: &str = "--property=Id,LoadState,ActiveState,UnitFileState,Result,ExecMainStatus,\
                                  ExecMainExitTimestamp";
        let mut show = Call::new("systemctl", LIMIT);
        show.command.args(["--user", "show", "--timestamp=unix", PROPERTIES]);
        show.command.args(["ccl.timer", "ccl.service", "ccl-tmux.service", "ccl-http.socket"]);
        Ok(Self::parse(&ask(show)?))
    }

    /// Blocks of `NAME=VALUE`, with empty lines between them.
    fn parse(printed: &str) -> Self {
        let units = printed.split("\n\n").map(|block| {
            let lines = block.lines().filter_map(|line| line.split_once('='));
            let unit: HashMap<String, String> =
                lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            (unit.get("Id").cloned().unwrap_or_default(), unit)
        });
        Self(units.collect())
    }

    /// A property; empty where the unit does not have it, or is not there.
    fn get(&self, unit: &str, property: &str) -> &str {
        self.0.get(unit).and_then(|unit| unit.get(property)).map_or("", String::as_str)
    }

    /// Whether `ccl.service` loads the key as a credential. The property itself cannot be printed (systemd 252).
    pub(super) fn load_the_key(&self) -> bool {
        let mut cat = Call::new("systemctl", LIMIT);
        cat.command.args(["--user", "cat", "ccl.service"]);
        ask(cat).is_ok_and(|text| {
            let mut lines = text.lines().filter(|line| line.starts_with("LoadCredential"));
            lines.any(|line| line.contains("secutools_api_key"))
        })
    }

    pub(super) fn checks(&self, now: Timestamp, environment: &Environment) -> Vec<DoctorRow> {
        if self.get("ccl.timer", "LoadState") != "loaded" {
            let why = "ccl.timer is not installed: only cron, hooks or people call ccl";
            return vec![DoctorRow::skipped("units", why), self.http()];
        }
        let user = ["USER", "LOGNAME"].iter().find_map(|name| environment.var(name)?.to_str());
        vec![self.timer(), self.server(), self.last_pass(now), self.http(), linger(user)]
    }

    /// The page is optional.
    fn http(&self) -> DoctorRow {
        const UNIT: &str = "ccl-http.socket";
        let get = |property| self.get(UNIT, property);
        match (get("LoadState"), get("ActiveState"), get("UnitFileState")) {
            (_, "active", _) => DoctorRow::good("http", format!("{UNIT} listens")),
            ("loaded", "failed", _) => DoctorRow::bad(
                "http",
                format!("{UNIT} has failed: {}", get("Result")),
                format!("see `systemctl --user status {UNIT}`: another program may have its port"),
            ),
            ("loaded", state, "enabled") => DoctorRow::bad(
                "http",
                format!("{UNIT} is enabled and {state}"),
                format!("run `systemctl --user start {UNIT}`"),
            ),
            ("loaded", ..) => DoctorRow::skipped(
                "http",
                format!("{UNIT} is not enabled: nothing is served over HTTP"),
            ),
            _ => DoctorRow::skipped("http", format!("{UNIT} is not installed")),
        }
    }

    fn timer(&self) -> DoctorRow {
        let enabled = self.get("ccl.timer", "UnitFileState");
        let active = self.get("ccl.timer", "ActiveState");
        if enabled == "enabled" && active == "active" {
            return DoctorRow::good("units", "ccl.timer is enabled and active");
        }
        DoctorRow::bad(
            "units",
            format!("ccl.timer is {enabled} and {active}"),
            "run `systemctl --user enable --now ccl.timer`",
        )
    }

    fn server(&self) -> DoctorRow {
        match self.get("ccl-tmux.service", "ActiveState") {
            "failed" | "" => DoctorRow::bad(
                "units",
                "ccl-tmux.service has failed, or is not installed",
                "see `systemctl --user status ccl-tmux.service`",
            ),
            // Good also where it is inactive: a tmux server of the user's own keeps it from starting.
            state => DoctorRow::good("units", format!("ccl-tmux.service is {state}")),
        }
    }

    fn last_pass(&self, now: Timestamp) -> DoctorRow {
        let get = |property| self.get("ccl.service", property);
        if get("ActiveState") == "activating" {
            return DoctorRow::good("last pass", "one is being made");
        }
        let ended = get("ExecMainExitTimestamp").strip_prefix('@');
        let ended = ended.and_then(|seconds| Timestamp::from_second(seconds.parse().ok()?).ok());
        let Some(ended) = ended else {
            return DoctorRow::skipped("last pass", "none since the user's manager started");
        };
        let at = local_time(ended, now, &TimeZone::system());
        match (get("Result"), get("ExecMainStatus")) {
            ("success", "0") if now.duration_since(ended) > OVERDUE => DoctorRow::bad(
                "last pass",
                format!("the last was at {at}"),
                "see `systemctl --user status ccl.timer ccl.service`",
            ),
            ("success", "0") => DoctorRow::good("last pass", format!("it ended well, at {at}")),
            // EXIT_CREDENTIALS, systemd.exec(5).
            (_, "243") => DoctorRow::bad(
                "last pass",
                "systemd could not load a credential",
                "check the file that LoadCredential= names: `systemctl --user cat ccl.service`",
            ),
            (result, status) => DoctorRow::bad(
                "last pass",
                format!("{result}, exit status {status}, at {at}"),
                "see `journalctl --user -t ccl -n 20`",
            ),
        }
    }
}

/// Does the manager run while the user is logged out?
fn linger(user: Option<&str>) -> DoctorRow {
    let Some(user) = user else {
        return DoctorRow::skipped("linger", "neither USER nor LOGNAME is set");
    };
    // logind itself looks for this file.
    if Path::new("/var/lib/systemd/linger").join(user).exists() {
        return DoctorRow::good("linger", format!("{user}'s units run without a login"));
    }
    DoctorRow::bad(
        "linger",
        format!("{user}'s units, agents too, end at the last logout and do not start at boot"),
        format!("run `loginctl enable-linger {user}`"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: &str = "\
Id=ccl.timer
LoadState=loaded
ActiveState=active
UnitFileState=enabled
Result=success

Result=success
ExecMainExitTimestamp=@1700000000
ExecMainStatus=0
Id=ccl.service
LoadState=loaded
ActiveState=inactive
UnitFileState=static

Id=ccl-tmux.service
LoadState=loaded
ActiveState=active

Id=ccl-http.socket
LoadState=loaded
ActiveState=active
UnitFileState=enabled
Result=success
";

    fn failed(printed: &str, now: i64) -> Vec<String> {
        let checks = Units::parse(printed)
            .checks(Timestamp::from_second(now).unwrap(), &Environment::default());
        let failed = checks.into_iter().filter(|check| check.ok == Some(false));
        failed.map(|check| check.detail).collect()
    }

    #[test]
    fn all_is_well_where_the_timer_runs_and_the_last_pass_is_recent() {
        assert_eq!(failed(WELL, 1_700_000_059), [""; 0]);
        assert_eq!(failed(WELL, 1_700_000_601).len(), 1);
        let never = WELL.replace("@1700000000", "");
        assert_eq!(failed(&never, 1_700_000_601), [""; 0]);
        let running = WELL.replace("inactive", "activating");
        assert_eq!(failed(&running, 1_700_000_601), [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_found() {
        for (from, to, word) in [
            ("=enabled", "=disabled", "disabled"),
            ("ActiveState=active\nUnit", "ActiveState=failed\nUnit", "failed"),
            ("ExecMainStatus=0", "ExecMainStatus=75", "status 75"),
            ("ExecMainStatus=0", "ExecMainStatus=243", "credential"),
            ("Result=success\nExec", "Result=timeout\nExec", "timeout"),
            ("Id=ccl-tmux", "Id=other", "ccl-tmux.service"),
            (
                "http.socket\nLoadState=loaded\nActiveState=active",
                "http.socket\nLoadState=loaded\nActiveState=failed",
                "ccl-http.socket has failed",
            ),
            (
                "http.socket\nLoadState=loaded\nActiveState=active",
                "http.socket\nLoadState=loaded\nActiveState=inactive",
                "enabled and inactive",
            ),
        ] {
            let found = failed(&WELL.replacen(from, to, 1), 1_700_000_059);
            assert_eq!(found.len(), 1, "{to}: {found:?}");
            assert!(found[0].contains(word), "{found:?}");
        }
    }

    #[test]
    fn a_socket_that_nobody_has_enabled_is_not_wrong() {
        let off = WELL.replace(
            "ActiveState=active\nUnitFileState=enabled\nResult=success\n",
            "ActiveState=inactive\nUnitFileState=disabled\n",
        );
        // The timer's block ends in the same way.
        let off = off.replacen(
            "ActiveState=inactive\nUnitFileState=disabled",
            "ActiveState=active\nUnitFileState=enabled",
            1,
        );
        assert_eq!(failed(&off, 1_700_000_059), [""; 0]);
    }

    #[test]
    fn without_the_timer_nothing_is_wrong() {
        assert_eq!(failed("Id=ccl.timer\nLoadState=not-found\n", 0), [""; 0]);
    }
}
