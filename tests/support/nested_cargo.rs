//! Cargo, called by a program that Cargo has started: a test, the demo.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// `cargo build ARGUMENTS` in the profile of the running program; the profile's directory, as
/// `target/debug`.
///
/// Errors: what Cargo says.
pub fn build(arguments: &[&str]) -> Result<PathBuf, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let profile = program.ancestors().nth(2).ok_or("target/PROFILE")?;
    // Cargo names itself to what it runs; tests/picture/make names a program that builds nothing.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut cargo = Command::new(cargo);
    cargo.args(["build", "--quiet"]).args(arguments);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.arg("--target-dir").arg(profile.with_file_name(""));
    // What Cargo tells us about our package would make build scripts of packages run anew that look
    // at the same variables for theirs.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    let out = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    match out.status.success() {
        true => Ok(profile.to_owned()),
        false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
    }
}
