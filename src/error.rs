//! Failures by what the caller of `ccl` can do about them, and the one place that turns them into an exit status.

use std::io;

/// A failure with its exit status; everything else is a plain [`anyhow::Error`] and ends with 1.
///
/// Make one with `Failure::Config(…)` or `Failure::Temporary(…)`, or attach it to a cause with
/// `.context(Failure::Temporary(…))`: both are found by [`exit_code`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration is wrong; nothing will work until a person mends it. Exit status 78 (`EX_CONFIG`).
    #[error("{0}")]
    Config(String),
    /// Impossible right now, but the same call may work later: no tmux server, disk full, server unreachable.
    /// Exit status 75 (`EX_TEMPFAIL`).
    #[error("{0}")]
    Temporary(String),
    /// The command line is wrong. Exit status 2.
    #[error("{0}")]
    Usage(String),
}

/// `EX_TEMPFAIL`: the same call may work later.
pub(crate) const TEMPORARY: u8 = 75;

/// The exit status for an error that ended the program: 78 for the configuration, 75 for what
/// may work later, otherwise 1. The outermost [`Failure`] decides; without one, an I/O error of a passing kind is 75.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    // `downcast_ref` finds what `.context()` attached, which `chain` hides; `chain` finds another error's source.
    let failure = error
        .downcast_ref::<Failure>()
        .or_else(|| error.chain().find_map(|cause| cause.downcast_ref()));
    match failure {
        Some(Failure::Config(_)) => 78,
        Some(Failure::Temporary(_)) => TEMPORARY,
        Some(Failure::Usage(_)) => 2,
        None if error.chain().filter_map(|cause| cause.downcast_ref()).any(is_temporary) => {
            TEMPORARY
        }
        None => 1,
    }
}

/// Whether the same call may succeed later although nobody changes anything: the machine is out of space, memory, locks
/// or file descriptors, a disk is failing or read-only, or a file server does not answer.
fn is_temporary(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const PASSING: [Errno; 12] = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::ROFS,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOLCK,
        Errno::NOMEM,
        Errno::IO,
        Errno::AGAIN,
        Errno::STALE,
        Errno::TIMEDOUT,
        Errno::HOSTDOWN,
    ];
    Errno::from_io_error(error).is_some_and(|errno| PASSING.contains(&errno))
}

/// The error for `what`, a file of the configuration that cannot be read: a person has to mend that, unless it may work
/// later.
pub(crate) fn unreadable_config(what: String, error: io::Error) -> anyhow::Error {
    if is_temporary(&error) {
        return anyhow::Error::new(error).context(what);
    }
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        io::ErrorKind::PermissionDenied => "you may not read it".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    Failure::Config(format!("{what}: {reason}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};
    use rustix::io::Errno;

    #[test]
    fn the_exit_status_follows_the_failure_wherever_it_stands_in_the_chain() {
        let config = || Failure::Config("a.yaml:1:1: no".to_owned());
        let temporary = || Failure::Temporary("no tmux server".to_owned());
        let cases = [
            (anyhow!("something"), 1),
            (anyhow!(config()), 78),
            (anyhow!(config()).context("cannot start"), 78),
            (anyhow!("refused").context(temporary()), 75),
            (anyhow!("refused").context(temporary()).context("scan"), 75),
            (anyhow!(temporary()).context(config()), 78),
            (anyhow!(config()).context(temporary()), 75),
        ];
        for (error, code) in cases {
            assert_eq!(exit_code(&error), code, "{error:?}");
        }
    }

    #[test]
    fn an_io_error_is_temporary_by_its_kind() {
        for (errno, code) in [
            (Errno::NOSPC, 75),
            (Errno::DQUOT, 75),
            (Errno::ROFS, 75),
            (Errno::MFILE, 75),
            (Errno::NFILE, 75),
            (Errno::NOLCK, 75),
            (Errno::NOMEM, 75),
            (Errno::IO, 75),
            (Errno::NOENT, 1),
            (Errno::ACCESS, 1),
            (Errno::EXIST, 1),
        ] {
            let error =
                Err::<(), _>(io::Error::from(errno)).context("cannot write x").context("task y");
            assert_eq!(error.map_err(|error| exit_code(&error)), Err(code), "{errno:?}");
        }
    }
}
