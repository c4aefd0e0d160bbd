//! The address of secutools, and its API key.

use super::url::ServerUrl;
use crate::durable;
use crate::environment::Environment;
use crate::error::{Failure, unreadable_config};
use anyhow::Result;
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The environment variables that hold the API key or lead to it. No child of ours is given them.
pub(crate) const KEY_VARIABLES: [&str; 2] = ["SECUTOOLS_API_KEY", "CREDENTIALS_DIRECTORY"];

/// The file of the API key, in messages.
const KEY_FILE: &str = "the API key file";

/// The platform that tasks may be delegated to.
#[derive(Clone)]
pub struct Secutools {
    pub url: ServerUrl,
    pub api_key: ApiKey,
    pub key_source: KeySource,
    /// The proxy that the environment asks for; it may hold a password.
    pub proxy: Option<String>,
}

/// Does not show the proxy, which may hold a password.
impl fmt::Debug for Secutools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secutools")
            .field("url", &self.url)
            .field("api_key", &self.api_key)
            .field("key_source", &self.key_source)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// `$SECUTOOLS_API_KEY`
    Variable,
    /// `secutools.api_key_file`
    File(PathBuf),
    /// The systemd credential `secutools_api_key`.
    Credential,
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable => f.write_str("$SECUTOOLS_API_KEY"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Credential => f.write_str("the systemd credential secutools_api_key"),
        }
    }
}

/// Why nothing is delegated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DelegationOff {
    #[error("delegation is not configured (secutools.url and secutools.api_key_file)")]
    NotConfigured,
    /// There is a URL, but no key. In a call by a hook this is normal: agents do not get the key.
    #[error(
        "there is no API key: set SECUTOOLS_API_KEY or secutools.api_key_file, \
         or load the systemd credential secutools_api_key"
    )]
    NoKey,
    #[error("there is an API key, but no address: set SECUTOOLS_URL or secutools.url")]
    NoUrl,
}

/// The secutools API key. It has no `Display`, and its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The key itself, for the one header that carries it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Reads a key; white space around it is dropped. The error is the end of a sentence, and does not repeat the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        let key = text.trim();
        if key.is_empty() {
            return Err("is empty".to_owned());
        }
        if !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("holds something other than one word of printable ASCII".to_owned());
        }
        Ok(Self(key.to_owned()))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The key: `$SECUTOOLS_API_KEY`, else the one in `api_key_file`, else the systemd credential `secutools_api_key`.
pub(super) fn api_key(
    environment: &Environment,
    api_key_file: Option<PathBuf>,
) -> Result<Option<(ApiKey, KeySource)>> {
    if let Some(value) = environment.var("SECUTOOLS_API_KEY") {
        let key = variable("SECUTOOLS_API_KEY", value, ApiKey::parse)?;
        return Ok(Some((key, KeySource::Variable)));
    }
    if let Some(path) = api_key_file {
        return Ok(Some((private(&path)?, KeySource::File(path))));
    }
    let Some(directory) = environment.absolute_path("CREDENTIALS_DIRECTORY") else {
        return Ok(None);
    };
    // The file's mode is not checked: systemd keeps others from the credential in ways that the mode does not show.
    let credential = read(&directory.join("secutools_api_key"), KEY_FILE)?;
    Ok(credential.map(|(key, _)| (key, KeySource::Credential)))
}

/// The key in a file that nobody else may read. `what` is the file in messages.
pub(super) fn from_file(path: &Path, what: &str) -> Result<ApiKey> {
    let (key, mode) = read(path, what)?.ok_or_else(|| unusable(path, what, "it does not exist"))?;
    if mode & 0o077 != 0 {
        let others = format!(
            "other users may read it (mode {:04o}); run `chmod 600 {}`",
            mode & 0o7777,
            path.display()
        );
        return Err(unusable(path, what, &others).into());
    }
    Ok(key)
}

impl Secutools {
    /// Delegation is on where there are an address and a key.
    pub(super) fn new(
        url: Option<ServerUrl>,
        api_key: Option<(ApiKey, KeySource)>,
        environment: &Environment,
    ) -> Result<Self, DelegationOff> {
        match (url, api_key) {
            (Some(url), Some((api_key, key_source))) => Ok(Self {
                proxy: url.proxy(|name| environment.var(name)?.to_str().map(str::to_owned)),
                url,
                api_key,
                key_source,
            }),
            (Some(_), None) => Err(DelegationOff::NoKey),
            (None, Some(_)) => Err(DelegationOff::NoUrl),
            (None, None) => Err(DelegationOff::NotConfigured),
        }
    }
}

/// A value of the environment. The error does not repeat it: it may be the key.
pub(super) fn variable<T>(
    name: &str,
    value: &OsStr,
    parse: fn(&str) -> Result<T, String>,
) -> Result<T, Failure> {
    value
        .to_str()
        .ok_or_else(|| "is not UTF-8".to_owned())
        .and_then(parse)
        .map_err(|error| Failure::Config(format!("{name}: {error}")))
}

/// The key in a file that nobody else may read.
pub(crate) fn private(path: &Path) -> Result<ApiKey> {
    from_file(path, KEY_FILE)
}

/// The key in the file, and the file's mode; `None` where there is no file. Opening a FIFO does not wait for a writer.
fn read(path: &Path, what: &str) -> Result<Option<(ApiKey, u32)>> {
    const LIMIT: u64 = 16 * 1024;
    let failed = |error| unreadable_config(format!("{what} {}", path.display()), error);
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path);
    let Some(file) = durable::if_there(opened).map_err(failed)? else { return Ok(None) };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(unusable(path, what, "it is not a regular file").into());
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).map_err(failed)?;
    let key = ApiKey::parse(&text).map_err(|error| unusable(path, what, &error))?;
    Ok(Some((key, metadata.mode())))
}

fn unusable(path: &Path, what: &str, reason: &str) -> Failure {
    Failure::Config(format!("{what} {}: {reason}", path.display()))
}
