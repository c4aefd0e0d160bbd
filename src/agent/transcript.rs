//! What Claude Code's transcript says of a turn. Pure.
//!
//! A transcript is a file of JSON lines, one record each (measured on 2.1.332, 2.1.200 and 2.1.100).
//! What is missing or unknown is skipped: it is never taken for the end of a turn.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;
use serde_json::Value;

use crate::text::excerpt;

/// How the last turn stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Turn {
    /// There was no prompt.
    #[default]
    None,
    /// There was a prompt, and no end of its turn is known.
    Open,
    /// The last record is an answer that asks for nothing more.
    Ended,
    /// The last record is an API error.
    Error(ApiError),
    StoppedByPerson,
}

/// What Claude Code wrote of an API error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiError {
    /// `rate_limit`, `authentication_failed` …, where the version says it.
    pub(crate) kind: Option<String>,
    pub(crate) text: String,
    /// When the account's limit is reset, in seconds since 1970, where the
    /// version says it (`quotaLimits`; with a subscription only).
    pub(crate) resets_at: Option<i64>,
    /// Which limit it is: `five_hour`, `seven_day_opus` …; where it says the reset, too.
    pub(crate) limit_type: Option<String>,
}

/// What the records of one run add up to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunSummary {
    /// How the last turn stands.
    pub turn: Turn,
    /// The text of the last answer.
    pub answer: Option<String>,
    pub(crate) model: Option<String>,
    /// Tokens read (with those from the cache) and written.
    pub(crate) tokens: Option<(u64, u64)>,
    /// How many of those that were read came from the cache.
    pub(crate) cached: u64,
    /// The last answer calls a tool that has no result yet.
    pub(crate) is_in_a_tool: bool,
    /// `totalCostUSD` of the last `cost-state` record, a float there too. It
    /// counts from the beginning of the conversation, not of this run.
    pub(crate) total_cost_usd: Option<f64>,
    /// Commands and agents that run in the background: begun, and not reported as ended.
    pub background: BTreeSet<String>,
    /// The calls of tools that have no result yet.
    pub(crate) calls: BTreeSet<String>,
    /// How many calls were refused because nobody was there to be asked.
    pub refused: u32,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Record {
    #[serde(rename = "type")]
    kind: String,
    uuid: Option<String>,
    /// The record that it follows in the conversation.
    parent_uuid: Option<String>,
    message: Option<Message>,
    is_api_error_message: bool,
    error: Option<Value>,
    is_meta: bool,
    is_sidechain: bool,
    #[serde(rename = "totalCostUSD")]
    total_cost_usd: Option<f64>,
    quota_limits: Value,
    tool_use_result: Value,
    permission_decision: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Message {
    id: Option<String>,
    model: Option<String>,
    content: Value,
    stop_reason: Option<String>,
    usage: Option<Usage>,
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(default)]
struct Usage {
    input_tokens: u64,
    output_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
}

/// What Claude Code writes where a person pressed Escape.
const STOPPED: &str = "[Request interrupted by user";

/// The tools that ask a person something. Where nobody can be asked they are not there.
const ASKING_TOOLS: [&str; 3] = ["AskUserQuestion", "EnterPlanMode", "ExitPlanMode"];

/// Adds up the records of `lines`; the last line may be half written.
pub fn summarise(lines: &str) -> RunSummary {
    let mut summary = RunSummary::default();
    // One answer is written as several records that repeat its usage.
    let mut usages: HashMap<String, Usage> = HashMap::new();
    let records =
        lines.lines().filter_map(|line| serde_json::from_str::<Record>(line).ok()).collect();
    for record in in_order(records).iter().filter(|record| !record.is_sidechain) {
        match (record.kind.as_str(), &record.message) {
            ("user", Some(message)) => summary.user(record, message),
            ("assistant", Some(message)) => {
                summary.assistant(record, message);
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
    let cached = usages.values().map(|usage| usage.cache_read_input_tokens);
    summary.cached = cached.fold(0, u64::saturating_add);
    summary
}

/// The last tool that was used in the turn that these lines end in, and what for: `Bash: Run the tests`.
pub(crate) fn last_tool(lines: &str) -> Option<String> {
    let records = lines.lines().rev().filter_map(|line| serde_json::from_str::<Record>(line).ok());
    for record in records.filter(|record| !record.is_sidechain) {
        let Some(message) = &record.message else { continue };
        match record.kind.as_str() {
            "assistant" => {
                let mut tools = parts(&message.content).filter(|part| part["type"] == "tool_use");
                if let Some(tool) = tools.next_back() {
                    return named_tool(tool);
                }
            }
            // A prompt: the turn begins here. A tool's result is a user's message as well, but has no text.
            "user" if !record.is_meta && !text_of(&message.content).is_empty() => return None,
            _ => {}
        }
    }
    None
}

fn named_tool(tool: &Value) -> Option<String> {
    /// What says most of the use of a tool comes first.
    const TELLING: [&str; 8] =
        ["description", "command", "file_path", "path", "pattern", "url", "query", "prompt"];
    /// In characters.
    const MOST: usize = 80;
    let name = tool["name"].as_str()?;
    let telling = TELLING.iter().find_map(|key| tool["input"][key].as_str());
    Some(match telling {
        Some(words) => format!("{}: {}", excerpt(name, MOST), excerpt(words, MOST)),
        None => excerpt(name, MOST),
    })
}

/// The records, each behind the one that it follows. Claude Code writes them from several places: an API error that came
/// at once has stood before its own prompt (2.1.200 on a busy machine), and the turn looked open for ever.
fn in_order(records: Vec<Record>) -> Vec<Record> {
    let mut left: Vec<Option<Record>> = records.into_iter().map(Some).collect();
    let places: HashMap<String, usize> = left
        .iter()
        .enumerate()
        .filter_map(|(place, record)| Some((record.as_ref()?.uuid.clone()?, place)))
        .collect();
    let mut ordered = Vec::with_capacity(left.len());
    for place in 0..left.len() {
        // A record is taken out before its parent is looked for, so a cycle of parents ends.
        let mut chain: Vec<Record> = left[place].take().into_iter().collect();
        while let Some(parent) = chain
            .last()
            .and_then(|record| record.parent_uuid.as_ref())
            .and_then(|parent| left[*places.get(parent)?].take())
        {
            chain.push(parent);
        }
        ordered.extend(chain.into_iter().rev());
    }
    ordered
}

impl RunSummary {
    /// Whether it is the API's turn, and no tool's.
    pub(crate) fn waits_for_api(&self) -> bool {
        self.turn == Turn::Open && self.calls.is_empty()
    }

    fn user(&mut self, record: &Record, message: &Message) {
        // A command or an agent begins to run in the background, or its end is reported:
        // `<task-notification><task-id>ID</task-id>…`.
        let result = &record.tool_use_result;
        let id = match &result["isAsync"] {
            Value::Bool(true) => &result["agentId"],
            _ => &result["backgroundTaskId"],
        };
        if let Some(id) = id.as_str() {
            self.background.insert(id.to_owned());
        }
        for result in parts(&message.content).filter(|part| part["type"] == "tool_result") {
            self.calls.remove(result["tool_use_id"].as_str().unwrap_or_default());
            if is_refusal(record, result) {
                self.refused = self.refused.saturating_add(1);
            }
        }
        let text = text_of(&message.content);
        if parts(&message.content).any(|part| part["type"] == "tool_result") {
            self.is_in_a_tool = false;
        }
        if text.trim_start().starts_with("<task-notification>") {
            self.background.retain(|id| !text.contains(&format!("<task-id>{id}</task-id>")));
        }
        if record.is_meta {
            return;
        }
        self.turn =
            if text.trim_start().starts_with(STOPPED) { Turn::StoppedByPerson } else { Turn::Open };
    }

    fn assistant(&mut self, record: &Record, message: &Message) {
        let text = text_of(&message.content);
        self.is_in_a_tool = parts(&message.content).any(|part| part["type"] == "tool_use");
        if record.is_api_error_message {
            let kind = record.error.as_ref().and_then(Value::as_str);
            self.turn = Turn::Error(ApiError {
                kind: kind.map(str::to_owned),
                text,
                resets_at: record.quota_limits["resetsAt"].as_i64(),
                limit_type: record.quota_limits["rateLimitType"].as_str().map(str::to_owned),
            });
            return;
        }
        let goes_on = match message.stop_reason.as_deref() {
            None | Some("tool_use" | "pause_turn") => true,
            Some(_) => parts(&message.content).any(|part| part["type"] == "tool_use"),
        };
        let calls = parts(&message.content).filter(|part| part["type"] == "tool_use");
        self.calls.extend(calls.filter_map(|call| call["id"].as_str()).map(str::to_owned));
        let speaks = !text.trim().is_empty();
        // A record with nothing but thinking is the beginning of an answer.
        self.turn = if goes_on || !speaks { Turn::Open } else { Turn::Ended };
        if speaks {
            self.answer = Some(text);
        }
        // What Claude Code itself writes in place of an answer has the model `<synthetic>`.
        if message.model.as_deref().is_some_and(|model| model != "<synthetic>") {
            self.model.clone_from(&message.model);
        }
    }
}

/// Whether a call was refused because nobody was there to be asked (measured on 2.1.319 and 2.1.332). What a rule of
/// the user's forbids is none of these: that has another `reasonType`.
fn is_refusal(record: &Record, result: &Value) -> bool {
    let decision = &record.permission_decision;
    let without_a_person =
        decision["decision"] == "reject" && decision["reasonType"] == "asyncAgent";
    let sentence = result["content"].as_str().unwrap_or_default();
    let is_missing = |tool: &&str| {
        sentence.contains(&format!("No such tool available: {tool}. {tool} is disabled"))
    };
    without_a_person || (result["is_error"] == true && ASKING_TOOLS.iter().any(is_missing))
}

fn parts(content: &Value) -> impl DoubleEndedIterator<Item = &Value> {
    content.as_array().into_iter().flatten()
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        content => {
            parts(content).filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
    }
}

fn add_up(usages: &HashMap<String, Usage>) -> Option<(u64, u64)> {
    if usages.is_empty() {
        return None;
    }
    // The file may hold any numbers: their sum must not overflow.
    Some(usages.values().fold((0, 0), |(read, written), usage| {
        (
            u64::saturating_add(read, usage.input_tokens)
                .saturating_add(usage.cache_creation_input_tokens)
                .saturating_add(usage.cache_read_input_tokens),
            u64::saturating_add(written, usage.output_tokens),
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> RunSummary {
        let path = format!(
            "{}/tests/support/fixtures/transcripts/{name}.jsonl",
            env!("CARGO_MANIFEST_DIR")
        );
        summarise(&std::fs::read_to_string(path).unwrap())
    }

    #[test]
    fn the_last_tool_of_a_turn_is_known() {
        let read = |name: &str| {
            let path = format!(
                "{}/tests/support/fixtures/transcripts/{name}.jsonl",
                env!("CARGO_MANIFEST_DIR")
            );
            last_tool(&std::fs::read_to_string(path).unwrap())
        };
        assert!(read("busy-tool").unwrap().starts_with("Bash: "), "{:?}", read("busy-tool"));
        assert_eq!(read("done"), None);
        let line = |kind: &str, content: &str| {
            format!(r#"{{"type":"{kind}","message":{{"content":{content}}}}}"#)
        };
        let tool = |input: &str| {
            line("assistant", &format!(r#"[{{"type":"tool_use","name":"Read","input":{input}}}]"#))
        };
        let result = line("user", r#"[{"type":"tool_result","content":"much"}]"#);
        let read = tool(r#"{"file_path":"src/a\u001b[2J.rs"}"#);
        let told = Some("Read: src/a\\u{1b}[2J.rs".to_owned());
        assert_eq!(last_tool(&read), told);
        let answer = line("assistant", r#"[{"type":"text","text":"I see."}]"#);
        assert_eq!(last_tool(&format!("{read}\n{result}\n{answer}\n{{\"half")), told);
        let prompt = line("user", r#""Go on.""#);
        assert_eq!(last_tool(&format!("{read}\n{prompt}")), None);
        assert_eq!(last_tool(&tool("[1]")).as_deref(), Some("Read"));
        assert_eq!(last_tool("null"), None);
    }

    #[test]
    fn a_turn_that_ended_has_its_answer_and_cost() {
        for name in ["done", "resumed", "2.1.100-resumed"] {
            let summary = fixture(name);
            assert_eq!(summary.turn, Turn::Ended, "{name}");
            assert_eq!(summary.answer.as_deref(), Some("OK"), "{name}");
            assert!(summary.model.unwrap().starts_with("claude-"), "{name}");
        }
        assert_eq!(fixture("done").tokens, Some((100, 10)));
        assert_eq!(fixture("resumed").tokens, Some((200, 20)));
        assert!(fixture("resumed").total_cost_usd.unwrap() > 0.0005);
        assert_eq!(fixture("2.1.100-resumed").total_cost_usd, None);
    }

    #[test]
    fn an_api_error_is_no_end() {
        let cases = [
            ("rate-limit", Some("rate_limit")),
            ("authentication", Some("authentication_failed")),
            ("billing", Some("billing_error")),
            ("2.1.100-rate-limit", Some("unknown")),
            ("2.1.100-usage-limit", Some("rate_limit")),
            ("2.1.100-server-error", Some("unknown")),
            // The error was written before the prompt that it answers.
            ("2.1.200-out-of-order", Some("rate_limit")),
        ];
        for (name, expected) in cases {
            match fixture(name).turn {
                Turn::Error(error) => {
                    assert_eq!(error.kind.as_deref(), expected, "{name}");
                    assert!(!error.text.is_empty(), "{name}");
                    assert_eq!(error.resets_at, None, "{name}");
                }
                turn => panic!("{name}: {turn:?}"),
            }
        }
    }

    #[test]
    fn each_record_counts_behind_the_one_that_it_follows() {
        let line = |kind: &str, id: &str, parent: &str| {
            format!(
                r#"{{"type":"{kind}","uuid":"{id}","parentUuid":"{parent}","message":{{"stop_reason":"end_turn","content":"{id}"}}}}"#
            )
        };
        let turn = |lines: &[String]| summarise(&lines.join("\n")).turn;
        let (prompt, answer) = (line("user", "p", "before"), line("assistant", "a", "p"));
        let next = line("user", "n", "a");
        assert_eq!(turn(&[answer.clone(), prompt.clone()]), Turn::Ended);
        assert_eq!(turn(&[next.clone(), answer.clone(), prompt.clone()]), Turn::Open);
        assert_eq!(turn(&[answer, next, prompt]), Turn::Open);
        let cycle = [line("user", "x", "y"), line("assistant", "y", "x")];
        assert_ne!(turn(&cycle), Turn::None);
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

    #[test]
    fn a_call_without_its_result_is_a_tool_that_runs() {
        assert!(!fixture("busy-tool").waits_for_api());
        assert!(!fixture("done").waits_for_api());
        let prompt = r#"{"type":"user","message":{"content":"Do it."}}"#;
        let call = r#"{"type":"assistant","message":{"stop_reason":"tool_use","content":[{"type":"tool_use","id":"a"},{"type":"tool_use","id":"b"}]}}"#;
        let result = |id: &str| {
            format!(
                r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"{id}"}}]}}}}"#
            )
        };
        let (a, b) = (result("a"), result("b"));
        for (lines, waits) in [
            (vec![prompt], true),
            (vec![prompt, call], false),
            (vec![prompt, call, &b], false),
            (vec![prompt, call, &b, &a], true),
            (vec![], false),
        ] {
            assert_eq!(summarise(&lines.join("\n")).waits_for_api(), waits, "{lines:?}");
        }
    }

    #[test]
    fn what_was_refused_because_nobody_could_be_asked_is_counted() {
        // A call under a rule `permissions.ask`, and a question.
        assert_eq!(fixture("refused").refused, 2);
        assert_eq!(fixture("refused").turn, Turn::Ended);
        // A rule `permissions.deny`, and Claude Code's own check: nobody would have been asked.
        assert_eq!(fixture("denied").refused, 0);
        assert_eq!(fixture("done").refused, 0);
    }

    #[test]
    fn a_subscriptions_limit_says_when_it_is_reset() {
        let Turn::Error(error) = fixture("usage-limit").turn else {
            panic!("no error");
        };
        assert_eq!(error.kind.as_deref(), Some("rate_limit"));
        assert_eq!(error.resets_at, Some(1_795_705_200));
        let Turn::Error(error) = fixture("model-limit").turn else {
            panic!("no error");
        };
        assert_eq!(error.kind.as_deref(), Some("rate_limit"));
        assert_eq!(error.resets_at, Some(1_795_726_800));
    }

    #[test]
    fn another_model_may_have_taken_the_turn() {
        let summary = fixture("model-fallback");
        assert_eq!(summary.turn, Turn::Ended);
        assert_eq!(summary.model.as_deref(), Some("claude-haiku-5-5"));
    }

    #[test]
    fn absurd_numbers_of_tokens_end_no_pass() {
        let line = |id: char| {
            format!(
                r#"{{"type":"assistant","message":{{"id":"{id}","usage":{{"input_tokens":{most},"cache_read_input_tokens":{most},"output_tokens":{most}}}}}}}"#,
                most = u64::MAX
            )
        };
        let tokens = summarise(&format!("{}\n{}\n", line('a'), line('b'))).tokens;
        assert_eq!(tokens, Some((u64::MAX, u64::MAX)));
    }

    #[test]
    fn a_command_in_the_background_runs_until_its_end_is_reported() {
        let begun = |id: &str| {
            format!(
                r#"{{"type":"user","message":{{"role":"user","content":[{{"type":"tool_result","content":"Command running in background with ID: {id}."}}]}},"toolUseResult":{{"backgroundTaskId":"{id}"}}}}"#
            )
        };
        let ended = |id: &str| {
            format!(
                r#"{{"type":"user","message":{{"role":"user","content":"<task-notification>\n<task-id>{id}</task-id>\n<status>failed</status>\n</task-notification>"}}}}"#
            )
        };
        let running = |lines: &[String]| summarise(&lines.join("\n")).background.len();
        let (a, b) = (begun("aaa"), begun("bbb"));
        assert_eq!(running(&[a.clone(), b.clone()]), 2);
        assert_eq!(running(&[a.clone(), b.clone(), ended("aaa")]), 1);
        assert_eq!(running(&[a, b, ended("bbb"), ended("aaa")]), 0);
        assert_eq!(fixture("background-task").background.len(), 1);
        // It does not say there that it will report the end, and does.
        assert_eq!(fixture("2.1.100-background-task").background.len(), 1);
        assert_eq!(fixture("done").background.len(), 0);
    }
}
