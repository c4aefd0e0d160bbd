//! `notify:`: who is notified, on which occasions.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::scalar::{self, scalar};
use super::url::{ServerUrl, UrlError};
use crate::environment::Environment;

/// The occasions on which people can be notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Occasion {
    Done,
    Failed,
    /// An agent waits for a person.
    NeedsAttention,
    /// An agent, a project or a recurring task is held.
    Hold,
    /// A branch waits for a person to land it.
    ToLand,
}

/// The format of what is posted to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NoticeFormat {
    #[default]
    Text,
    Json,
    Slack,
}

/// One entry of `notify:`.
#[derive(Debug, Clone)]
pub(crate) struct Notifier {
    pub(crate) on: Vec<Occasion>,
    pub(crate) target: Receiver,
    /// Whether the task's text is sent, too.
    pub(crate) body: bool,
}

#[derive(Clone)]
pub(crate) enum Receiver {
    /// A program and its arguments; it gets JSON on its standard input.
    Command(Vec<String>),
    Address {
        address: Address,
        format: NoticeFormat,
        /// A file of header lines, `Name: value`.
        header_file: Option<PathBuf>,
        /// The proxy that the environment asks for; it may hold a password.
        proxy: Option<String>,
    },
}

/// Shows neither the address, which may be a secret (a chat's webhook is one), nor the proxy.
impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl Receiver {
    /// Its name in messages: the program, or the address's host.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Command(words) => words.first().cloned().unwrap_or_default(),
            Self::Address { address, .. } => address.server.host().to_owned(),
        }
    }
}

/// Where notifications are posted: https, or http on this machine; with a query, if there is one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    server: ServerUrl,
    text: String,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({}…)", self.server.host())
    }
}

impl Address {
    /// The error is the end of a sentence, and does not repeat the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        // Checked without its query, which [`ServerUrl`] refuses and a receiver may need.
        let base = text.split(['?', '#']).next().unwrap_or_default();
        let server = ServerUrl::read(base).map_err(|error| match error {
            UrlError::NoUrl | UrlError::Query => "is not an address such as https://ntfy.sh/my-topic",
            UrlError::Password => {
                "has a name or a password in it; take it out, and write an `Authorization:` line into header_file"
            }
            UrlError::Unencrypted => "is not encrypted; use https (http is for loopback addresses only)",
        })?;
        Ok(Self { server, text: text.to_owned() })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// One entry as it is written in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "occasions, and a command or a url")]
pub(super) struct NotifierSection {
    on: Vec<Occasion>,
    #[serde(default, deserialize_with = "optional_command")]
    command: Option<Vec<String>>,
    #[serde(default, deserialize_with = "address")]
    url: Option<Address>,
    #[serde(default, deserialize_with = "header_file")]
    header_file: Option<PathBuf>,
    #[serde(default)]
    format: Option<NoticeFormat>,
    #[serde(default, deserialize_with = "body")]
    body: bool,
}

fn optional_command<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    scalar::command(deserializer).map(Some)
}

fn address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Address>, D::Error> {
    scalar(deserializer, |text| Address::parse(text).map(Some))
}

fn header_file<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    scalar(deserializer, |text| scalar::path(text).map(Some))
}

fn body<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    scalar(deserializer, scalar::switch)
}

impl NotifierSection {
    /// Whether the values fit together; the error says what does not.
    pub(super) fn check(&self) -> Result<(), String> {
        let of_url = self.header_file.is_some() || self.format.is_some();
        match (&self.command, &self.url) {
            _ if self.on.is_empty() => Err("on: names no occasion; there are done, failed, needs-attention, hold and to-land".to_owned()),
            (Some(_), Some(_)) => Err("has a command and a url: make two entries of it".to_owned()),
            (None, None) => Err("has neither a command nor a url".to_owned()),
            (Some(_), None) if of_url => {
                Err("header_file and format belong to a url: a command is given JSON on its standard input".to_owned())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn resolve(
        self,
        environment: &Environment,
        resolve: impl Fn(PathBuf) -> PathBuf,
    ) -> Notifier {
        let Self { on, command, url, header_file, format, body } = self;
        let target = match url {
            Some(address) => Receiver::Address {
                proxy: address
                    .server
                    .proxy(|name| environment.var(name)?.to_str().map(str::to_owned)),
                address,
                format: format.unwrap_or_default(),
                header_file: header_file.map(resolve),
            },
            None => Receiver::Command(command.unwrap_or_default()),
        };
        Notifier { on, target, body }
    }
}
