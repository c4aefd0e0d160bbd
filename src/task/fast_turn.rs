//! When a task goes, from its header, without YAML.
//!
//! Why this exists: a pass with a free session has to know the priority and the time of every waiting task, and must
//! not take much longer over 100,000 of them than it takes to open and read the files (`cargo bench` holds it to that).
//! The YAML library would take several times as long. Most headers are a few plain `key: value` lines: those are read
//! here, and whatever is not plainly such a line is left to the library. A property test proves that both find the
//! same.

use super::{Moment, TaskTurn};

/// What a header's YAML says of the task's turn; `None` where the header is not plain enough, and has to be parsed.
pub(super) fn read(yaml: &[u8]) -> Option<TaskTurn> {
    let (mut priority, mut not_before, mut depends_on) = (None, None, None);
    let mut list = List::No;
    // Behind the opening `---`.
    for line in yaml.split(|&b| b == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Also a tab at the end is for the library: in a line of its own it can make the header unreadable.
        if !is_plain(line) {
            return None;
        }
        let line = line.trim_ascii_end();
        let text = line.trim_ascii_start();
        if text.is_empty() || text.starts_with(b"#") {
            continue;
        }
        if let Some(item) = text.strip_prefix(b"- ") {
            list = list.item(line.len() - text.len())?;
            if !is_word(item) {
                return None;
            }
            continue;
        }
        let (key, rest) = field(line)?;
        let value = value(rest)?;
        let open = matches!(rest.first(), None | Some(b'#'));
        list = if open { List::MayBegin } else { List::No };
        match key {
            b"priority" if priority.is_none() => {
                // A bad one counts as default, as in the library's way.
                priority = Some(std::str::from_utf8(value).ok()?.parse().unwrap_or_default());
            }
            // What is no time holds the task: the library's way finds the reason.
            b"not_before" if not_before.is_none() => {
                not_before = Some(Moment::parse(std::str::from_utf8(value).ok()?)?);
            }
            b"depends_on" if depends_on.is_none() => depends_on = Some(tasks(value)?),
            // A second `depends_on`, and what pins the task, which only the library's way reads.
            b"depends_on" | b"agent" | b"model" => return None,
            _ => {}
        }
    }
    let mut turn = TaskTurn { priority: priority.unwrap_or_default(), ..TaskTurn::default() };
    turn.order.not_before = not_before;
    turn.order.depends_on = depends_on.unwrap_or_default();
    Some(turn)
}

/// Whether a line may be an item of a list: below a key without a value, all items as far to the right as the first.
#[derive(Clone, Copy)]
enum List {
    No,
    MayBegin,
    At(usize),
}

impl List {
    fn item(self, column: usize) -> Option<Self> {
        match self {
            Self::No => None,
            Self::MayBegin => Some(Self::At(column)),
            Self::At(first) => (first == column).then_some(self),
        }
    }
}

/// Printable ASCII and the letters of Latin-1, without `*`: no tab, no odd line break, no alias.
fn is_plain(line: &[u8]) -> bool {
    let mut previous = 0;
    line.iter().all(|&b| {
        let plain = matches!(b, b' '..=b'~' if b != b'*')
            || b == 0xC3
            || (previous == 0xC3 && matches!(b, 0x80..=0xBF));
        previous = b;
        plain
    })
}

/// Cuts `key: value` into its key and what follows.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&b| !(b.is_ascii_alphanumeric() || b"_-".contains(&b)))?;
    let (key, rest) = line.split_at(colon);
    let starts_well = key.first().is_some_and(u8::is_ascii_alphabetic);
    // YAML itself limits keys to 1024 characters.
    if !starts_well || key.len() > 64 {
        return None;
    }
    let rest = rest.strip_prefix(b":")?;
    if !rest.is_empty() && !rest.starts_with(b" ") {
        return None;
    }
    Some((key, rest.trim_ascii_start()))
}

/// The value without quotes and comments; a list is left as it is.
fn value(text: &[u8]) -> Option<&[u8]> {
    match text.first() {
        None | Some(b'#') => Some(b""),
        Some(&quote @ (b'"' | b'\'')) => {
            let end = 1 + text[1..].iter().position(|&b| b == quote || b == b'\\')?;
            (text[end] == quote && is_comment(&text[end + 1..])).then(|| &text[1..end])
        }
        Some(b'[') => {
            let end = text.iter().position(|&b| b == b']')?;
            (is_list(&text[1..end]) && is_comment(&text[end + 1..])).then_some(text)
        }
        Some(b) if b.is_ascii_alphanumeric() => {
            let end = text.windows(2).position(|two| two == b" #").unwrap_or(text.len());
            let value = text[..end].trim_ascii_end();
            let colon = value.windows(2).any(|two| two == b": ") || value.ends_with(b":");
            (!colon).then_some(value)
        }
        Some(_) => None,
    }
}

/// Nothing, or a comment that is set apart.
fn is_comment(rest: &[u8]) -> bool {
    rest.is_empty() || (rest.starts_with(b" ") && rest.trim_ascii_start().starts_with(b"#"))
}

/// Plain words between commas.
fn is_list(items: &[u8]) -> bool {
    items.split(|&b| b == b',').all(|item| is_word(item.trim_ascii()))
}

/// The names in `[a.md, b.md]`: with that end they are text, and no number or date.
fn tasks(list: &[u8]) -> Option<Vec<String>> {
    let items = list.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let task = |item: &[u8]| {
        let name = std::str::from_utf8(item.trim_ascii()).ok()?;
        name.ends_with(".md").then(|| name.to_owned())
    };
    items.split(|&b| b == b',').map(task).collect()
}

/// One plain word or several, which YAML reads as text wherever they stand.
fn is_word(item: &[u8]) -> bool {
    item.first().is_some_and(u8::is_ascii_alphanumeric)
        && item.iter().all(|&b| b.is_ascii_alphanumeric() || b" _-./".contains(&b))
}
