//! Bytes from the terminal → keys.

/// One key, or what arrived in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// Typed text.
    Text(String),
    /// A bracketed paste.
    Paste(String),
    /// Enter.
    Enter,
    /// A newline that does not submit: Ctrl-J.
    Newline,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    End,
    /// Ctrl-U.
    Clear,
    /// Escape.
    Escape,
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Backspace.
    Backspace,
}

const PASTE: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";

/// Takes bytes as they come; a sequence may be cut anywhere but after its Escape.
#[derive(Default)]
pub struct Keys {
    pending: Vec<u8>,
}

impl Keys {
    /// The keys that are complete with `bytes`.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.pending.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while let Some((key, used)) = first(&self.pending) {
            self.pending.drain(..used);
            keys.extend(key);
        }
        keys
    }
}

/// The first key of `bytes` and its length; `None` if it is not complete.
fn first(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let key = match *bytes.first()? {
        b'\r' => Key::Enter,
        b'\n' => Key::Newline,
        0x03 => Key::Interrupt,
        0x04 => Key::End,
        0x15 => Key::Clear,
        0x7f => Key::Backspace,
        0x1b => return escape(bytes),
        byte if byte < 0x20 => return Some((None, 1)),
        _ => return text(bytes),
    };
    Some((Some(key), 1))
}

fn text(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    let end = bytes.iter().position(|&b| b < 0x20 || b == 0x7f);
    let run = &bytes[..end.unwrap_or(bytes.len())];
    // A letter that is cut at the end waits for its rest.
    let valid = run.utf8_chunks().next()?.valid();
    match (valid.len(), end) {
        (0, None) => None,
        (0, Some(end)) => Some((None, end)),
        (used, _) => Some((Some(Key::Text(valid.to_owned())), used)),
    }
}

fn escape(bytes: &[u8]) -> Option<(Option<Key>, usize)> {
    if let Some(rest) = bytes.strip_prefix(PASTE) {
        let end = rest.windows(PASTE_END.len()).position(|w| w == PASTE_END)?;
        let text = String::from_utf8_lossy(&rest[..end]).replace('\r', "\n");
        let used = PASTE.len() + end + PASTE_END.len();
        return Some((Some(Key::Paste(text)), used));
    }
    if bytes.get(1) != Some(&b'[') {
        return Some((Some(Key::Escape), 1));
    }
    let last = bytes[2..].iter().position(|b| (0x40..=0x7e).contains(b))?;
    let key = match bytes[2 + last] {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        _ => None,
    };
    Some((key, 2 + last + 1))
}
