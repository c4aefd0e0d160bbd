//! What the fields of a header say, and what is wrong with them.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use super::parts::Opening;
use super::recurrence::RECURRING_FIELDS;
use super::yaml::{self, KeyOrValue, KeyValue, Position, Value};
use super::{
    Check, Complexity, HeaderRules, MAX_HEADER_BYTES, Moment, Order, Preference, Priority,
    TaskTurn, TimeLimit, UnknownWord,
};
use crate::text::nearest;

/// The fields that `ccl` knows.
const FIELDS: [&str; 17] = [
    "title",
    "priority",
    "tags",
    "needs_claude_code",
    "preferred_ai",
    "allow_delegation",
    "complexity_hint",
    "isolation",
    "land",
    "check",
    "protect",
    "max_duration",
    "stall",
    "not_before",
    "depends_on",
    "agent",
    "model",
];

/// More warnings than these are only counted: the place of each costs another reading of the header.
const MAX_WARNINGS: usize = 20;

const STAYS: &str = "the task stays on this machine";

const PROJECTS: &str = "what its project says holds";

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Trimmed, never empty.
    pub title: Option<String>,
    /// `Default` where it is absent or bad.
    pub priority: Priority,
    /// Trimmed.
    pub tags: Vec<String>,
    pub routing: Routing,
    pub rules: HeaderRules,
    pub order: Order,
    pub pin: Pin,
}

/// Who is to work on a task, where its header says so; trimmed, never empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pin {
    pub agent: Option<String>,
    pub model: Option<String>,
}

impl From<Header> for TaskTurn {
    fn from(header: Header) -> Self {
        Self { priority: header.priority, order: header.order, pin: header.pin }
    }
}

/// The fields that decide who works on a task. The default is that of a file without a header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routing {
    pub state: HeaderState,
    pub needs_claude_code: Field<bool>,
    pub preferred_ai: Field<Preference>,
    pub allow_delegation: Field<bool>,
    pub complexity_hint: Field<Complexity>,
}

/// Whether a header as a whole can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HeaderState {
    /// It can, or there is no header.
    #[default]
    Sound,
    /// The first of two equal keys counts.
    DuplicateKey,
    /// None of its fields is known.
    Unreadable,
}

/// One routing field. Only `Given` is acted on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Field<T> {
    #[default]
    Absent,
    Given(T),
    /// Text, but none of the known words.
    Unknown(String),
    /// Something of another type; a key without a value is one.
    WrongType,
}

impl<T> Field<T> {
    pub fn is_bad(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::WrongType)
    }
}

/// Something in a header that was not understood. The task runs all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// In the file, from 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong, what to do, what happens until then: one line.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// A warning whose place is not known yet. To find that costs another reading of the header, and most callers want no
/// warnings.
pub(super) struct Problem {
    at: At,
    message: String,
}

enum At {
    Position(Position),
    Entry(usize, KeyOrValue),
}

pub(super) fn read(text: &str, opening: Opening) -> (Header, Vec<Problem>) {
    match opening {
        Opening::Absent | Opening::NeedMoreInput => (Header::default(), Vec::new()),
        Opening::Unclosed => unreadable(
            (1, 1),
            &format!(
                "no line `---` closes the header within {} KiB: add one, until then the whole file counts as text",
                MAX_HEADER_BYTES / 1024
            ),
        ),
        Opening::Closed { start, close, .. } => {
            let yaml = &text[start..close];
            match refuse_odd_text(yaml).and_then(|()| yaml::entries(yaml)) {
                Ok(entries) => understand(entries),
                Err((place, why)) => {
                    unreadable(place, &format!("the header is not YAML that ccl can read: {why}"))
                }
            }
        }
    }
}

fn unreadable(place: Position, why: &str) -> (Header, Vec<Problem>) {
    let routing = Routing { state: HeaderState::Unreadable, ..Routing::default() };
    let message = format!("{why}; {STAYS}");
    (Header { routing, ..Header::default() }, vec![Problem { at: At::Position(place), message }])
}

/// Refuses what the YAML library reports without a place (control characters) or resolves wrongly (of two anchors of
/// one name it may take the wrong one, and a header does not need them).
fn refuse_odd_text(yaml: &str) -> Result<(), (Position, String)> {
    let odd = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    if let Some(at) = yaml.find(odd) {
        return Err((position_of(yaml, at), "there is a control character; remove it".to_owned()));
    }
    let anchors: HashSet<&str> = names_after(yaml, '&').map(|(_, name)| name).collect();
    match names_after(yaml, '*').find(|(_, name)| anchors.contains(name)) {
        Some((at, name)) => Err((
            position_of(yaml, at),
            format!("aliases are not read here; write out what `*{name}` stands for"),
        )),
        None => Ok(()),
    }
}

/// The names that directly follow a sign, as YAML reads the names of anchors, each with the sign's offset.
fn names_after(yaml: &str, sign: char) -> impl Iterator<Item = (usize, &str)> {
    yaml.match_indices(sign).filter_map(move |(at, sign)| {
        let rest = &yaml[at + sign.len()..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
        let name = &rest[..end.unwrap_or(rest.len())];
        (!name.is_empty()).then_some((at, name))
    })
}

fn position_of(text: &str, offset: usize) -> Position {
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Takes the known fields, and collects what is wrong.
fn understand(entries: Vec<KeyValue>) -> (Header, Vec<Problem>) {
    let mut header = Header::default();
    let mut problems = Vec::new();
    let mut seen = HashSet::new();
    for (index, KeyValue { key, value }) in entries.into_iter().enumerate() {
        let (what, complaint) = if seen.contains(&key) {
            header.routing.state = HeaderState::DuplicateKey;
            let twice = format!(
                "{} is given twice and the first counts: remove one; {STAYS}",
                quoted(&key)
            );
            (KeyOrValue::Key, Some(twice))
        } else if FIELDS.contains(&key.as_str()) {
            // The library places a missing value at the start of the next line.
            let what =
                if matches!(value, Value::Null) { KeyOrValue::Key } else { KeyOrValue::Value };
            (what, take(&mut header, &key, value))
        } else {
            (KeyOrValue::Key, Some(unknown_key(&key)))
        };
        seen.insert(key);
        problems.extend(complaint.map(|message| Problem { at: At::Entry(index, what), message }));
    }
    (header, problems)
}

/// Puts one known field where it belongs, and returns what is wrong with its value.
fn take(header: &mut Header, key: &str, value: Value) -> Option<String> {
    let rules = &mut header.rules;
    let routing = &mut header.routing;
    match key {
        "title" => return take_title(&mut header.title, value),
        "tags" => return take_tags(&mut header.tags, value),
        "priority" => return take_priority(&mut header.priority, &value),
        "isolation" => return take_rule(&mut rules.isolation, key, &value),
        "land" => return take_rule(&mut rules.land, key, &value),
        "check" => return take_check(&mut rules.check, value),
        "protect" => return take_protect(&mut rules.protect, value),
        "max_duration" => return take_time_limit(&mut rules.max_duration, key, &value),
        "stall" => return take_time_limit(&mut rules.stall, key, &value),
        "not_before" => return take_not_before(&mut header.order, value),
        "depends_on" => return take_depends_on(&mut header.order, value),
        "agent" => return take_name(&mut header.pin.agent, key, value),
        "model" => return take_name(&mut header.pin.model, key, value),
        "needs_claude_code" => take_flag(&mut routing.needs_claude_code, &value),
        "allow_delegation" => take_flag(&mut routing.allow_delegation, &value),
        "preferred_ai" => take_word(&mut routing.preferred_ai, &value),
        "complexity_hint" => take_word(&mut routing.complexity_hint, &value),
        _ => None,
    }
    .map(|complaint| format!("`{key}` {complaint}; {STAYS}"))
}

fn take_title(title: &mut Option<String>, value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Text(text) => {
            *title = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
            None
        }
        other => Some(format!("`title` must be text, not {}; put it in quotes", other.kind())),
    }
}

/// Takes the name of an agent or of a model. It reaches a command line, so it is one word, and no option.
fn take_name(name: &mut Option<String>, key: &str, value: Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::Text(text) => text.trim().to_owned(),
        other => return Some(format!("`{key}` must be a name, not {}; {PROJECTS}", other.kind())),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/[]".contains(c);
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(is_plain) {
        return Some(format!("`{key}` must be one word, not {}; {PROJECTS}", quoted(&text)));
    }
    *name = Some(text);
    None
}

fn take_tags(tags: &mut Vec<String>, value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::List(items) => {
            let mut complaint = None;
            for item in items {
                match item {
                    Value::Text(tag) => tags.push(tag.trim().to_owned()),
                    other => complaint = Some(format!("a tag must be text, not {}", other.kind())),
                }
            }
            complaint.map(|complaint| format!("`tags`: {complaint}; it is left out"))
        }
        other => Some(format!(
            "`tags` must be a list like [web, auth], not {}; it is left out",
            other.kind()
        )),
    }
}

fn take_priority(priority: &mut Priority, value: &Value) -> Option<String> {
    if matches!(value, Value::Null) {
        return None;
    }
    let mut field = Field::Absent;
    let complaint = take_word(&mut field, value);
    if let Field::Given(given) = field {
        *priority = given;
    }
    complaint.map(|complaint| format!("`priority` {complaint}; it counts as default"))
}

fn take_rule<T>(rule: &mut Option<T>, key: &str, value: &Value) -> Option<String>
where
    T: FromStr<Err = UnknownWord>,
{
    if matches!(value, Value::Null) {
        return None;
    }
    let mut field = Field::Absent;
    let complaint = take_word(&mut field, value);
    if let Field::Given(given) = field {
        *rule = Some(given);
    }
    complaint.map(|complaint| format!("`{key}` {complaint}; {PROJECTS}"))
}

fn take_check(check: &mut Option<Check>, value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Text(text) if !text.trim().is_empty() => {
            *check = Some(Check::parse(&text));
            None
        }
        other => Some(format!(
            "`check` must be a command or `none`, not {}; put it in quotes; {PROJECTS}",
            other.kind()
        )),
    }
}

fn take_protect(protect: &mut Option<Vec<String>>, value: Value) -> Option<String> {
    let kind = value.kind();
    let globs = match value {
        Value::Null => return None,
        Value::List(items) => items.into_iter().map(|item| match item {
            Value::Text(glob) => Ok(glob.trim().to_owned()),
            other => Err(other.kind()),
        }),
        _ => {
            return Some(format!(
                "`protect` must be a list like [tests/**], not {kind}; {PROJECTS}"
            ));
        }
    };
    // All of them or none: a list without one would leave open what its author meant to protect.
    match globs.collect() {
        Ok(globs) => {
            *protect = Some(globs);
            None
        }
        Err(kind) => Some(format!("`protect`: a glob must be text, not {kind}; {PROJECTS}")),
    }
}

fn take_time_limit(rule: &mut Option<TimeLimit>, key: &str, value: &Value) -> Option<String> {
    let read = match value {
        Value::Null => return None,
        Value::Text(text) => TimeLimit::parse(text),
        other => Err(format!("must be a duration such as 30m or 2h, not {}", other.kind())),
    };
    match read {
        Ok(limit) => {
            *rule = Some(limit);
            None
        }
        Err(why) => Some(format!("`{key}`: {why}; {PROJECTS}")),
    }
}

fn take_not_before(order: &mut Order, value: Value) -> Option<String> {
    let complaint = match value {
        Value::Null => return None,
        Value::Text(text) => match Moment::parse(&text) {
            Some(moment) => {
                order.not_before = Some(moment);
                return None;
            }
            None => format!("is {}, not a time such as 2026-11-27 02:00", quoted(&text)),
        },
        other => format!("must be a time such as 2026-11-27 02:00, not {}", other.kind()),
    };
    Some(hold(order, format!("`not_before` {complaint}")))
}

fn take_depends_on(order: &mut Order, value: Value) -> Option<String> {
    let kind = value.kind();
    let tasks: Result<Vec<String>, &str> = match value {
        Value::Null => return None,
        Value::Text(task) => Ok(vec![task]),
        Value::List(items) => items
            .into_iter()
            .map(|item| match item {
                Value::Text(task) => Ok(task),
                other => Err(other.kind()),
            })
            .collect(),
        _ => Err(kind),
    };
    match tasks {
        Ok(tasks) => {
            order.depends_on = tasks.iter().map(|task| task.trim().to_owned()).collect();
            None
        }
        Err(kind) => Some(hold(
            order,
            format!(
                "`depends_on` must be a list of tasks like [schema.md, ../api:auth.md], not {kind}"
            ),
        )),
    }
}

/// Notes why the task is held: it might go too early otherwise. The first reason stays.
fn hold(order: &mut Order, why: String) -> String {
    let sentence = format!("{why}; the task is held until that is mended");
    order.wrong.get_or_insert(why);
    sentence
}

fn take_flag(field: &mut Field<bool>, value: &Value) -> Option<String> {
    if let Value::Bool(flag) = value {
        *field = Field::Given(*flag);
        return None;
    }
    *field = Field::WrongType;
    Some(match value {
        Value::Text(text) => format!("must be true or false without quotes, not {}", quoted(text)),
        other => format!("must be true or false, not {}", other.kind()),
    })
}

fn take_word<T>(field: &mut Field<T>, value: &Value) -> Option<String>
where
    T: FromStr<Err = UnknownWord>,
{
    let Value::Text(text) = value else {
        *field = Field::WrongType;
        return Some(format!("must be a word, not {}", value.kind()));
    };
    match text.parse::<T>() {
        Ok(word) => {
            *field = Field::Given(word);
            None
        }
        Err(UnknownWord { word, known }) => {
            let complaint = format!("is {}, not one of {}", quoted(&word), known.join(", "));
            *field = Field::Unknown(word);
            Some(complaint)
        }
    }
}

fn unknown_key(key: &str) -> String {
    if RECURRING_FIELDS.contains(&key) {
        return format!("`{key}` counts in .agent-queue/recurring/ only; here it is ignored");
    }
    match nearest(key, &FIELDS) {
        Some(field) => format!("{} is not a known field; did you mean `{field}`?", quoted(key)),
        None => format!("{} is not a known field; it is ignored", quoted(key)),
    }
}

/// A text from a file for use in a message: in backquotes, on one line, cut where it is long.
fn quoted(text: &str) -> String {
    const LONG: usize = 40;
    let mut short: String = text.chars().take(LONG).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONG).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

/// Finds the places of the problems, in the order of the file.
pub(super) fn warnings(text: &str, opening: Opening, problems: Vec<Problem>) -> Vec<Warning> {
    let yaml = match opening {
        Opening::Closed { start, close, .. } => &text[start..close],
        Opening::Absent | Opening::Unclosed | Opening::NeedMoreInput => "",
    };
    let more = problems.len().saturating_sub(MAX_WARNINGS);
    let with_place = |Problem { at, message }| {
        let (line, column) = match at {
            At::Position(place) => place,
            At::Entry(index, what) => yaml::position(yaml, index, what),
        };
        Warning { line, column, message }
    };
    let mut warnings: Vec<_> = problems.into_iter().take(MAX_WARNINGS).map(with_place).collect();
    if more > 0
        && let Some(last) = warnings.last_mut()
    {
        last.message.push_str(&format!(" (and {more} more warnings below it)"));
    }
    warnings
}
