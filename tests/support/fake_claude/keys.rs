//! What a person does at the terminal. Nobody types a task: an answer to a dialog is all that the
//! stand-in understands; everything is noted.

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Enter.
    Enter,
    /// Arrow down.
    Down,
}

/// The known keys in `bytes`, in their order; a key arrives in one piece.
pub fn known(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        if *first == b'\r' {
            keys.push(Key::Enter);
        } else if rest.starts_with(b"\x1b[B") || rest.starts_with(b"\x1bOB") {
            keys.push(Key::Down);
        }
        rest = after;
    }
    keys
}
