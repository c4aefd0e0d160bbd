//! Programs that are asked something, and may not answer.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::config::KEY_VARIABLES;

/// How long a program may take, in seconds.
const LIMIT: &str = "10";

/// What `words` writes to standard output, whatever its exit status is. `prepare` sets its environment.
///
/// Its output goes to a file: what it leaves running in the background is not waited for.
///
/// # Errors
/// A sentence: there is no such program, it did not answer in time, or it failed and wrote only to standard error.
pub(super) fn ask(words: &[&str], prepare: impl FnOnce(&mut Command)) -> Result<String> {
    let (mut printed, mut said) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=1", LIMIT])
        .args(words)
        .stdin(Stdio::null())
        .stdout(printed.try_clone()?)
        .stderr(said.try_clone()?);
    for variable in KEY_VARIABLES {
        command.env_remove(variable);
    }
    prepare(&mut command);
    let status = command.status()?;
    let name = words.first().copied().unwrap_or_default();
    match status.code() {
        // timeout's own: 124 it was ended, 127 there is none; killed, it has no status or 137.
        None | Some(124 | 137) => bail!("`{name}` gave no answer within {LIMIT} s"),
        Some(127) => bail!("there is no program `{name}`, or none that it was to start"),
        _ => {}
    }
    let text = read(&mut printed)?;
    if !status.success() && text.trim().is_empty() {
        bail!("`{name}` failed: {}", read(&mut said)?.trim());
    }
    Ok(text)
}

fn read(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(1 << 20).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_what_was_printed_and_a_failure_a_sentence() {
        let ask = |script: &str| ask(&["sh", "-c", script], |_| {}).map_err(|e| e.to_string());
        assert_eq!(ask("echo a; exit 3"), Ok("a\n".to_owned()));
        assert_eq!(ask("echo why >&2; exit 3"), Err("`sh` failed: why".to_owned()));
        // Waited for, this would take a minute.
        assert_eq!(ask("echo a; sleep 60 &"), Ok("a\n".to_owned()));
        assert!(super::ask(&["/no/such/program"], |_| {}).is_err());
    }
}
