//! What a pass needs, looked at one thing at a time; each finding says how to mend what is wrong.
//!
//! Nothing here changes anything: the disk is tried out with temporary files, the login shell is asked for a path, the
//! server for a job that does not exist.

pub mod disk;
pub mod server;
pub mod service;
pub mod terminal;

use std::time::Duration;

use anyhow::{Result, bail};

use crate::config::KEY_VARIABLES;
use crate::subprocess::Call;

/// How long a program may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// What a program writes to standard output, whatever its exit status is. One that failed and wrote nothing there is an
/// error.
fn ask(mut call: Call) -> Result<String> {
    for variable in KEY_VARIABLES {
        call.command.env_remove(variable);
    }
    let output = call.run()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() && printed.trim().is_empty() {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(printed)
}
