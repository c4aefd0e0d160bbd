//! What an agent printed in a job: Claude Code's JSON, or any text. Pure.

use super::answer::Object;
use crate::money::Cost;

/// What was read from an agent's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spoken {
    pub(super) text: String,
    pub(super) cost: Option<Cost>,
    /// Claude Code's own name for the conversation.
    pub(super) session: Option<String>,
    /// Whether the agent says itself that it has failed, whatever its exit status.
    pub(super) is_error: bool,
}

/// Reads `{"type":"result","subtype","is_error","result","session_id","total_cost_usd"}`, which `claude -p
/// --output-format json` prints; anything else is text.
pub(super) fn read(printed: &str) -> Spoken {
    let plain =
        || Spoken { text: printed.trim().to_owned(), cost: None, session: None, is_error: false };
    let Ok(object) = serde_json::from_str::<Object>(printed) else { return plain() };
    let string =
        |name: &str| -> Option<String> { serde_json::from_str(object.get(name)?.get()).ok() };
    if string("type").as_deref() != Some("result") {
        return plain();
    }
    let subtype = string("subtype").unwrap_or_default();
    let is_error = object.get("is_error").is_some_and(|it| it.get() == "true");
    Spoken {
        text: string("result").unwrap_or_else(|| subtype.clone()),
        cost: object.get("total_cost_usd").and_then(|raw| Cost::of(raw.get(), "USD")),
        session: string("session_id"),
        is_error: is_error || subtype.starts_with("error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claude_codes_json_is_read_and_any_other_text_is_text() {
        let spoken = read(
            r#"{"type":"result","subtype":"success","is_error":false,"result":"Fixed.",
                "session_id":"s-1","total_cost_usd":0.0120,"usage":{"x":1}}"#,
        );
        assert_eq!((spoken.text.as_str(), spoken.session.as_deref()), ("Fixed.", Some("s-1")));
        assert_eq!(spoken.cost.unwrap().to_string(), "0.012 USD");
        assert!(!spoken.is_error);
        for bad in [
            r#"{"type":"result","subtype":"success","is_error":true,"result":"API Error: 500"}"#,
            r#"{"type":"result","subtype":"error_max_turns","is_error":false}"#,
        ] {
            assert!(read(bad).is_error, "{bad}");
        }
        for text in ["", "done\n", "{", "{}", r#"{"is_error":true}"#, "[1]"] {
            let spoken = read(text);
            assert_eq!((spoken.text.as_str(), spoken.is_error), (text.trim(), false), "{text}");
        }
    }
}
