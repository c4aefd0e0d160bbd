//! The table that is printed.

use std::fs;
use std::process::Command;

/// One budget: what was measured, and what it may be at most.
pub(super) struct Row {
    pub(super) work: &'static str,
    pub(super) measured: f64,
    pub(super) unit: &'static str,
    pub(super) limit: f64,
    /// What it is compared with, and how long that took.
    pub(super) probe: Option<(&'static str, f64)>,
    pub(super) budget: String,
}

impl Row {
    /// Something counted, or a time by itself.
    pub(super) fn at_most(
        work: &'static str,
        measured: f64,
        unit: &'static str,
        limit: f64,
    ) -> Self {
        Self { work, measured, unit, limit, probe: None, budget: format!("{limit}{unit}") }
    }

    /// Milliseconds, and those of a probe.
    pub(super) fn beside(
        work: &'static str,
        probe: &'static str,
        times: [f64; 2],
        factor: f64,
    ) -> Self {
        let [measured, bare] = times;
        Self {
            probe: Some((probe, bare)),
            budget: format!("{factor}x"),
            ..Self::at_most(work, measured, " ms", bare * factor)
        }
    }

    /// Milliseconds, and those of a probe, which it may exceed by `more`.
    pub(super) fn above(
        work: &'static str,
        probe: &'static str,
        times: [f64; 2],
        more: f64,
    ) -> Self {
        let [measured, bare] = times;
        Self {
            probe: Some((probe, bare)),
            budget: format!("+ {more} ms"),
            ..Self::at_most(work, measured, " ms", bare + more)
        }
    }

    pub(super) fn holds(&self) -> bool {
        self.measured <= self.limit
    }

    pub(super) fn print(&self) {
        let measured = format!("{}{}", rounded(self.measured), self.unit);
        let (probe, ratio) = self.probe.map_or_else(Default::default, |(name, bare)| {
            let ratio = format!(" ({:.2}x)", self.measured / bare);
            (format!("{} ms: {name}", rounded(bare)), ratio)
        });
        let measured = measured + &ratio;
        let verdict = if self.holds() { "" } else { ", **missed**" };
        let budget = format!("{}{verdict}", self.budget);
        line(self.work, &measured, &probe, &budget);
    }
}

/// Says what was measured and where, and what the columns are.
pub(super) fn print_head() {
    println!("{}\n", machine());
    line("work", "measured", "bare probe", "at most");
    line("---", "---", "---", "---");
}

fn machine() -> String {
    let said = |program: &str, arg: &str| {
        let output = Command::new(program).arg(arg).output();
        let said = output.expect("the program starts").stdout;
        String::from_utf8_lossy(&said).trim().to_owned()
    };
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name"));
    format!(
        "ccl {} on {} x {}, {}, {}",
        env!("CARGO_PKG_VERSION"),
        said("nproc", "--all"),
        cpu.map_or("?", |cpu| cpu.trim_start_matches([' ', '\t', ':'])),
        said("uname", "-sr"),
        said("tmux", "-V"),
    )
}

fn line(work: &str, measured: &str, probe: &str, budget: &str) {
    println!("| {work:<57} | {measured:<17} | {probe:<28} | {budget:<11} |");
}

fn rounded(number: f64) -> String {
    if number < 10.0 && number.fract() != 0.0 {
        format!("{number:.2}")
    } else {
        format!("{number:.0}")
    }
}
