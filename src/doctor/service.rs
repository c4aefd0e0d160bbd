//! The units in the user's manager: enabled, running, and when the last pass was.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use crate::report::Check;

use super::{LIMIT, ask};
use crate::subprocess::Call;

/// The timer comes every minute, and a pass may take five.
const OVERDUE: SignedDuration = SignedDuration::from_mins(10);

const JOURNAL: &str = "see `journalctl --user -t ccl -n 20`";

/// What the user's manager says of `ccl`'s units.
#[derive(Debug)]
pub struct Units(HashMap<String, Unit>);

/// The properties of one unit; those that it does not have are empty.
#[derive(Debug, Default)]
struct Unit(HashMap<String, String>);

impl Unit {
    fn get(&self, property: &str) -> &str {
        self.0.get(property).map_or("", String::as_str)
    }
}

impl Units {
    /// Asks the manager.
    ///
    /// # Errors
    /// There is no systemd, or no manager of this user.
    pub fn read() -> Result<Self> {
        const PROPERTIES: &str = "--property=Id,LoadState,ActiveState,UnitFileState,Result,ExecMainStatus,\
                                  ExecMainExitTimestamp";
        const UNITS: [&str; 3] = ["ccl.timer", "ccl.service", "ccl-tmux.service"];
        let mut show = Call::new("systemctl", LIMIT);
        show.command.args(["--user", "show", "--timestamp=unix", PROPERTIES]).args(UNITS);
        let printed = ask(show)?;
        Ok(Self::parse(&printed))
    }

    /// Blocks of `NAME=VALUE`, with empty lines between them.
    fn parse(printed: &str) -> Self {
        let blocks = printed.split("\n\n").map(|block| {
            let lines = block.lines().filter_map(|line| line.split_once('='));
            Unit(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
        });
        Self(blocks.map(|unit| (unit.get("Id").to_owned(), unit)).collect())
    }

    fn state(&self, unit: &str, property: &str) -> &str {
        self.0.get(unit).map_or("", |unit| unit.get(property))
    }

    /// Whether the timer is there; without it `ccl` is called by something else.
    pub fn are_installed(&self) -> bool {
        self.state("ccl.timer", "LoadState") == "loaded"
    }

    /// Whether `ccl.service` loads the key as a credential. The property itself cannot be printed (systemd 252).
    pub fn load_the_key(&self) -> bool {
        let mut cat = Call::new("systemctl", LIMIT);
        cat.command.args(["--user", "cat", "ccl.service"]);
        ask(cat).is_ok_and(|text| {
            text.lines().any(|line| {
                line.starts_with("LoadCredential") && line.contains("secutools_api_key")
            })
        })
    }

    /// The timer, the tmux server's unit, and the last pass.
    pub fn checks(&self, now: Timestamp) -> Vec<Check> {
        if !self.are_installed() {
            return vec![Check::skipped(
                "units",
                "ccl.timer is not installed: only cron, hooks or people call ccl",
            )];
        }
        vec![self.timer(), self.server(), self.last_pass(now)]
    }

    fn timer(&self) -> Check {
        let (enabled, active) =
            (self.state("ccl.timer", "UnitFileState"), self.state("ccl.timer", "ActiveState"));
        if enabled == "enabled" && active == "active" {
            return Check::good("units", "ccl.timer is enabled and active");
        }
        Check::bad(
            "units",
            format!("ccl.timer is {enabled} and {active}"),
            "run `systemctl --user enable --now ccl.timer`",
        )
    }

    fn server(&self) -> Check {
        match self.state("ccl-tmux.service", "ActiveState") {
            "failed" | "" => Check::bad(
                "units",
                "ccl-tmux.service has failed, or is not installed",
                "see `systemctl --user status ccl-tmux.service`",
            ),
            // A server of the user's own keeps it from starting.
            state => Check::good("units", format!("ccl-tmux.service is {state}")),
        }
    }

    fn last_pass(&self, now: Timestamp) -> Check {
        let get = |property| self.state("ccl.service", property);
        if get("ActiveState") == "activating" {
            return Check::good("last pass", "one is being made");
        }
        let ended = get("ExecMainExitTimestamp").strip_prefix('@');
        let ended = ended.and_then(|seconds| Timestamp::from_second(seconds.parse().ok()?).ok());
        let Some(ended) = ended else {
            return Check::skipped("last pass", "none since the user's manager started");
        };
        let ago = now.duration_since(ended);
        match (get("Result"), get("ExecMainStatus")) {
            ("success", "0") => {}
            (_, "243") => {
                return Check::bad(
                    "last pass",
                    "systemd could not load a credential",
                    "check the file that LoadCredential= names: `systemctl --user cat ccl.service`",
                );
            }
            (result, status) => {
                return Check::bad(
                    "last pass",
                    format!("{result}, exit status {status}, at {ended}"),
                    JOURNAL,
                );
            }
        }
        if ago > OVERDUE {
            return Check::bad(
                "last pass",
                format!("{ended}: too long ago"),
                "see `systemctl --user status ccl.timer ccl.service`",
            );
        }
        Check::good("last pass", format!("{} s ago, and well", ago.as_secs().max(0)))
    }
}

/// Does the manager run while the user is logged out? `user`: the login name.
pub fn linger(user: Option<&str>) -> Check {
    let Some(user) = user else {
        return Check::skipped("linger", "neither USER nor LOGNAME is set");
    };
    // What logind looks at itself.
    if Path::new("/var/lib/systemd/linger").join(user).exists() {
        return Check::good("linger", format!("{user}'s units run without a login"));
    }
    Check::bad(
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
";

    fn failed(printed: &str, now: i64) -> Vec<String> {
        let checks = Units::parse(printed).checks(Timestamp::from_second(now).unwrap());
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
        ] {
            let found = failed(&WELL.replacen(from, to, 1), 1_700_000_059);
            assert_eq!(found.len(), 1, "{to}: {found:?}");
            assert!(found[0].contains(word), "{found:?}");
        }
    }

    #[test]
    fn without_the_timer_nothing_is_wrong() {
        assert_eq!(failed("Id=ccl.timer\nLoadState=not-found\n", 0), [""; 0]);
    }
}
