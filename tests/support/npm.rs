//! Programs from npm, installed below `target/` once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Installs `PACKAGE@VERSION` at `target/ROOT/VERSION` unless it is there, and returns the directory of its programs.
/// Tests that ask at the same time wait for one installation.
pub fn install(package: &str, version: &str, root: &str) -> PathBuf {
    install_and_run(package, version, root, None)
}

/// The same for a package that is complete once its `script` has run, which npm leaves out since version 11.
pub fn install_and_run(package: &str, version: &str, root: &str, script: Option<&str>) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(root);
    let prefix = root.join(version);
    fs::create_dir_all(&prefix).expect("a directory below target");
    let lock = fs::File::create(root.join(format!("{version}.lock"))).expect("a lock file");
    fs2::FileExt::lock_exclusive(&lock).expect("the lock on the installation");
    // Written last: an installation that was cut off is made again.
    let complete = prefix.join("complete");
    if !complete.exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&prefix);
        run(npm.arg(format!("{package}@{version}")));
        if let Some(script) = script {
            run(Command::new("node").arg(prefix.join("node_modules").join(package).join(script)));
        }
        fs::write(&complete, version).expect("the mark of a complete installation");
    }
    prefix.join("node_modules/.bin")
}

fn run(command: &mut Command) {
    let out = command.output().expect("a program of Node.js can be started");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {}\n{said}", out.status);
}
