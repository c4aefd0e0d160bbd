//! Reading an engine's answers, apart from what their fields mean: errors, excerpts, and the key kept out of all texts.
//! Pure.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::http::{Reply, TransportError};
use super::{EngineError, ErrorKind, JobId};
use crate::text;

/// How much of a server's error text is shown, in characters.
pub(super) const EXCERPT: usize = 300;
/// Stands where the API key stood.
const REDACTED: &str = "[API key]";

/// Reads the answers to one client's requests.
#[derive(Clone, Copy)]
pub(super) struct Answers<'a> {
    /// The engine's name in sentences.
    engine: &'static str,
    server: &'a str,
    key: Option<&'a str>,
}

/// A JSON object whose values are still JSON text: so an amount keeps its digits, and a malformed
/// field spoils no other.
pub(super) type Object<'a> = BTreeMap<String, &'a RawValue>;

impl<'a> Answers<'a> {
    pub(super) fn new(engine: &'static str, server: &'a str, key: Option<&'a str>) -> Self {
        Self { engine, server, key }
    }

    pub(super) fn received(
        self,
        reply: Result<Reply, TransportError>,
    ) -> Result<Reply, EngineError> {
        reply.map_err(|TransportError { kind, text }| EngineError {
            kind,
            retry_after: None,
            text: self.sentence(&text),
        })
    }

    /// Everything but a 2xx is an error, which quotes what the server says.
    pub(super) fn check_success(self, reply: &Reply) -> Result<(), EngineError> {
        if reply.is_success() {
            return Ok(());
        }
        let mut text = format!("answered {}", reply.status);
        if let Some(location) = &reply.location {
            text.push_str(&format!(", a redirect to {location}, which is not followed"));
        }
        let excerpt = self.excerpt(&reply.body);
        if !excerpt.is_empty() {
            text.push_str(&format!(": {excerpt}"));
        }
        Err(EngineError {
            kind: ErrorKind::of_status(reply.status),
            retry_after: reply.retry_after,
            text: self.sentence(&text),
        })
    }

    /// The error for a 2xx that cannot be understood.
    pub(super) fn garbled(self, reply: &Reply, what: &str) -> EngineError {
        EngineError {
            kind: ErrorKind::Garbled,
            retry_after: reply.retry_after,
            text: self.sentence(&format!("answered {} {what}", reply.status)),
        }
    }

    /// `what` with the server's name in front, safe to be shown.
    fn sentence(self, what: &str) -> String {
        self.line(&format!("{} at {} {what}", self.engine, self.server))
    }

    /// A problem's title and detail, or else what the body says, on one line; may be empty.
    pub(super) fn excerpt(self, body: &str) -> String {
        let problem = serde_json::from_str(body).ok().and_then(|body| self.problem(&body));
        self.line(problem.as_deref().unwrap_or(body))
    }

    /// `text` as one line of at most 300 characters, without control characters and the key.
    fn line(self, text: &str) -> String {
        // Hidden before the cut: a key that was cut in two would not be found.
        text::excerpt(&self.hide(text.to_owned()), EXCERPT)
    }

    fn hide(self, text: String) -> String {
        match self.key {
            Some(key) if text.contains(key) => text.replace(key, REDACTED),
            _ => text,
        }
    }

    /// The field, if it is a job's id.
    pub(super) fn id(self, object: &Object, name: &str) -> Option<JobId> {
        JobId::try_from(self.string(object, name)?).ok()
    }

    /// The field, if it is a string.
    pub(super) fn string(self, object: &Object, name: &str) -> Option<String> {
        serde_json::from_str(object.get(name)?.get()).ok().map(|text| self.hide(text))
    }

    /// The field, a string or other JSON (then as it was written); `None` for null.
    pub(super) fn text(self, object: &Object, name: &str) -> Option<String> {
        let raw = object.get(name)?.get();
        match raw {
            "null" => None,
            _ => self.string(object, name).or_else(|| Some(self.hide(raw.to_owned()))),
        }
    }

    /// The title and detail of an object in the manner of `application/problem+json`.
    pub(super) fn problem(self, object: &Object) -> Option<String> {
        let parts: Vec<String> = ["title", "detail"]
            .iter()
            .filter_map(|name| self.string(object, name))
            .filter(|part| !part.trim().is_empty())
            .collect();
        (!parts.is_empty()).then(|| parts.join(": "))
    }
}

/// The field, if it is an object.
pub(super) fn inner<'a>(object: &Object<'a>, name: &str) -> Option<Object<'a>> {
    serde_json::from_str(object.get(name)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_one_short_harmless_line() {
        let answers = Answers::new("secutools", "https://x", Some("sk-secret"));
        for (body, want) in [
            (
                r#"{"title":"Bad","detail":"no\nsuch \u001b[2Jprovider"}"#,
                r"Bad: no such \u{1b}[2Jprovider",
            ),
            (r#"{"message":"x"}"#, r#"{"message":"x"}"#),
            ("<h1>502\nBad</h1>", "<h1>502 Bad</h1>"),
            ("  \r\n", ""),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("Bearer sk-secret?", "Bearer [API key]?"),
        ] {
            assert_eq!(answers.excerpt(body), want, "{body}");
        }
        for long in ["ä", "\u{1}"] {
            let excerpt = answers.excerpt(&long.repeat(5000));
            assert_eq!(excerpt.chars().count(), EXCERPT + 1, "{excerpt}");
        }
        let cut = format!("{}sk-secret", "x".repeat(EXCERPT - 4));
        assert!(!answers.excerpt(&cut).contains("sk-s"));
    }
}
