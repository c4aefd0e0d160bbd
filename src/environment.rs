//! The environment of the process, as a value, so that tests can make their own.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

/// The environment variables and the current directory. Read once, in `main`.
#[derive(Clone, Default)]
pub struct Environment {
    variables: HashMap<OsString, OsString>,
    /// Where relative paths on the command line start; `None` where the directory is gone.
    pub(crate) current_dir: Option<PathBuf>,
}

impl Environment {
    pub fn of_process() -> Self {
        Self { variables: std::env::vars_os().collect(), current_dir: std::env::current_dir().ok() }
    }

    /// An environment for tests: these variables and this current directory, nothing else.
    pub fn of<K: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (K, V)>,
        current_dir: impl Into<PathBuf>,
    ) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { variables: variables.collect(), current_dir: Some(current_dir.into()) }
    }

    /// The variable's value; an empty one counts as not set.
    pub(crate) fn var(&self, name: &str) -> Option<&OsStr> {
        let value = self.variables.get(OsStr::new(name))?;
        (!value.is_empty()).then_some(value)
    }

    /// The variable as an absolute path; a relative one is ignored, as the XDG base directory specification asks.
    pub(crate) fn absolute_path(&self, name: &str) -> Option<PathBuf> {
        self.var(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }
}

/// The variables hold keys and passwords, so only their number is shown.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.len())
            .field("current_dir", &self.current_dir)
            .finish()
    }
}
