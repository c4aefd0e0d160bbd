//! One small parser for each kind of value in the file. Its error is the end of a sentence,
//! `FILE:LINE:COLUMN: KEY: …`.

use crate::text::is_session_name;
use jiff::fmt::friendly::{SpanParser, SpanPrinter};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Deserializes one scalar through `parse`. The error is raised inside the visitor, where the YAML reader still knows
/// the value's line and column.
pub(super) fn scalar<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    struct Scalar<T, F>(F, PhantomData<T>);

    impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Scalar<T, F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a single value")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            (self.0)(text).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Scalar(parse, PhantomData))
}

pub(super) fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct ProgramAndArguments;

    impl<'de> Visitor<'de> for ProgramAndArguments {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of a program and its arguments, such as [claude, --verbose]")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
            let mut words = Vec::new();
            while let Some(Argument(word)) = seq.next_element()? {
                words.push(word);
            }
            match words.first() {
                None => Err(A::Error::custom("the list is empty; it must start with a program")),
                Some(program) if program.is_empty() => {
                    Err(A::Error::custom("the program's name is empty"))
                }
                Some(_) => Ok(words),
            }
        }
    }

    deserializer.deserialize_seq(ProgramAndArguments)
}

/// One word of a command. It may be empty, but must not hold a character that ends a line of the launch script.
struct Argument(String);

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, |text| printable(text).map(Self))
    }
}

/// A text without control characters; it may be empty.
pub(super) fn printable(text: &str) -> Result<String, String> {
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("has the control character {}", c.escape_default())),
        None => Ok(text.to_owned()),
    }
}

/// A text that is not empty and has no control characters.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    printable(text)
}

/// A path as it is written in the file: `~` and relative paths are resolved later.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.starts_with('~') && text != "~" && !text.starts_with("~/") {
        return Err(format!(
            "`{text}`: only your own home can be written as ~; give the full path"
        ));
    }
    name(text).map(PathBuf::from)
}

pub(super) fn program(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') {
        return Err(format!("`{text}` is not an absolute path, such as /bin/bash"));
    }
    name(text).map(PathBuf::from)
}

/// A machine's name or address as in a browser's address line, without a port: `ccl.example`, `192.0.2.7`, `[::1]`.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let is_address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = is_address.is_some_and(|it| it.parse::<Ipv6Addr>().is_ok());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if is_address || (!text.is_empty() && text.chars().all(is_plain)) {
        return Ok(text.trim_end_matches('.').to_owned());
    }
    Err(format!("`{text}` is not a name such as ccl.example, without http:// and without a port"))
}

/// A commit as git is asked for it: a branch, a tag or a commit's name.
pub(super) fn revision(text: &str) -> Result<String, String> {
    // Git would take it for an option.
    match text.starts_with('-') {
        true => Err(format!("`{text}` is not a branch, a tag or a commit")),
        false => name(text),
    }
}

/// A command for `sh -c`; it may have several lines.
pub(super) fn shell_command(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("is empty".to_owned()),
        text if text.contains('\0') => Err("has a NUL character".to_owned()),
        text => Ok(text.to_owned()),
    }
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("`{text}` is neither true nor false"))
}

pub(super) fn number(text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
        format!("`{text}` is not a whole number from {} to {}", range.start(), range.end())
    })
}

/// A duration such as `30s`, `5m` or `2h`.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = SpanParser::new()
        .parse_unsigned_duration(text)
        .map_err(|_| format!("`{text}` is not a duration; write it as 30s, 5m or 2h"))?;
    if range.contains(&duration) {
        return Ok(duration);
    }
    let in_words = |duration| SpanPrinter::new().unsigned_duration_to_string(duration);
    Err(format!(
        "`{text}` is out of range; it must lie between {} and {}",
        in_words(range.start()),
        in_words(range.end())
    ))
}

/// The start of the names of the pool's sessions, which are file names, too.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty; tmux sessions need a name, such as ccl-auto-".to_owned());
    }
    if text.len() > 64 {
        return Err("is longer than 64 characters".to_owned());
    }
    if !is_session_name(text) {
        return Err(format!(
            "`{text}` cannot start the name of a tmux session here; use letters, digits, - and _, with no - in front"
        ));
    }
    Ok(text.to_owned())
}

/// A model's name as the agent takes it after `--model`, such as `opus` or `claude-sonnet-4-5[1m]`.
pub(super) fn model(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/@[]".contains(c);
    if text.is_empty() {
        return Err("is empty; name a model, such as sonnet".to_owned());
    }
    if text.starts_with('-') || text.len() > 200 || !text.chars().all(plain) {
        return Err(format!("`{text}` is not the name of a model"));
    }
    Ok(text.to_owned())
}

/// The message's template: it must hold `{body}`, may hold `{task}`, and has no other placeholder.
pub(super) fn message(text: &str) -> Result<String, String> {
    let mut has_body = false;
    let mut rest = text;
    while let Some((_, name, after)) = placeholder(rest) {
        match name {
            "task" => {}
            "body" => has_body = true,
            _ => {
                return Err(format!(
                    "unknown placeholder {{{name}}}; there are {{task}} and {{body}}"
                ));
            }
        }
        rest = after;
    }
    if !has_body {
        return Err("has no {body}; the agent would not see the task".to_owned());
    }
    match text.chars().find(|&c| c.is_control() && c != '\n' && c != '\t') {
        Some(c) => Err(format!("has the control character {}", c.escape_default())),
        None => Ok(text.to_owned()),
    }
}

/// The first `{name}` of a template: what stands before it, the name, and what comes after.
pub(super) fn placeholder(template: &str) -> Option<(&str, &str, &str)> {
    template.match_indices('{').find_map(|(start, _)| {
        let (name, after) = template[start + 1..].split_once('}')?;
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        is_name.then_some((&template[..start], name, after))
    })
}
