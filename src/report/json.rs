//! JSON that may be printed on a terminal: control characters stand in it as `\u00XX`.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// One value on one line.
pub(super) fn line(value: &impl Serialize) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Printable))?;
    bytes.push(b'\n');
    Ok(String::from_utf8(bytes)?)
}

/// serde_json escapes the control characters that JSON forbids, those of C0; DEL and C1 change a terminal too, and JSON
/// allows them raw.
struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(char::is_control) {
            let (before, control) = rest.split_at(at);
            let control = control.chars().next().unwrap_or_default();
            writer.write_all(before.as_bytes())?;
            write!(writer, "\\u{:04x}", u32::from(control))?;
            rest = &rest[at + control.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_read_back_as_they_were() {
        let text: String = ('\0'..='\u{a0}').chain("é中\u{fffd}".chars()).collect();
        let value = serde_json::json!({&text: [&text, "plain", ""]});
        let line = line(&value).unwrap();
        assert!(!line.trim_end_matches('\n').contains(char::is_control), "{line:?}");
        assert!(line.contains("\\u007f\\u0080") && line.contains("\\u009f\u{a0}é中"), "{line}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
    }
}
