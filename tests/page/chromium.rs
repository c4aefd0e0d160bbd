//! Debian's Chromium without a window, driven by Puppeteer; axe-core looks for what keeps people out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

const PUPPETEER: &str = "puppeteer-core@24.43.1";
const AXE: &str = "axe-core@4.14.1";

/// Installs both below `target/browser/` unless they are there; tests that ask at the same time wait for one installation.
fn modules() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/browser");
    fs::create_dir_all(&root).expect("target/browser");
    let lock = fs::File::create(root.join("lock")).expect("a lock file");
    fs2::FileExt::lock_exclusive(&lock).expect("the lock on the installation");
    let wanted = format!("{PUPPETEER} {AXE}");
    // Written last: an installation that was cut off is made again.
    let complete = root.join("complete");
    if fs::read_to_string(&complete).ok().as_deref() != Some(&wanted) {
        let out = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&root)
            .args([PUPPETEER, AXE])
            .output()
            .expect("npm can be started");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "npm cannot install {wanted}: {}\n{said}", out.status);
        fs::write(&complete, wanted).expect("the mark of a complete installation");
    }
    root
}

/// Opens the pages, one after the other, and returns what was seen of each. Chromium has ended afterwards.
#[track_caller]
pub(crate) fn look(scratch: &Path, pages: Value) -> Vec<Value> {
    let orders = scratch.join("orders.json");
    let profile = scratch.join("chromium");
    let said =
        json!({"modules": modules(), "chromium": chromium(), "profile": profile, "pages": pages});
    fs::write(&orders, said.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/look.mjs");
    let out = Command::new("node")
        .arg(script)
        .arg(&orders)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", scratch)
        .env("LANG", "C.UTF-8")
        .output()
        .expect("node can be started");
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{}\n{stderr}", out.status);
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}\n{stderr}"))
}

fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|directory| directory.join("chromium"));
    let mut found = found.filter(|program| program.is_file());
    found.next().expect("chromium is in Debian's package of that name")
}
