//! Aligned columns that fit a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::TerminalStyle;
use crate::text::escape;

/// No column is cut below this.
const NARROWEST: usize = 8;

/// SGR parameters: how something stands out on a terminal that shows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colour(&'static str);

impl Colour {
    pub(super) const GOOD: Self = Self("32");
    pub(super) const WAITING: Self = Self("33");
    pub(super) const BAD: Self = Self("1;31");
    pub(super) const FAINT: Self = Self("2");
    const HEADING: Self = Self("1");

    /// The text in this colour, where colours are shown.
    pub(super) fn paint(self, style: &TerminalStyle, text: &str) -> String {
        match style.colour && !text.is_empty() {
            true => format!("\x1b[{}m{text}\x1b[0m", self.0),
            false => text.to_owned(),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    pub(super) fn coloured(text: String, colour: Option<Colour>) -> Self {
        Self { text, colour }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::coloured(text.into(), None)
    }
}

/// One row: a cell for each column, and a sentence that is printed below them in full.
pub(super) struct Row<const N: usize> {
    pub(super) cells: [Cell; N],
    pub(super) note: String,
}

/// The rows under their columns' names; empty where there are no rows. Columns that hold nothing are left out, and the
/// widest are cut until a line fits the terminal. Control characters are escaped.
pub(super) fn table<const N: usize>(
    style: &TerminalStyle,
    names: [&str; N],
    rows: impl Iterator<Item = Row<N>>,
) -> String {
    let printable = |row: Row<N>| Row {
        cells: row.cells.map(|cell| Cell { text: escape(&cell.text).into_owned(), ..cell }),
        note: escape(&row.note).into_owned(),
    };
    let rows: Vec<Row<N>> = rows.map(printable).collect();
    if rows.is_empty() {
        return String::new();
    }
    // A column that is left out has no width.
    let widths: [Option<usize>; N] = std::array::from_fn(|column| {
        let widest = rows.iter().map(|row| row.cells[column].text.width()).max()?;
        (widest > 0).then(|| widest.max(names[column].width()))
    });
    let widths = fit(widths, style.width);
    let heading = names.map(|name| Cell::coloured(name.to_owned(), Some(Colour::HEADING)));
    let mut text = line(style, &heading, &widths);
    for row in &rows {
        text.push_str(&line(style, &row.cells, &widths));
        text.push_str(&wrap(style, &row.note));
    }
    text
}

fn line<const N: usize>(
    style: &TerminalStyle,
    cells: &[Cell; N],
    widths: &[Option<usize>; N],
) -> String {
    let mut line = String::new();
    // Blanks are written only once something stands behind them.
    let mut blanks = 0;
    for (cell, width) in cells.iter().zip(widths) {
        let Some(width) = *width else { continue };
        let text = cut(&cell.text, width);
        if !text.is_empty() {
            line.push_str(&" ".repeat(blanks));
            blanks = 0;
            let painted = cell.colour.map(|colour| colour.paint(style, &text));
            line.push_str(painted.as_ref().unwrap_or(&text));
        }
        blanks += width - text.width() + 2;
    }
    line + "\n"
}

/// Takes from the widest column, again and again, until all fit into a line with two blanks between them.
fn fit<const N: usize>(mut widths: [Option<usize>; N], width: usize) -> [Option<usize>; N] {
    let gaps = widths.iter().flatten().count().saturating_sub(1);
    while widths.iter().flatten().sum::<usize>() + 2 * gaps > width {
        match widths.iter_mut().flatten().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => break,
        }
    }
    widths
}

/// At most this many columns of the text.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    // The ellipsis takes a column.
    let mut taken = 1;
    for c in text.chars() {
        taken += c.width().unwrap_or(0);
        if taken > width {
            break;
        }
        kept.push(c);
    }
    kept + "…"
}

/// The note in indented lines, broken between words; a word that is longer than a line stays whole.
pub(super) fn wrap(style: &TerminalStyle, note: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in note.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= style.width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("    {word}")),
        }
    }
    lines.into_iter().map(|line| Colour::FAINT.paint(style, &line) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;

    const PLAIN: TerminalStyle = TerminalStyle { width: 80, colour: false, zone: TimeZone::UTC };

    fn row<const N: usize>(cells: [&str; N], note: &str) -> Row<N> {
        Row { cells: cells.map(Cell::from), note: note.to_owned() }
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let rows = [row(["a", "", "1"], ""), row(["bcd", "", "two"], "")];
        assert_eq!(
            table(&PLAIN, ["NAME", "GONE", "N"], rows.into_iter()),
            "NAME  N\na     1\nbcd   two\n"
        );
        assert_eq!(table(&PLAIN, ["NAME"], std::iter::empty()), "");
    }

    #[test]
    fn the_widest_column_is_cut_and_a_note_is_wrapped() {
        for width in [40, 80, 132] {
            let style = TerminalStyle { width, ..PLAIN };
            for long in ["é".repeat(200), "中".repeat(100)] {
                let words = "word ".repeat(40);
                let rows = [row([&long, "short"], &words)];
                let text = table(&style, ["A", "B"], rows.into_iter());
                let widest = text.lines().map(UnicodeWidthStr::width).max().unwrap();
                assert!((width - 4..=width).contains(&widest), "{widest}\n{text}");
                assert_eq!(text.matches("word").count(), 40, "no word of a note is lost");
                let (line, short) = (text.lines().nth(1).unwrap(), "short");
                assert!(line.ends_with(short) && line.contains('…'), "{text}");
            }
        }
    }

    #[test]
    fn wide_characters_do_not_shift_what_stands_behind_them() {
        let rows = [row(["日本", "x"], ""), row(["abcd", "y"], "")];
        let text = table(&PLAIN, ["A", "B"], rows.into_iter());
        assert_eq!(text, "A     B\n日本  x\nabcd  y\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let text = table(&PLAIN, ["A"], [row(["a\x1b[2J"], "b\rc")].into_iter());
        assert_eq!(text, "A\na\\u{1b}[2J\n    b\\rc\n");
    }

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let rows = || {
            let state = Cell::coloured("busy".to_owned(), Some(Colour::BAD));
            let cells = [state, "x".into()];
            let note = "note".to_owned();
            [Row { cells, note }].into_iter()
        };
        let style = TerminalStyle { colour: true, ..PLAIN };
        let coloured = table(&style, ["STATE", "B"], rows());
        assert!(coloured.contains("\x1b[1;31mbusy\x1b[0m   x"), "{coloured}");
        let plain = coloured
            .split('\x1b')
            .map(|part| part.split_once('m').map_or(part, |(_, rest)| rest))
            .collect::<String>();
        assert_eq!(plain, table(&PLAIN, ["STATE", "B"], rows()));
    }
}
