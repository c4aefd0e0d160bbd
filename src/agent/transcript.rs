//! What Claude Code's transcript says of a turn. Pure.
//!
//! A transcript is a file of JSON lines, one record each (measured on 2.1.330,
//! 2.1.100, 2.0.30 and 1.0.128). What is missing or unknown is skipped: it is
//! never taken for the end of a turn.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

/// How the last turn stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Turn {
    /// No prompt was taken.
    #[default]
    None,
    /// A prompt was taken, and no end is known.
    Open,
    /// The last record is an answer that asks for nothing more.
    Ended,
    /// The last record is an API error.
    Error {
        /// `rate_limit`, `authentication_failed` …, where the version says it.
        kind: Option<String>,
        /// What Claude Code showed.
        text: String,
    },
    /// A person stopped the turn.
    StoppedByPerson,
}

/// What the records of one run add up to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// How the last turn stands.
    pub turn: Turn,
    /// The text of the last answer.
    pub answer: Option<String>,
    /// The model of the last answer.
    pub model: Option<String>,
    /// Tokens read (with those from the cache) and written.
    pub tokens: Option<(u64, u64)>,
    /// `totalCostUSD` of the last `cost-state` record, a float there too. It
    /// counts from the beginning of the conversation, not of this run.
    pub total_cost_usd: Option<f64>,
    /// Commands left running in the background and not reported as ended.
    pub background: usize,
}

#[derive(Deserialize)]
struct Record {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    message: Option<Message>,
    #[serde(default, rename = "isApiErrorMessage")]
    is_api_error: bool,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default, rename = "isMeta")]
    is_meta: bool,
    #[serde(default, rename = "isSidechain")]
    is_sidechain: bool,
    #[serde(default, rename = "totalCostUSD")]
    total_cost_usd: Option<f64>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    content: Value,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize, Clone, Copy)]
struct Usage {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    cache_creation_input_tokens: u64,
    #[serde(default)]
    cache_read_input_tokens: u64,
}

/// What Claude Code writes where a person pressed Escape.
const STOPPED: &str = "[Request interrupted by user";

/// Adds up the records of `lines`; the last line may be half written.
pub fn summarise(lines: &str) -> Summary {
    let mut summary = Summary::default();
    // One answer is written as several records that repeat its usage.
    let mut usages: HashMap<String, Usage> = HashMap::new();
    for record in lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Record>(line).ok())
        .filter(|record| !record.is_sidechain)
    {
        match (record.kind.as_str(), &record.message) {
            ("user", Some(message)) => summary.user(message, record.is_meta),
            ("assistant", Some(message)) => {
                summary.assistant(&record, message);
                if let (Some(id), Some(usage)) = (&message.id, message.usage) {
                    usages.insert(id.clone(), usage);
                }
            }
            ("cost-state", _) => {
                summary.total_cost_usd = record.total_cost_usd.or(summary.total_cost_usd);
            }
            _ => {}
        }
    }
    summary.tokens = add_up(&usages);
    summary
}

impl Summary {
    fn user(&mut self, message: &Message, is_meta: bool) {
        if is_meta {
            return;
        }
        let text = text_of(&message.content);
        self.turn = if text.trim_start().starts_with(STOPPED) {
            Turn::StoppedByPerson
        } else {
            Turn::Open
        };
    }

    fn assistant(&mut self, record: &Record, message: &Message) {
        let text = text_of(&message.content);
        if record.is_api_error {
            self.turn = Turn::Error {
                kind: record
                    .error
                    .as_ref()
                    .and_then(Value::as_str)
                    .map(str::to_owned),
                text,
            };
            return;
        }
        let goes_on = matches!(
            message.stop_reason.as_deref(),
            Some("tool_use" | "pause_turn")
        ) || parts(&message.content).any(|part| part["type"] == "tool_use");
        let speaks = !text.trim().is_empty();
        // A record with nothing but thinking is the beginning of an answer.
        self.turn = if goes_on || !speaks {
            Turn::Open
        } else {
            Turn::Ended
        };
        if speaks {
            self.answer = Some(text);
        }
        if message.model.is_some() {
            self.model.clone_from(&message.model);
        }
    }
}

fn parts(content: &Value) -> impl Iterator<Item = &Value> {
    content.as_array().into_iter().flatten()
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        content => parts(content)
            .filter_map(|part| part["text"].as_str())
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

fn add_up(usages: &HashMap<String, Usage>) -> Option<(u64, u64)> {
    if usages.is_empty() {
        return None;
    }
    Some(usages.values().fold((0, 0), |(read, written), usage| {
        (
            read + usage.input_tokens
                + usage.cache_creation_input_tokens
                + usage.cache_read_input_tokens,
            written + usage.output_tokens,
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Summary {
        let path = format!(
            "{}/tests/support/fixtures/transcripts/{name}.jsonl",
            env!("CARGO_MANIFEST_DIR")
        );
        summarise(&std::fs::read_to_string(path).unwrap())
    }

    #[test]
    fn a_turn_that_ended_has_its_answer_and_cost() {
        for (name, answer) in [("done", "OK"), ("2.0.30-done", "fine"), ("resumed", "OK")] {
            let summary = fixture(name);
            assert_eq!(summary.turn, Turn::Ended, "{name}");
            assert_eq!(summary.answer.as_deref(), Some(answer), "{name}");
            assert!(summary.model.unwrap().starts_with("claude-"), "{name}");
        }
        assert_eq!(fixture("done").tokens, Some((100, 10)));
        assert_eq!(fixture("resumed").tokens, Some((200, 20)));
        assert_eq!(fixture("2.0.30-done").total_cost_usd, None);
        assert!(fixture("resumed").total_cost_usd.unwrap() > 0.0005);
    }

    #[test]
    fn an_api_error_is_no_end() {
        let cases = [
            ("rate-limit", Some("rate_limit")),
            ("authentication", Some("authentication_failed")),
            ("billing", Some("billing_error")),
            ("2.0.30-rate-limit", None),
            ("2.0.30-authentication", None),
        ];
        for (name, expected) in cases {
            match fixture(name).turn {
                Turn::Error { kind, text } => {
                    assert_eq!(kind.as_deref(), expected, "{name}");
                    assert!(!text.is_empty(), "{name}");
                }
                turn => panic!("{name}: {turn:?}"),
            }
        }
    }

    #[test]
    fn what_has_no_end_is_open() {
        assert_eq!(fixture("busy-tool").turn, Turn::Open);
        assert_eq!(fixture("interrupted").turn, Turn::StoppedByPerson);
        assert_eq!(fixture("terminated-in-mid-turn").turn, Turn::Open);
        assert_eq!(summarise("").turn, Turn::None);
        assert_eq!(summarise("{\"type\":\"user\",\"mess").turn, Turn::None);
        assert_eq!(summarise("null\n[]\n\"x\"\n{\"type\":7}").turn, Turn::None);
    }
}
